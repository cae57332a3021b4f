#include "ops/onnx_message.h"

#include <gtest/gtest.h>

namespace halfstep {
namespace {

TEST(OnnxMessage, LosesTheKindsOfExceptions) {
  EXPECT_EQ(plain_onnx_message("[ShapeInferenceError] Incompatible dimensions"), "Incompatible dimensions");
  EXPECT_EQ(plain_onnx_message("[ShapeInferenceError] (op_type:Add, node name: a): [TypeInferenceError] x"),
            "(op_type:Add, node name: a): x");
  EXPECT_EQ(plain_onnx_message("no [brackets] of errors"), "no [brackets] of errors");
  EXPECT_EQ(plain_onnx_message("Error] alone"), "Error] alone");
  EXPECT_EQ(plain_onnx_message(""), "");
}

TEST(OnnxMessage, IsOneLine) {
  EXPECT_EQ(plain_onnx_message("Unrecognized attribute: a\n\n==> Context: Bad node spec for node. Name: n"),
            "Unrecognized attribute: a; Bad node spec for node. Name: n");
  EXPECT_EQ(plain_onnx_message("[ValidationError] a\n\n==> Context: b\n\n==> Context: c"), "a; b; c");
  EXPECT_EQ(plain_onnx_message("input 'x' of node: \nname: n OpType: Add\n is not output"),
            "input 'x' of node: name: n OpType: Add is not output");
  EXPECT_EQ(plain_onnx_message("[ParseError at position (line: 1 column: 2)]\nError context: (x)\nExpected =\n"),
            "[ParseError at position (line: 1 column: 2)] Error context: (x) Expected =");
  EXPECT_EQ(plain_onnx_message("\n"), "");
}

}  // namespace
}  // namespace halfstep
