// Generated kernels that move elements, at extents that no tile or vector divides, and with many indices of one place.
#include <cmath>
#include <cstdint>
#include <random>
#include <set>
#include <span>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conformance/executor_check.h"
#include "conformance/run_graph.h"
#include "conformance/special_check.h"
#include "executors/cudnn/runtime_compiler.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/emulation/generated.h"
#include "tests/support/error_of.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/infer.h>

namespace halfstep::cudnn {
namespace {

using ::testing::StartsWith;

struct Case {
  const char* what;
  const char* text;              // {} is the element type
  std::int64_t indices = 1;      // those of i64 inputs lie in [-indices, indices)
  bool is_moved_exactly = true;  // of special numbers as well, and of integers
};
const Case kCases[] = {
    {"a matrix", "({}[67,45] x) => ({}[45,67] y) {{ y = Transpose(x) }}"},
    {"a batch of matrices", "({}[3,70,33] x) => ({}[3,33,70] y) {{ y = Transpose<perm = [0, 2, 1]>(x) }}"},
    {"all axes turned", "({}[5,3,2,37] x) => ({}[37,2,3,5] y) {{ y = Transpose(x) }}"},
    {"channels to the back", "({}[2,35,5,7] x) => ({}[2,5,7,35] y) {{ y = Transpose<perm = [0, 2, 3, 1]>(x) }}"},
    {"rows stay whole", "({}[5,6,7] x) => ({}[6,5,7] y) {{ y = Transpose<perm = [1, 0, 2]>(x) }}"},
    {"heads and places", "({}[2,3,4,8] x) => ({}[2,4,3,8] y) {{ y = Transpose<perm = [0, 2, 1, 3]>(x) }}"},
    {"a part that begins at a whole vector",
     "({}[6,40] x) => ({}[6,16] y) <int64[1] b = {{8}}, int64[1] e = {{24}}, int64[1] a = {{1}}> "
     "{{ y = Slice(x, b, e, a) }}"},
    {"a part that begins within a vector",
     "({}[6,40] x) => ({}[6,16] y) <int64[1] b = {{6}}, int64[1] e = {{22}}, int64[1] a = {{1}}> "
     "{{ y = Slice(x, b, e, a) }}"},
    {"every other row",
     "({}[9,8] x) => ({}[5,8] y) <int64[1] b = {{8}}, int64[1] e = {{-100}}, int64[1] a = {{0}}, "
     "int64[1] s = {{-2}}> {{ y = Slice(x, b, e, a, s) }}"},
    {"parts side by side", "({}[5,8] x, {}[5,24] z) => ({}[5,32] y) {{ y = Concat<axis = 1>(x, z) }}"},
    {"rows by index", "({}[9,24] x, int64[5] i) => ({}[5,24] y) {{ y = Gather(x, i) }}", 9},
    {"rows of odd length by index", "({}[9,5] x, int64[7] i) => ({}[7,5] y) {{ y = Gather(x, i) }}", 9},
    {"tiles", "({}[3,5] x) => ({}[6,15] y) <int64[2] r = {{2, 3}}> {{ y = Tile(x, r) }}"},
    {"elements along an axis",
     "({}[7,9,5] x, int64[7,4,5] i) => ({}[7,4,5] y) {{ y = GatherElements<axis = 1>(x, i) }}", 9},
    {"fewer indices than elements", "({}[9,5] x, int64[300,3] i) => ({}[300,3] y) {{ y = GatherElements(x, i) }}", 9},
    {"tuples", "({}[6,6,11] x, int64[7,3,2] i) => ({}[7,3,11] y) {{ y = GatherND(x, i) }}", 6},
    {"tuples of a batch", "({}[3,5,5,7] x, int64[3,9,2] i) => ({}[3,9,7] y) {{ y = GatherND<batch_dims = 1>(x, i) }}",
     5},
    {"the last of several", "({}[9,5] x, int64[40,5] i, {}[40,5] u) => ({}[9,5] y) {{ y = ScatterElements(x, i, u) }}",
     9},
    {"the last of several tuples",
     "({}[9,4,3] x, int64[40,1] i, {}[40,4,3] u) => ({}[9,4,3] y) {{ y = ScatterND(x, i, u) }}", 9},
    {"sums of several",
     "({}[9,5] x, int64[40,5] i, {}[40,5] u) => ({}[9,5] y) {{ y = ScatterElements<reduction = \"add\">(x, i, u) }}", 9,
     false},
    {"sums of several tuples",
     "({}[9,7] x, int64[500,1] i, {}[500,7] u) => ({}[9,7] y) {{ y = ScatterND<reduction = \"add\">(x, i, u) }}", 9,
     false},
    {"the largest of several",
     "({}[9,5] x, int64[40,5] i, {}[40,5] u) => ({}[9,5] y) {{ y = ScatterElements<reduction = \"max\">(x, i, u) }}",
     9},
    {"the least of several tuples",
     "({}[9,7] x, int64[40,1] i, {}[40,7] u) => ({}[9,7] y) {{ y = ScatterND<reduction = \"min\">(x, i, u) }}", 9},
    {"sums of very many",
     "({}[300] x, int64[4500] i, {}[4500] u) => ({}[300] y) {{ y = ScatterElements<reduction = \"add\">(x, i, u) }}",
     300, false},
    {"the last of very many", "({}[5] x, int64[3000] i, {}[3000] u) => ({}[5] y) {{ y = ScatterElements(x, i, u) }}",
     5},
    {"products of several",
     "({}[9,5] x, int64[12,5] i, {}[12,5] u) => ({}[9,5] y) {{ y = ScatterElements<reduction = \"mul\">(x, i, u) }}", 9,
     false},
    {"running sums",
     "({}[3,37,5] x) => ({}[3,37,5] y) <int64 axis = {{1}}> {{ y = CumSum<exclusive = 1, reverse = 1>(x, axis) }}", 1,
     false},
    {"running products",
     "({}[3,7,5] x) => ({}[3,7,5] y) <int64 axis = {{1}}> {{ y = CumProd<exclusive = 1, reverse = 1>(x, axis) }}", 1,
     false},
    {"above a diagonal", "({}[3,37,29] x) => ({}[3,37,29] y) <int64 k = {{-2}}> {{ y = Trilu(x, k) }}"},
    {"below a diagonal", "({}[5,9] x) => ({}[5,9] y) {{ y = Trilu<upper = 0>(x) }}"},
    {"ones on a diagonal", "({}[37,29] x) => ({}[37,29] y) {{ y = EyeLike<k = 2>(x) }}"},
    {"depth to space", "({}[2,12,3,5] x) => ({}[2,3,6,10] y) {{ y = DepthToSpace<blocksize = 2>(x) }}"},
    {"depth to space by columns",
     "({}[2,18,3,5] x) => ({}[2,2,9,15] y) {{ y = DepthToSpace<blocksize = 3, mode = \"CRD\">(x) }}"},
    {"space to depth", "({}[2,3,6,10] x) => ({}[2,12,3,5] y) {{ y = SpaceToDepth<blocksize = 2>(x) }}"},
    {"one-hot",
     "({}[2] v, int64[4,3] i) => ({}[4,7,3] y) <int64 depth = {{7}}> {{ y = OneHot<axis = 1>(i, depth, v) }}", 7},
};

Graph parse(const std::string& text) {
  Graph graph = parse_model("<ir_version: 10, opset_import: [\"\": 28, \"ai.halfstep\": 1]> test " + text).graph;
  infer_graph(graph);
  return graph;
}

std::vector<Tensor> inputs_of(const Graph& graph, std::int64_t indices) {
  std::mt19937 random(11);
  std::vector<Tensor> inputs;
  for (const ValueId id : graph.inputs) {
    const bool is_index = graph[id].name == "i";
    Tensor t(DType::f32, graph[id].shape);
    for (float& v : t.span<float>())
      v = is_index ? static_cast<float>(std::uniform_int_distribution<std::int64_t>(-indices, indices - 1)(random))
                   : std::uniform_real_distribution<float>(-2, 2)(random);
    inputs.push_back(convert(t, graph[id].dtype));
  }
  return inputs;
}

std::string in_type(const Case& c, const char* type) {
  const std::string text = c.text;
  return fmt::format(fmt::runtime(text), type, type, type);
}

TEST(GeneratedMovement, AgreesWithTheReference) {
  const auto executor = emulated_executor(Values::separate);
  for (const Case& c : kCases)
    for (const char* type : {"float", "float16", "bfloat16", "int64", "bool"}) {
      const std::string kind = type;
      if (kind == "bool" && (!c.is_moved_exactly || std::string(c.text).find("reduction") != std::string::npos))
        continue;
      SCOPED_TRACE(fmt::format("{}, {}", c.what, type));
      const Graph graph = parse(in_type(c, type));
      const std::vector<Tensor> inputs = inputs_of(graph, c.indices);
      Plan plan;
      EXPECT_EQ(execution_difference(graph, inputs, *executor, 0, &plan), "");
      const std::string kernel = first_node(plan).kernel;
      EXPECT_TRUE(kernel.starts_with("generated") || kernel.starts_with("own")) << kernel << first_node(plan).reason;
      EXPECT_TRUE(emulation::guards_are_whole());
      if (kind == "float" && c.indices == 1) {
        EXPECT_EQ(special_difference(graph, graph, inputs, *executor), "");
      }
    }
}

/// Operands that the reference kernel refuses: of the first input, of the indices and, where there are any, of updates.
struct Misfit {
  const char* what;
  const char* text;
};
const Misfit kMisfits[] = {
    {"indices of a lower rank", "(float[9,5] x, int64[7] i) => (float[7] y) { y = GatherElements(x, i) }"},
    {"indices of a higher rank", "(float[9] x, int64[7,5] i) => (float[7,5] y) { y = GatherElements(x, i) }"},
    {"indices that are larger beside the axis",
     "(float[9,5] x, int64[3,6] i) => (float[3,6] y) { y = GatherElements(x, i) }"},
    {"batches of different extents",
     "(float[2,5] x, int64[3,1] i) => (float[3] y) { y = GatherND<batch_dims = 1>(x, i) }"},
    {"updated indices that are larger beside the axis",
     "(float[9,5] x, int64[3,6] i, float[3,6] u) => (float[9,5] y) { y = ScatterElements(x, i, u) }"},
    {"updates of another shape",
     "(float[9,5] x, int64[4,5] i, float[5,4] u) => (float[9,5] y) { y = ScatterElements(x, i, u) }"},
    {"updates of another shape than the tuples'",
     "(float[9,5] x, int64[4,1] i, float[5,4] u) => (float[9,5] y) { y = ScatterND(x, i, u) }"},
    {"a gradient that is larger than the slice can be",
     "(float[300,20] dy, int64[2] e) => (float[2,2] dx) <int64[2] s = {0, 0}> "
     "{ dx = ai.halfstep.SliceGrad<input_shape = [2, 2]>(dy, s, e) }"},
};

TEST(GeneratedMovement, ShapesThatDoNotFitAreLeftToTheReferenceWhichRefusesThem) {
  const auto executor = emulated_executor(Values::separate);
  for (const Misfit& misfit : kMisfits) {
    SCOPED_TRACE(misfit.what);
    const Graph graph = parse(misfit.text);
    CompiledGraph compiled(*executor, graph);
    EXPECT_THAT(first_node(compiled.program().plan()).kernel, StartsWith("reference"));
    EXPECT_NE(error_of(Error::Kind::input, [&] { compiled.run(inputs_of(graph, 1)); }), "");
    EXPECT_TRUE(emulation::guards_are_whole());
  }
}

TEST(GeneratedMovement, IndicesOutOfRangeReadAndWriteNothing) {
  const auto executor = emulated_executor(Values::separate);
  const Tensor x = Tensor::of<float>({1, 2, 3}), u = Tensor::of<float>({7, 8, 9, 10}),
               i = Tensor::of<std::int64_t>({3, -4, 1, std::int64_t{1} << 30});
  for (const char* type : {"int64", "int32"})
    for (const bool tuples : {false, true}) {
      SCOPED_TRACE(fmt::format("{} {}", type, tuples));
      const std::string shape = tuples ? "[4,1]" : "[4]", op = tuples ? "ND" : "Elements";
      const Graph read =
          parse(fmt::format("(float[3] x, {}{} i) => (float[4] y) {{ y = Gather{}(x, i) }}", type, shape, op));
      const Graph write = parse(fmt::format(
          "(float[3] x, {}{} i, float[4] u) => (float[3] y) {{ y = Scatter{}(x, i, u) }}", type, shape, op));
      const Value& like = read[read.inputs[1]];
      const Tensor indices = convert(i, like.dtype).reshaped(like.shape);
      CompiledGraph gather(*executor, read), scatter(*executor, write);
      EXPECT_THAT(first_node(gather.program().plan()).kernel, StartsWith("generated"));
      EXPECT_THAT(first_node(scatter.program().plan()).kernel, StartsWith("generated"));
      const std::vector<Tensor> gathered = gather.run({x, indices}), scattered = scatter.run({x, indices, u});
      const std::span<const float> y = gathered[0].span<float>();
      EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[1]) && y[2] == 2 && std::isnan(y[3]));
      EXPECT_TRUE(identical(scattered[0], Tensor::of<float>({1, 9, 3})));
      EXPECT_TRUE(emulation::guards_are_whole());
    }
}

