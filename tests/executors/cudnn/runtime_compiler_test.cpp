// NVIDIA's own compiler takes the generated kernels, for every architecture; what it gives is kept.
#include "executors/cudnn/runtime_compiler.h"

#include <fstream>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executors/cudnn/chain_text.h"
#include "tests/executors/cudnn/op_cases.h"
#include "tests/temporary_directory.h"
#include <halfstep/base/error.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/op_def.h>

namespace halfstep::cudnn {
namespace {

using testing::HasSubstr;

Graph parse(const std::string& text) {
  Graph graph = parse_model("<ir_version: 10, opset_import: [\"\": 28, \"ai.halfstep\": 1]> test " + text).graph;
  infer_graph(graph);
  return graph;
}
KernelText text_of(const Graph& body) {
  return chain_text(body, [](std::size_t) { return true; }).kernel;
}

const KernelText& small_kernel() {
  static const KernelText kernel =
      text_of(parse("(float16[8,16] x, float16[16] b) => (float16[8,16] y) "
                    "{ s = Add(x, b) y = Relu(s) }"));
  return kernel;
}

/// One kernel with every formula that a type has.
Graph all_formulas(DType dtype) {
  Graph body;
  const Shape shape = {6, 16};
  const ValueId x = body.add_input("x", dtype, shape), b = body.add_input("b", dtype, {16}),
                c = body.add_input("c", DType::boolean, {6, 1});
  for (const OpDef* op : op_table())
    for (const std::vector<ValueId>& in :
         {std::vector{x}, std::vector{x, b}, std::vector{x, b, x}, std::vector{c, x, b}}) {
      if (body.outputs.size() == ChainArguments::kOutputs) return body;
      Graph trial = body;
      try {
        trial.add_node(op->name, op->domain, in, 1, {{"to", static_cast<std::int64_t>(DType::f32)}});
        infer_graph(trial);
      } catch (const std::exception&) {
        continue;
      }
      const Node& node = trial.nodes[trial.nodes.size() - 1];
      if (!chain_holds(trial, node) || trial[node.outputs[0]].shape != shape) continue;
      trial.outputs.push_back(node.outputs[0]);
      body = std::move(trial);
      break;
    }
  return body;
}

TEST(RuntimeCompiler, IsThere) { EXPECT_EQ(runtime_compiler_refusal(), ""); }

TEST(RuntimeCompiler, TakesChainsForEveryArchitecture) {
  const Graph wide = parse(
      "(float16[65536,65536] x, float[65536] b) => (float16[65536,65536] y) { f = Cast<to = 1>(x) s = Add(f, b) "
      "t = Sigmoid(s) y = Cast<to = 10>(t) }");
  for (const int capability : {75, 80, 86, 89, 90, 100, 103, 110, 120, 121})
    for (const KernelText& kernel : {small_kernel(), text_of(wide)})
      EXPECT_FALSE(compile(kernel, capability, {}).empty()) << capability;
  EXPECT_FALSE(compile(small_kernel(), 999, {}).empty()) << "PTX for a device that is newer";
  EXPECT_THROW(compile(small_kernel(), 35, {}), Error);
}

TEST(RuntimeCompiler, TakesEveryFormula) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i32, DType::i64, DType::boolean}) {
    const Graph body = all_formulas(dtype);
    EXPECT_GT(body.nodes.size(), 3U) << name_of(dtype);
    for (const int capability : {75, 90})
      EXPECT_FALSE(compile(text_of(body), capability, {}).empty()) << name_of(dtype);
  }
}

TEST(RuntimeCompiler, ContractsWhatItMay) {
  // In PTX a product that names its rounding stays one.
  const auto is_rounded = [](const KernelText& kernel) {
    const std::vector<char> ptx = compile(kernel, 999, {});
    return std::string_view(ptx.data(), ptx.size()).find("mul.rn.f32") != std::string_view::npos;
  };
  KernelText kernel =
      text_of(parse("(float[64] a, float[64] b, float[64] c) => (float[64] y) { p = Mul(a, b) y = Sub(p, c) }"));
  EXPECT_TRUE(is_rounded(kernel));
  kernel.text.erase(0, kNotContracted.size());
  EXPECT_FALSE(is_rounded(kernel));
}

TEST(RuntimeCompiler, SaysWhatIsWrong) {
  try {
    compile({"k", "int", "extern \"C\" __global__ void k(int a) { undeclared(a); }"}, 80, {});
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_THAT(e.found(), HasSubstr("undeclared"));
  }
}

TEST(RuntimeCompiler, KeepsWhatItCompiled) {
  const TemporaryDirectory folder;
  const auto cache = folder / "kernels";
  const std::vector<char> first = compile(small_kernel(), 80, cache);
  const auto entries = [&] {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(cache)) paths.push_back(entry.path());
    return paths;
  };
  ASSERT_EQ(entries().size(), 1U);
  const std::filesystem::path entry = entries()[0];
  const auto written = std::filesystem::last_write_time(entry);
  EXPECT_EQ(compile(small_kernel(), 80, cache), first);
  EXPECT_EQ(std::filesystem::last_write_time(entry), written) << "it was compiled again";
  compile(small_kernel(), 90, cache);
  EXPECT_EQ(entries().size(), 2U) << "another architecture is another entry";

  const auto size = std::filesystem::file_size(entry);
  for (const std::uintmax_t cut : {std::uintmax_t{0}, size / 2, size - 1}) {  // damaged entries are made anew
    std::filesystem::resize_file(entry, cut);
    EXPECT_EQ(compile(small_kernel(), 80, cache), first);
    EXPECT_EQ(std::filesystem::file_size(entry), size);
  }
  std::fstream(entry, std::ios::in | std::ios::out | std::ios::binary)
      .seekp(static_cast<std::streamoff>(size) - 40)
      .put('?');
  EXPECT_EQ(compile(small_kernel(), 80, cache), first);
}

TEST(RuntimeCompiler, WorksWithoutAFolderToWriteTo) {
  EXPECT_FALSE(compile(small_kernel(), 80, "/proc/nothing/kernels").empty());
}

}  // namespace
}  // namespace halfstep::cudnn
