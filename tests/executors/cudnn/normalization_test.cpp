// BatchNormalization in the shapes that its kernels tell apart: whole vectors and single elements, channels in planes
// and beside each other, one chunk of a channel and several.
#include <cmath>
#include <random>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "conformance/run_graph.h"
#include "executors/cudnn/runtime_compiler.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/generated.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/infer.h>

namespace halfstep::cudnn {
namespace {

struct Form {
  const char* name;
  const char* inputs;  ///< X and C stand for the types of tensors and parameters
  const char* node;
  std::vector<const char*> outputs;
};
const Form kForms[] = {
    {"training",
     "X x, C s, C b, C m, C v",
     "y, mm, vv = BatchNormalization<training_mode = 1>(x, s, b, m, v)",
     {"X y", "C mm", "C vv"}},
    {"addition",
     "X x, C s, C b, C m, C v, X r",
     "y, mm, vv = ai.halfstep.FusedBatchNormalization<training_mode = 1, activation = \"Relu\">(x, s, b, m, v, r)",
     {"X y", "C mm", "C vv"}},
    {"inference",
     "X x, C s, C b, C m, C v, X r",
     "y = ai.halfstep.FusedBatchNormalization<activation = \"Clip\", min = -0.5, max = 0.75>(x, s, b, m, v, r)",
     {"X y"}},
    {"gradient",
     "X dy, X x, C s",
     "dx, ds, db = ai.halfstep.BatchNormalizationGrad<training_mode = 1>(dy, x, s)",
     {"X dx", "C ds", "C db"}},
    {"gradient_of_clip",
     "X dy, X x, C s, C b",
     "dx, ds, db = ai.halfstep.BatchNormalizationGrad<training_mode = 1, activation = \"Clip\", min = -0.5, max = 0.5>"
     "(dy, x, s, , , b)",
     {"X dx", "C ds", "C db"}},
    {"gradient_of_inference",
     "X dy, X x, C s, C m, C v",
     "dx, ds, db = ai.halfstep.BatchNormalizationGrad(dy, x, s, m, v)",
     {"X dx", "C ds", "C db"}},
};

/// Of a shape: whether its kernels move 16 bytes at once, in f32 and in a half type.
struct Extents {
  Shape x;
  bool is_wide, is_wide_in_half;
};
const Extents kExtents[] = {
    {{300, 24}, true, true},    {{5, 7}, false, false},       {{40, 520}, true, true},        {{5000, 8}, true, true},
    {{5, 3, 4, 8}, true, true}, {{3, 4, 40, 64}, true, true}, {{2, 3, 5, 2, 2}, true, false}, {{33}, false, false},
};

/// With `to` for every type of that name.
void put_type(std::string& text, char name, const std::string& to) {
  for (const char before : {'(', ' '}) {
    const std::string from = {before, name, ' '};
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos;) text.replace(at + 1, 1, to);
  }
}

Graph graph_of(const Form& form, const Shape& x, DType dtype) {
  const std::string type = dtype == DType::f32 ? "float" : dtype == DType::f16 ? "float16" : "bfloat16";
  const std::int64_t channels = x.rank() > 1 ? x[1] : 1;
  std::string text =
      fmt::format("<ir_version: 10, opset_import: [\"\": 28, \"ai.halfstep\": 1]> g ({}) => ({}) {{ {} }}", form.inputs,
                  fmt::join(form.outputs, ", "), form.node);
  put_type(text, 'C', fmt::format("float[{}]", channels));
  put_type(text, 'X', fmt::format("{}[{}]", type, fmt::join(x.dims(), ",")));
  Graph graph = parse_model(text).graph;
  infer_graph(graph);
  return graph;
}

Tensor drawn(DType dtype, const Shape& shape, unsigned seed, double low, double high) {
  std::mt19937 random(seed);
  Tensor t(DType::f32, shape);
  for (float& v : t.span<float>())
    v = std::uniform_real_distribution<float>(static_cast<float>(low), static_cast<float>(high))(random);
  return convert(t, dtype);
}

std::vector<Tensor> operands_of(const Graph& graph, double low, double high) {
  std::vector<Tensor> values;
  for (const ValueId id : graph.inputs) {
    const Value& in = graph[id];
    const bool is_variance = in.name == "v", is_x = in.name == "x";
    values.push_back(drawn(in.dtype, in.shape, static_cast<unsigned>(values.size() + 1),
                           is_variance ? 0.25
                           : is_x      ? low
                                       : -2,
                           is_x ? high : 2));
  }
  return values;
}

void expect_reference(const Graph& graph, const std::vector<Tensor>& values, double bound) {
  const auto executor = emulated_executor(Values::separate), reference = make_reference_executor();
  CompiledGraph compiled(*executor, graph), wanted(*reference, graph);
  EXPECT_EQ(first_node(compiled.program().plan()).kernel, "generated: normalization");
  const std::vector<Tensor> got = compiled.run(values), want = wanted.run(values);
  for (std::size_t i = 0; i < got.size(); ++i) {
    const std::vector<double> g = to_doubles(got[i]), w = to_doubles(want[i]);
    double largest = 1;
    for (const double v : w) largest = std::max(largest, std::abs(v));
    for (std::size_t j = 0; j < g.size(); ++j)
      ASSERT_LE(std::abs(g[j] - w[j]), bound * largest) << "output " << i << ", element " << j;
  }
}

class BatchNorm : public testing::TestWithParam<Form> {};
void PrintTo(const Form& form, std::ostream* os) { *os << form.name; }

TEST_P(BatchNorm, AgreesWithTheReferenceInEveryShape) {
  for (const Extents& extents : kExtents)
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      if (dtype == DType::bf16 && extents.x.rank() != 4) continue;
      SCOPED_TRACE(extents.x.to_string() + " " + std::string(name_of(dtype)));
      const Graph graph = graph_of(GetParam(), extents.x, dtype);
      const double bound = dtype == DType::f32 ? 4e-6 : dtype == DType::f16 ? 0x1p-9 : 0x1p-6;
      expect_reference(graph, operands_of(graph, -2, 2), bound);
    }
}