TEST(GeneratedMovement, TransposesByTiles) {
  const auto executor = emulated_executor();
  Plan plan;
  const Graph graph = parse(in_type(kCases[3], "float16"));
  EXPECT_EQ(execution_difference(graph, inputs_of(graph, 1), *executor, 0, &plan), "");
  EXPECT_EQ(first_node(plan).kernel, "generated: transpose");
}

/// By NVIDIA's own compiler.
TEST(GeneratedMovement, MovesWholeVectorsWhereTheyLieTogether) {
  ASSERT_EQ(runtime_compiler_refusal(), "");
  const auto executor = emulated_executor();
  const std::set<std::string> wide = {"heads and places", "a part that begins at a whole vector", "every other row",
                                      "parts side by side", "rows by index"};
  for (const Case& each : kCases) {
    const bool is_wide = wide.contains(each.what);
    if (!is_wide && !std::string(each.what).ends_with("within a vector") && !std::string(each.what).starts_with("rows"))
      continue;
    SCOPED_TRACE(each.what);
    emulation::forget_texts();
    const Graph graph = parse(in_type(each, "float16"));
    const auto store = executor->make_store();
    executor->compile(graph, *store);
    EXPECT_FALSE(emulation::executor_texts().empty());
    for (const KernelText& text : emulation::executor_texts())
      EXPECT_EQ(inspect(text, 80).vector_accesses > 0, is_wide) << text.name;
  }
}

