// Inputs and outputs that become half, and what they must not lose without a word.
#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "tests/conversion/conversion_testing.h"
#include "tests/data/temporary_folder.h"

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::unique_ptr<Executor> kReference = make_reference_executor();

struct Measured {
  const char* what;
  DType half;
  std::string model;  ///< y is what half cannot hold, z what it can
  float x;
  const char* said;
};

TEST(Boundary, MeasuredOutputsThatHalfCannotHoldStayF32AndAreNamed) {
  const auto scaled = [](const char* by) {
    return std::string("(float[1,2] x) => (float[1,2] y, float[1,2] z) <float[2,2] w = {") + by + ", 0, 0, " + by +
           "}, float[2,2] v = {1, 0, 0, 1}> { y = MatMul(x, w) z = MatMul(x, v) }";
  };
  const std::vector<Measured> cases = {
      {"large", DType::f16, scaled("300"), 400, "output 'y' stays f32: elements reached 1.2e+05"},
      {"small", DType::f16, scaled("0.001"), 1e-3f, "output 'y' stays f32: elements are too small"},
      {"large for bf16", DType::bf16, scaled("1.75"), 0x1.24p127f, "output 'y' stays f32: elements reached 3.4e+38"},
      {"stacked by a loop", DType::f16, R"((float[1,2] x) => (float[k,1,2] y, float[1,2] z)
         <int64 n = {2}, bool go = {1}, float[2,2] w = {300, 0, 0, 300}> {
           y = Loop(n, go) <body = step (int64 i, bool keep) => (bool more, float[1,2] seen) {
             more = Identity(keep)
             seen = MatMul(x, w)
           }>
           z = Relu(x)
         })",
       400, "output 'y' stays f32: elements reached 1.2e+05"},
  };
  for (const Measured& c : cases) {
    const ModelFile model = ModelFile::parse(header() + c.model);
    const NamedTensors inputs = {{"x", Tensor::of<float>({c.x, c.x}, Shape{1, 2})}};
    ConvertOptions options{.half = c.half};
    options.measured = measure_ranges(model, inputs, *kReference);
    const Converted converted = convert_model(model, options);
    EXPECT_EQ(element_type(converted.graph().output(0)), "f32") << c.what;
    EXPECT_EQ(element_type(converted.graph().output(1)), name_of(c.half)) << c.what;
    EXPECT_THAT(converted.report.warnings, Contains(HasSubstr(c.said))) << c.what;
    ASSERT_EQ(converted.report.boundary.size(), 3u);
    EXPECT_FALSE(converted.report.boundary[1].half);
    EXPECT_NE(converted.report.boundary[1].reason, "");
    for (const OutputError& error : compare_outputs(model, convert(model, options), inputs, *kReference)) {
      EXPECT_EQ(error.non_finite, 0u) << c.what;
      EXPECT_LT(error.relative(), 0.01) << c.what;
    }
    options.keep_io_types = true;
    EXPECT_THAT(convert(model, options).report().warnings, Not(Contains(HasSubstr("put '")))) << c.what;
  }
}

TEST(Boundary, MeasuredInputsThatHalfCannotHoldStayF32) {
  const ModelFile model =
      ModelFile::parse(header() + R"((float[2] x, float[2] u) => (float[2] y) <float[2] c = {1e-5, 1e-5}> {
        a = Mul(x, c)
        y = Add(a, u)
      })");
  const NamedTensors inputs = {{"x", Tensor::of<float>({1e5, 2})}, {"u", Tensor::of<float>({1, 2})}};
  ConvertOptions options;
  options.measured = measure_ranges(model, inputs, *kReference);
  const Converted c = convert_model(model, options);
  EXPECT_EQ(element_type(c.graph().input(0)), "f32");
  EXPECT_EQ(element_type(c.graph().input(1)), "f16");
  EXPECT_THAT(c.report.warnings, Contains(HasSubstr("input 'x' stays f32: elements reached 1e+05")));
}

TEST(Boundary, ConstantOutputsThatHalfCannotHoldStayF32AndAreNamed) {
  for (const char* body :
       {"<float[1] big = {1e6}> { y = Relu(x) }", "{ y = Relu(x) big = Constant <value = float[1] {1e6}> () }",
        "<float[1] c = {1e6}> { y = Relu(x) big = Identity(c) }",
        "<float[1] c = {1e6}, int64[1] s = {1}> { y = Relu(x) d = Reshape(c, s) big = Identity(d) }",
        "<int64[1] s = {1}> { y = Relu(x) big = ConstantOfShape <value = float[1] {1e6}> (s) }",
        "<float[1] big = {1e-9}> { y = Relu(x) }"}) {
    const std::string text = std::string("(float[2] x) => (float[2] y, float[1] big) ") + body;
    const Converted c = convert_text(text);
    EXPECT_EQ(element_type(c.graph().output(0)), "f16") << body;
    EXPECT_EQ(element_type(c.graph().output(1)), "f32") << body;
    EXPECT_THAT(c.report.warnings, Contains(HasSubstr("output 'big' stays f32: elements "))) << body;
    EXPECT_THAT(run_bytes(c.bytes, {{"x", Tensor::of<float>({1, 2})}})[1],
                ElementsAre(std::string(body).find("e-9") == std::string::npos ? 1e6f : 1e-9f))
        << body;
  }
  const Converted ordinary =
      convert_text("(float[2] x) => (float[2] y, float[1] c) <float[1] c = {5}> { y = Relu(x) }");
  EXPECT_EQ(element_type(ordinary.graph().output(1)), "f16");
  EXPECT_THAT(ordinary.report.warnings, IsEmpty());
}