/// Values that differ by a thousandth of their mean: sums of squares would leave nothing of the variance.
TEST_P(BatchNorm, IsExactFarFromZero) {
  Form form = GetParam();
  std::string node = form.node;
  // A gradient jumps at a bound, where rounding decides: none of the values is near these.
  if (const std::size_t at = node.find("min = -0.5, max = 0.5"); at != std::string::npos)
    node.replace(at, std::string("min = -0.5, max = 0.5").size(), "min = -100.0, max = 100.0");
  form.node = node.c_str();
  for (const Shape& x : {Shape{300, 24}, Shape{5000, 8}, Shape{3, 4, 40, 64}, Shape{5, 3, 5, 5}}) {
    if (std::string(form.name).find("inference") != std::string::npos) continue;
    SCOPED_TRACE(x.to_string());
    const Graph graph = graph_of(form, x, DType::f32);
    // The mean has 24 bits, and is subtracted from values of which all others are their own.
    expect_reference(graph, operands_of(graph, 999.5, 1000.5), 1e-3);
  }
}

/// By NVIDIA's own compiler.
TEST_P(BatchNorm, MovesWholeVectorsAndSpillsNothing) {
  ASSERT_EQ(runtime_compiler_refusal(), "");
  const auto executor = emulated_executor();
  for (const Extents& extents : kExtents)
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      if (dtype == DType::bf16 && extents.x.rank() != 4) continue;
      SCOPED_TRACE(extents.x.to_string() + " " + std::string(name_of(dtype)));
      emulation::forget_texts();
      const Graph graph = graph_of(GetParam(), extents.x, dtype);
      const auto store = executor->make_store();
      executor->compile(graph, *store);
      const std::vector<KernelText> texts = emulation::executor_texts();
      EXPECT_FALSE(texts.empty());
      for (const KernelText& text : texts) {
        const KernelReport report = inspect(text, dtype == DType::f32 ? 75 : 90);
        EXPECT_EQ(report.spilled_bytes, 0) << text.name;
        const bool is_join = text.name.starts_with("join_");
        const bool is_wide = dtype == DType::f32 ? extents.is_wide : extents.is_wide_in_half;
        EXPECT_EQ(report.vector_accesses > 0, is_wide && !is_join) << text.name;
      }
    }
}

INSTANTIATE_TEST_SUITE_P(, BatchNorm, testing::ValuesIn(kForms), [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace halfstep::cudnn