/// What is gathered of an index out of range, in words of every width.
TEST(GeneratedMovement, GathersNaNForAnIndexOutOfRange) {
  const auto executor = emulated_executor(Values::separate);
  for (const std::int64_t inner : {1, 2, 4, 8, 3}) {
    const Graph graph =
        parse(fmt::format("(float16[3,{0}] x, int64[2] i) => (float16[2,{0}] y) {{ y = Gather(x, i) }}", inner));
    CompiledGraph gather(*executor, graph);
    const std::vector<double> y = to_doubles(
        gather.run({convert(Tensor(DType::f32, {3, inner}), DType::f16), Tensor::of<std::int64_t>({3, 1})})[0]);
    for (std::int64_t k = 0; k < inner; ++k) {
      EXPECT_TRUE(std::isnan(y[static_cast<std::size_t>(k)])) << inner;
      EXPECT_EQ(y[static_cast<std::size_t>(inner + k)], 0) << inner;
    }
  }
}

/// Indices that fill several chunks, have several digits, meet often at one place, or are out of range: whole numbers,
/// whose sums are exact.
TEST(GeneratedMovement, GathersTheGradientsOfRows) {
  const auto executor = emulated_executor(Values::separate);
  struct Rows {
    std::int64_t outer, count, extent, inner;
    bool on_few;  // most of them the same
  };
  for (const Rows& r : {Rows{1, 5000, 300, 8, false}, Rows{1, 3000, 70000, 1, false}, Rows{2, 700, 5, 24, true},
                        Rows{3, 65, 40, 3, true}, Rows{1, 33, 2, 40, true}, Rows{1, 1, 1, 1, false}})
    for (const DType dtype : {DType::f32, DType::bf16}) {
      SCOPED_TRACE(fmt::format("{} {} {} {} {}", r.outer, r.count, r.extent, r.inner, name_of(dtype)));
      std::mt19937 random(7);
      Tensor indices(DType::i64, {r.count}), dy(DType::f32, {r.outer, r.count, r.inner}),
          want(DType::f32, {r.outer, r.extent, r.inner});
      for (std::int64_t& k : indices.span<std::int64_t>()) {
        k = static_cast<std::int64_t>(random() % static_cast<unsigned>(2 * r.extent)) - r.extent;
        if (r.on_few && random() % 4 > 0) k = r.extent - 1;
        if (random() % 16 == 0) k = random() % 2 ? r.extent : -r.extent - 1;
      }
      for (float& v : dy.span<float>()) v = static_cast<float>(random() % 3) - 1;
      for (std::int64_t o = 0; o < r.outer; ++o)
        for (std::int64_t j = 0; j < r.count; ++j)
          for (std::int64_t i = 0; i < r.inner; ++i) {
            const std::int64_t k = indices.span<std::int64_t>()[static_cast<std::size_t>(j)];
            if (k < -r.extent || k >= r.extent) continue;
            const std::int64_t row = k < 0 ? k + r.extent : k;
            want.span<float>()[static_cast<std::size_t>((o * r.extent + row) * r.inner + i)] +=
                dy.span<float>()[static_cast<std::size_t>((o * r.count + j) * r.inner + i)];
          }
      const std::string type = dtype == DType::f32 ? "float" : "bfloat16";
      const Graph graph =
          parse(fmt::format("({0}[{1},{2},{4}] dy, int64[{2}] i) => ({0}[{1},{3},{4}] dx) "
                            "{{ dx = ai.halfstep.GatherGrad<axis = 1, input_shape = [{1}, {3}, {4}]>(dy, i) }}",
                            type, r.outer, r.count, r.extent, r.inner));
      CompiledGraph gather(*executor, graph);
      EXPECT_EQ(first_node(gather.program().plan()).kernel, "generated: gather");
      EXPECT_TRUE(identical(gather.run({convert(dy, dtype), indices})[0], convert(want, dtype)));
      EXPECT_TRUE(emulation::guards_are_whole());
    }
}