TEST(Boundary, AnInputWithADefaultThatHalfCannotHoldStaysF32) {
  const Converted c = convert_text(
      "(float[2] x, float[1] big = {1e6}, float[1] one = {1}) => (float[2] y) "
      "{ a = Div(x, big) y = Mul(a, one) }");
  EXPECT_EQ(element_type(c.graph().input(1)), "f32");
  EXPECT_EQ(c.type_of("big"), "f32");
  EXPECT_EQ(element_type(c.graph().input(2)), "f16");
  EXPECT_EQ(c.type_of("one"), "f16");
  EXPECT_THAT(c.report.warnings, Contains(HasSubstr("input 'big' stays f32")));
}

TEST(Boundary, WhatIsOnlyExpectedOfAnOutputIsSaid) {
  const Converted c = convert_text(R"((float[1,2] x) => (float[1,2] y)
      <float[2,2] w = {1e-4, 1e-4, 1e-4, 1e-4}> { a = MatMul(x, w) b = MatMul(a, w) y = MatMul(b, w) })");
  EXPECT_EQ(element_type(c.graph().output(0)), "f16");
  EXPECT_THAT(c.report.warnings, Contains(HasSubstr("output 'y' becomes f16, though elements of about")));
}

TEST(Boundary, ForcedNodesThatOverflowAreNamed) {
  const ModelFile model = ModelFile::parse(
      header() + "(float[1,2] x) => (float[1,2] y) <float[2,2] w = {300, 0, 0, 300}> { a = MatMul(x, w) y = Sqrt(a) }");
  ConvertOptions options = kKeepIo;
  options.measured = measure_ranges(model, {{"x", Tensor::of<float>({400, 400}, Shape{1, 2})}}, *kReference);
  EXPECT_THAT(convert_model(model, options).report.warnings, IsEmpty());
  options.force_half = parse_node_patterns("op:MatMul");
  EXPECT_THAT(convert_model(model, options).report.warnings, ElementsAre(HasSubstr("'a' becomes infinite")));
}

TEST(Boundary, OutputsThatAreNotFiniteInTheSourceAreNamed) {
  const ModelFile model =
      ModelFile::parse(header() + "(float[3] x) => (float[3] y, float[3] z) { y = Log(x) z = Relu(x) }");
  const NamedTensors inputs = {{"x", Tensor::of<float>({-1, 0, 1})}};
  ConvertOptions options;
  options.measured = measure_ranges(model, inputs, *kReference);
  const Conversion conversion = convert(model, options);
  EXPECT_THAT(conversion.report().warnings,
              ElementsAre(HasSubstr("output 'y' is infinite or not a number in f32 already: 2 of 3 elements")));
  for (const OutputError& error : compare_outputs(model, conversion, inputs, *kReference))
    EXPECT_EQ(error.non_finite, 0u) << "the source has them, too";
}

TEST(Boundary, ComparingCountsWhatBecomesInfiniteOrNaN) {
  const ModelFile model = ModelFile::parse(
      header() + R"((float[1,2] x) => (float[1,2] y, float[1,2] z, float[1,2] u) <float[2,2] w = {300, 0, 0, 300}> {
        y = MatMul(x, w)
        z = Sub(y, y)
        u = Relu(x)
      })");
  const NamedTensors inputs = {{"x", Tensor::of<float>({400, 1}, Shape{1, 2})}};
  const Conversion conversion = convert(model);
  ConversionReport report = conversion.report();
  report.errors = compare_outputs(model, conversion, inputs, *kReference);
  EXPECT_EQ(report.errors[0].non_finite, 1u);
  EXPECT_EQ(report.errors[1].non_finite, 1u) << "infinity less infinity";
  EXPECT_EQ(report.errors[2].non_finite, 0u);
  EXPECT_THAT(report.overflowing_outputs(), ElementsAre("y", "z"));
  EXPECT_EQ(nlohmann::json::parse(report_json(report))["errors"][0]["non_finite"], 1);
  EXPECT_THAT(report_html(report), HasSubstr("infinite or NaN"));
  ConversionReport strange = report;
  strange.errors[0].max_error = std::numeric_limits<double>::quiet_NaN();
  strange.errors[0].max_value = std::numeric_limits<double>::infinity();
  const auto json = nlohmann::json::parse(report_json(strange));
  EXPECT_EQ(json["errors"][0]["max_error"], "NaN") << "as in the log and other commands' JSON";
  EXPECT_EQ(json["errors"][0]["max_value"], "Infinity");

  // No bound on the error lets it pass.
  EXPECT_THAT(error_of([&] {
                search_precision(model, {}, inputs, *kReference,
                                 {.max_error = std::numeric_limits<double>::infinity()});
              }),
              HasSubstr("every node in f32"));
}

TEST(Boundary, ReportsTellTheTypesOfInputsAndOutputs) {
  const Converted c = convert_text(
      "(float[1] x, int64[1] n) => (float[1] y, float[1] big) <float[1] big = {1e6}> "
      "{ y = Relu(x) }");
  const auto json = nlohmann::json::parse(report_json(c.report))["inputs_and_outputs"];
  ASSERT_EQ(json.size(), 3u);
  EXPECT_EQ(json[0]["name"], "x");
  EXPECT_EQ(json[0]["kind"], "input");
  EXPECT_EQ(json[1]["precision"], "fp16");
  EXPECT_EQ(json[2]["precision"], "fp32");
  EXPECT_NE(json[2]["reason"], "");
  EXPECT_THAT(report_html(c.report), HasSubstr("Inputs and outputs"));
}

}  // namespace
}  // namespace halfstep
