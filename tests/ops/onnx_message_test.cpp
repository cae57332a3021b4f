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

}  // namespace
}  // namespace halfstep