TEST(GeneratedInterpolation, AgreesWithTheReference) {
  const auto executor = emulated_executor(Values::separate);
  for (const char* mode : {"nearest", "linear", "cubic"})
    for (const char* type : {"float", "float16"})
      for (const char* text :
           {"({0}[2,3,9,7] x) => ({0}[2,3,17,5] y) <int64[4] z = {{2, 3, 17, 5}}> {{ y = Resize<mode = \"{1}\">(x, , , "
            "z) }}",
            "({0}[2,3,17,5] dy) => ({0}[2,3,9,7] dx) <int64[4] z = {{2, 3, 17, 5}}> "
            "{{ dx = ai.halfstep.ResizeGrad<mode = \"{1}\", input_shape = [2, 3, 9, 7]>(dy, , , z) }}"}) {
        SCOPED_TRACE(fmt::format("{} {} {}", mode, type, text));
        const Graph graph = parse(fmt::format(fmt::runtime(text), type, mode));
        Plan plan;
        EXPECT_EQ(execution_difference(graph, inputs_of(graph, 1), *executor, 0, &plan), "");
        EXPECT_THAT(first_node(plan).kernel, StartsWith("generated")) << first_node(plan).reason;
        EXPECT_TRUE(emulation::guards_are_whole());
      }
}

