// Resize against what ONNX Runtime gives, and its extents when they are inferred.
#include <cmath>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "conformance/run_graph.h"
#include "tests/ops/resize_values.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/passes/pipelines.h>

namespace halfstep {
namespace {

std::string model_text(const std::string& type, const std::string& attributes, const std::string& constants,
                       const std::string& operands) {
  return fmt::format(R"(<ir_version: 9, opset_import: ["": 19]> m ({} x) => (y) <{}> {{ y = Resize<{}>({}) }})", type,
                     constants, attributes, operands);
}

Tensor pattern(const Shape& shape) {
  Tensor x(DType::f32, shape);
  for (std::int64_t i = 0; i < x.count(); ++i)
    x.data<float>()[i] = static_cast<float>(i * 7 % 11 - 4) + static_cast<float>(i * 3 % 5) / 4;
  return x;
}

TEST(Resize, GivesWhatOnnxRuntimeGivesOnBothExecutors) {
  for (const auto& executor : {make_reference_executor(), make_onednn_executor()})
    for (const ResizeValues& c : kResizeValues) {
      const std::string type = fmt::format("float[{},{},{},{}]", c.x[0], c.x[1], c.x[2], c.x[3]);
      const LoadedModel model = parse_model(model_text(type, c.attributes, c.constants, c.operands));
      const Graph graph = run_pipeline(model.graph, whole_pipeline(Purpose::inference, {}, executor->capabilities()));
      const Tensor y = run_graph(*executor, graph, {pattern(c.x)}).at(0);
      const std::string what = fmt::format("{} {} on {}", c.attributes, c.constants, executor->name());
      ASSERT_EQ(y.shape(), c.shape) << what;
      for (std::size_t i = 0; i < c.values.size(); ++i)
        EXPECT_NEAR(to_doubles(y)[i], c.values[i], 2e-5 * (1 + std::abs(c.values[i]))) << what << ", element " << i;
    }
}

// 10 * 0.7 is 7 in f32, and less in f64, in which ONNX's own inference multiplies.
TEST(Resize, InfersTheExtentsThatItGives) {
  const std::string scales = "float[4] s = {1.0, 1.0, 0.7, 2.3}";
  const LoadedModel model = parse_model(model_text("float[N,3,10,10]", R"(mode = "nearest")", scales, "x, , s"));
  EXPECT_EQ(model.graph[model.graph.outputs[0]].shape, (Shape{Shape::kUnknown, 3, 7, 23}));
}

// From the same inputs ONNX Runtime 1.32 gives these.
TEST(Resize, CutsIntegersOff) {
  const auto executor = make_reference_executor();
  struct Case {
    const char* attributes;
    std::vector<double> values;
  };
  for (const auto& [attributes, values] : {Case{R"(mode = "linear")", {-10, -4, 4, 16, 0, -20}},
                                           Case{R"(mode = "linear", antialias = 1)", {-10, -5, 4, 17, 0, -20}}}) {
    const LoadedModel model =
        parse_model(model_text("int32[1,1,1,4]", attributes, "int64[4] z = {1, 1, 1, 6}", "x, , , z"));
    const Graph graph = run_pipeline(model.graph, whole_pipeline(Purpose::inference, {}, executor->capabilities()));
    const Tensor y =
        run_graph(*executor, graph, {Tensor::of(std::vector<std::int32_t>{-10, 1, 20, -20}, Shape{1, 1, 1, 4})}).at(0);
    EXPECT_EQ(to_doubles(y), values) << attributes;
  }
}

}  // namespace
}  // namespace halfstep
