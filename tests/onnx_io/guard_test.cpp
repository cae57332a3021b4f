// Attributes that the ONNX library's inference takes on trust: refused before it runs, where it would not end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "onnx_io/guard_functions.h"
#include "tests/onnx_io/test_util.h"
#include <halfstep/onnx_io/load.h>

namespace halfstep {
namespace {

using test::error_of;
using testing::HasSubstr;

std::string einsum(const std::string& equation, const std::string& inputs, const std::string& operands) {
  return R"(<ir_version: 8, opset_import: ["": 17]> m ()" + inputs + ") => (float y) { y = Einsum<equation = \"" +
         equation + "\">(" + operands + ") }";
}

TEST(InferenceGuard, RefusesEquationsThatInferenceWouldNotGetThrough) {
  for (const char* equation : {"-", "->-", "!", "a!", "i\tj", "1", "ij->i->j", "i......", "...i...", ".", "i..j"})
    EXPECT_THAT(error_of([&] { parse_model(einsum(equation, "float[2,2] x", "x")); }), HasSubstr("attribute equation"))
        << equation;
  EXPECT_THAT(error_of([&] { parse_model(einsum("bij,!bik", "float[2,2,2] x, float[2,2,2] z", "x, z")); }),
              HasSubstr("'bij,!bik'"));
}

TEST(InferenceGuard, LetsEquationsThrough) {
  for (const char* equation :
       {"ij", "ij->", "ij->ji", " i j -> j i ", "ii->i", "...", "...->...", "i...->...i", "Zz->z"})
    EXPECT_EQ(error_of([&] { parse_model(einsum(equation, "float[2,2] x", "x")); }), "") << equation;
  EXPECT_EQ(error_of([&] { parse_model(einsum("bij,bik->bjk", "float[2,2,2] x, float[2,2,2] z", "x, z")); }), "");
}

// The library infers inside of functions of another operator set, which it converts.
TEST(InferenceGuard, LooksIntoFunctionsAndAtWhatCallsGiveThem) {
  const std::string model = R"(<ir_version: 8, opset_import: ["": 17, "l": 1]> m (float[2,2] x) => (float[2,2] y) )";
  const std::string own = model + R"({ y = l.F(x) }
      <domain: "l", opset_import: ["": 12]> F (a) => (b) { b = Einsum<equation = "-">(a) })";
  const std::string given = model + R"({ y = l.F<e = "i!">(x) }
      <domain: "l", opset_import: ["": 12, "l": 1]> F <e> (a) => (b) { b = l.G<inner: string = @e>(a) }
      <domain: "l", opset_import: ["": 12]> G <inner> (a) => (b) { b = Einsum<equation: string = @inner>(a) })";
  const std::string by_default = model + R"({ y = l.F(x) }
      <domain: "l", opset_import: ["": 12]> F <e: string = "!"> (a) => (b) { b = Einsum<equation: string = @e>(a) })";
  const std::string right = model + R"({ y = l.F<e = "ij->ji">(x) }
      <domain: "l", opset_import: ["": 12]> F <e> (a) => (b) { b = Einsum<equation: string = @e>(a) })";
  for (const std::string& text : {own, given, by_default})
    EXPECT_THAT(error_of([&] { check_all_before_inference(test::parse_proto(text)); }), HasSubstr("attribute equation"))
        << text;
  EXPECT_EQ(error_of([&] { check_all_before_inference(test::parse_proto(right)); }), "");
  EXPECT_THAT(error_of([&] { parse_model(own); }), HasSubstr("attribute equation"));
}

TEST(InferenceGuard, RefusesAxesAndCountsThatInferenceWouldCutOff) {
  const std::pair<const char*, const char*> cases[] = {
      {"(float[2,2] x) => (float[2,2] y) { y = Softmax<axis = 4294967297>(x) }", "attribute axis"},
      {"(float[2,2] x) => (float[2,2] y) { y = LayerNormalization<axis = -4294967297>(x, x) }", "attribute axis"},
      {"(float[2,2] x) => (float[2,2] y) { y = Concat<axis = 9223372036854775807>(x, x) }", "attribute axis"},
      {"(float[2,2] x) => (float[1] y) { y = Split<num_outputs = 2147483647>(x) }", "attribute num_outputs"},
      {"(float[2,2] x) => (float[1] y) <int64[2,1] i = {0, 1}> { y = GatherND<batch_dims = -9>(x, i) }",
       "attribute batch_dims"}};
  for (const auto& [text, says] : cases)
    EXPECT_THAT(
        error_of([&, t = text] { parse_model(std::string(R"(<ir_version: 8, opset_import: ["": 18]> m )") + t); }),
        HasSubstr(says))
        << text;
}

}  // namespace
}  // namespace halfstep