TEST(GeneratedDropout, DropsWhatTheReferenceDrops) {
  const auto executor = emulated_executor(Values::separate);
  const Graph graph = parse(
      "(float[37,5] x) => (float[37,5] y, bool[37,5] mask) <float ratio = {0.3}, int64 counter = {123456789012}> "
      "{ y, mask = ai.halfstep.PhiloxDropout<seed = 99, stream = 3>(x, ratio, counter) }");
  Plan plan;
  EXPECT_EQ(execution_difference(graph, inputs_of(graph, 1), *executor, 0, &plan), "");
  EXPECT_THAT(first_node(plan).kernel, StartsWith("generated")) << first_node(plan).reason;
}

/// To the last bit, here: a run that goes on elsewhere draws the numbers that it would have drawn, but for rare last
/// bits of normal ones, where a device's functions in double are not the host's.
TEST(GeneratedRandomNumbers, AreThoseOfTheReference) {
  const auto executor = emulated_executor(Values::separate);
  for (const char* attributes :
       {"", ", first = -2.0, spread = 4.1", ", first = 3.0, spread = 0.0", ", first = 16777216.0, spread = 1.0",
        ", normal = 1", ", normal = 1, first = 0.7, spread = 0.3"})
    for (const char* shape : {"37, 5", "3", "64"}) {
      SCOPED_TRACE(fmt::format("{} [{}]", attributes, shape));
      const Graph graph =
          parse(fmt::format("() => (float[{0}] y) <int64 counter = {{123456789012}}> "
                            "{{ y = ai.halfstep.PhiloxRandom<seed = -7, stream = 3, shape = [{0}]{1}>(counter) }}",
                            shape, attributes));
      Plan plan;
      EXPECT_EQ(execution_difference(graph, inputs_of(graph, 1), *executor, 0, &plan), "");
      EXPECT_EQ(first_node(plan).kernel, "generated: random numbers") << first_node(plan).reason;
      EXPECT_TRUE(emulation::guards_are_whole());
    }
}

}  // namespace
}  // namespace halfstep::cudnn
