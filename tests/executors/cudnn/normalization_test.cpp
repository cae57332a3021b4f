// Normalizations in the shapes that their kernels tell apart: whole vectors and single elements; channels in planes and
// beside each other, one chunk of a channel and several; rows by 32 to 256 threads, which keep them or read them again.
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

/// Of a shape: whether its kernels move 16 bytes at once, in f32 and in a half type.
struct Extents {
  Shape x;
  bool is_wide, is_wide_in_half;
};
const std::vector<Extents> kChannels = {
    {{300, 24}, true, true},    {{5, 7}, false, false},       {{40, 520}, true, true},        {{5000, 8}, true, true},
    {{5, 3, 4, 8}, true, true}, {{3, 4, 40, 64}, true, true}, {{2, 3, 5, 2, 2}, true, false}, {{33}, false, false},
};
const std::vector<Extents> kRows = {
    {{9, 70}, false, false}, {{4099, 16}, true, true}, {{40, 768}, true, true},   {{2, 3, 1, 1024}, true, true},
    {{3, 4096}, true, true}, {{5, 6152}, true, true},  {{3, 2045}, false, false}, {{1, 1, 1, 12}, true, false},
};
const std::vector<Extents> kGroups = {
    {{2, 4, 8}, true, true},
    {{3, 4, 5, 7}, false, false},
    {{2, 6, 32, 40}, true, true},
    {{1, 4, 6, 2}, true, false},
};

struct Form {
  const char* name;
  const char* inputs;  ///< X, C and M stand for the types of tensors, parameters and statistics
  const char* node;
  std::vector<const char*> outputs;
  const std::vector<Extents>& shapes = kChannels;
  bool has_rows = false;  ///< a parameter for each element of the last axis, not of axis 1
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
    {"rows", "X x, C s, C b", "y, m, i = LayerNormalization(x, s, b)", {"X y", "M m", "M i"}, kRows, true},
    {"rows_without_bias", "X x, C s", "y = LayerNormalization<epsilon = 0.01>(x, s)", {"X y"}, kRows, true},
    {"gradient_of_rows",
     "X dy, X x, C s",
     "dx, ds, db = ai.halfstep.LayerNormalizationGrad(dy, x, s)",
     {"X dx", "C ds", "C db"},
     kRows,
     true},
    {"gradient_of_rows_alone",
     "X dy, X x, C s",
     "dx, ds, db = ai.halfstep.LayerNormalizationGrad(dy, x, s)",
     {"X dx"},
     kRows,
     true},
    {"groups", "X x, C s, C b", "y = GroupNormalization<num_groups = 2>(x, s, b)", {"X y"}, kGroups},
    {"instances", "X x, C s, C b", "y = InstanceNormalization(x, s, b)", {"X y"}, kGroups},
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
  const std::int64_t channels = form.has_rows ? x.dim(-1) : x.rank() > 1 ? x[1] : 1;
  const bool are_batches = &form.shapes == &kChannels;  // whose parameters stay f32
  std::string text =
      fmt::format("<ir_version: 10, opset_import: [\"\": 28, \"ai.halfstep\": 1]> g ({}) => ({}) {{ {} }}", form.inputs,
                  fmt::join(form.outputs, ", "), form.node);
  put_type(text, 'C', fmt::format("{}[{}]", are_batches ? "float" : type, channels));
  std::vector<std::int64_t> of_rows = x.dims();
  of_rows.back() = 1;
  put_type(text, 'M', fmt::format("float[{}]", fmt::join(of_rows, ",")));
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

class Normalization : public testing::TestWithParam<Form> {};
void PrintTo(const Form& form, std::ostream* os) { *os << form.name; }

TEST_P(Normalization, AgreesWithTheReferenceInEveryShape) {
  for (const Extents& extents : GetParam().shapes)
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      if (dtype == DType::bf16 && extents.x.rank() != 4) continue;
      SCOPED_TRACE(extents.x.to_string() + " " + std::string(name_of(dtype)));
      const Graph graph = graph_of(GetParam(), extents.x, dtype);
      const double bound = dtype == DType::f32 ? 4e-6 : dtype == DType::f16 ? 0x1p-9 : 0x1p-6;
      expect_reference(graph, operands_of(graph, -2, 2), bound);
    }
}

/// Values that differ by a thousandth of their mean: sums of squares would leave nothing of the variance.
TEST_P(Normalization, IsExactFarFromZero) {
  Form form = GetParam();
  std::string node = form.node;
  // A gradient jumps at a bound, where rounding decides: none of the values is near these.
  if (const std::size_t at = node.find("min = -0.5, max = 0.5"); at != std::string::npos)
    node.replace(at, std::string("min = -0.5, max = 0.5").size(), "min = -100.0, max = 100.0");
  form.node = node.c_str();
  std::vector<Shape> shapes = {{300, 24}, {5000, 8}, {3, 4, 40, 64}, {5, 3, 5, 5}};
  if (&form.shapes != &kChannels) {
    shapes.clear();
    for (const Extents& extents : form.shapes) shapes.push_back(extents.x);
  }
  for (const Shape& x : shapes) {
    if (std::string(form.name).find("inference") != std::string::npos) continue;
    SCOPED_TRACE(x.to_string());
    const Graph graph = graph_of(form, x, DType::f32);
    // The mean has 24 bits, and is subtracted from values of which all others are their own.
    expect_reference(graph, operands_of(graph, 999.5, 1000.5), 1e-3);
  }
}

/// By NVIDIA's own compiler.
TEST_P(Normalization, MovesWholeVectorsAndSpillsNothing) {
  ASSERT_EQ(runtime_compiler_refusal(), "");
  const auto executor = emulated_executor();
  for (const Extents& extents : GetParam().shapes)
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
        const bool is_join = text.name.starts_with("join_") || text.name.ends_with("_columns");
        const bool is_wide = dtype == DType::f32 ? extents.is_wide : extents.is_wide_in_half;
        EXPECT_EQ(report.vector_accesses > 0, is_wide && !is_join) << text.name;
      }
    }
}

INSTANTIATE_TEST_SUITE_P(, Normalization, testing::ValuesIn(kForms), [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace halfstep::cudnn
