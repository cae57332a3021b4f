#include <algorithm>
#include <map>

#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/fusion_checks.h"

namespace halfstep::cudnn {
namespace {

using testing::fusions::Scene;

TEST(CudnnFusions, ComputeWhatTheirPartsCompute) { testing::fusions::expect_all_forward(*emulated_executor()); }

TEST(CudnnFusions, AreTrainedThrough) {
  testing::fusions::expect_all_trained(*emulated_executor(), DType::f32, 1e-4);
  testing::fusions::expect_all_trained(*emulated_executor(), DType::f16, 4 * testing::epsilon_of(DType::f16));
}

/// Two layers with an activation between them, of rows or of the matrices of a batch.
Scene layers(bool is_flat) {
  Scene scene;
  scene.op = "Gemm";
  scene.inputs = is_flat ? "T[N,3] x" : "T[N,2,3] x";
  scene.result_shape = is_flat ? "N,2" : "N,2,2";
  scene.constants =
      "T[3,8] w = {0.5, -1, 0.25, 1, -0.5, 1, 0.75, -0.25, 1, 0.5, -1, -0.75, 0.25, 0.5, -0.5, 1, 0.1, 0.2, -0.3, 0.4, "
      "-0.5, 0.6, -0.7, 0.8}, T[8] b = {0.1, -0.2, 0.3, 0, 0.2, -0.1, 0.4, 0.3}, "
      "T[8,2] v = {0.5, -1, 0.25, 1, -0.5, 1, 0.75, -0.25, 1, 0.5, -1, -0.75, 0.25, 0.5, -0.5, 1}, T[2] c = {0.1, 0.2}";
  scene.node = "h = MatMul(x, w) s = Add(h, b)";
  scene.parameters = {"w", "b", "v", "c"};
  scene.x = is_flat ? Shape{6, 3} : Shape{3, 2, 3};
  scene.y = is_flat ? Shape{6, 2} : Shape{3, 2, 2};
  return scene;
}
constexpr const char* kBehind = "p = MatMul(a, v) y = Add(p, c)";

std::map<std::string, int> operators_of(const Graph& graph) {
  std::map<std::string, int> count;
  for (const Node& node : graph.nodes) ++count[node.op];
  return count;
}

/// How many of a program's products are one kernel with what is computed beside them.
std::ptrdiff_t whole_products(Executor& executor, const Graph& graph) {
  const std::unique_ptr<StateStore> store = executor.make_store();
  const Plan plan = executor.compile(graph, *store)->plan();
  return std::ranges::count_if(plan.entries, [](const PlanEntry& entry) {
    return entry.kernel.starts_with("cublaslt") && entry.reason.find("one kernel") != std::string::npos;
  });
}

struct Case {
  const char* activation;
  int whole;  ///< how many of GemmActivation and of its gradient
};

TEST(CudnnFusions, TakeWhatATrainingStepComputesBesideAProduct) {
  const auto executor = emulated_executor();
  Capabilities apart = executor->capabilities();
  apart.fusions.clear();
  for (const bool is_flat : {true, false})
    for (const Case& c :
         {Case{"a = Gelu<approximate = \"tanh\">(s)", 1}, Case{"a = Gelu(s)", 0}, Case{"a = Relu(s)", 0}})
      for (const DType precision : {DType::f32, DType::f16}) {
        SCOPED_TRACE(fmt::format("{} {} {}", c.activation, is_flat, name_of(precision)));
        const Scene scene = layers(is_flat);
        const std::string model = testing::fusions::model_of(scene, "float", std::string(c.activation) + " " + kBehind);
        const Graph step = testing::fusions::training_step(model, scene, precision, executor->capabilities());
        std::map<std::string, int> count = operators_of(step);
        EXPECT_EQ(count["GemmActivation"], c.whole) << to_text(step);
        EXPECT_EQ(count["GemmActivationGrad"], c.whole) << to_text(step);
        EXPECT_EQ(count["GemmSums"], 2) << to_text(step);
        EXPECT_EQ(count["ReduceSum"], 0) << to_text(step);
        const auto wanted = testing::fusions::trained(*make_reference_executor(), model, scene, precision, apart);
        for (const bool has_epilogues : {true, false}) {
          emulation::machine().has_epilogues = has_epilogues;
          // Sums, and in half types the activation and its slope.
          const int whole = 2 + (precision == DType::f32 ? 0 : 2 * c.whole);
          EXPECT_EQ(whole_products(*executor, step), has_epilogues ? whole : 0);
          const int before = emulation::epilogues_launched();
          const auto found = testing::fusions::trained(*executor, model, scene, precision, executor->capabilities());
          emulation::machine().has_epilogues = true;
          EXPECT_EQ(emulation::epilogues_launched() > before, has_epilogues);
          ASSERT_EQ(found.size(), wanted.size());
          const double tolerance = precision == DType::f32 ? 1e-4 : 8 * testing::epsilon_of(DType::f16);
          for (std::size_t i = 0; i < found.size(); ++i)
            testing::expect_close(found[i], wanted[i], tolerance, fmt::format("number {}", i));
        }
      }
  EXPECT_STREQ(emulation::latest_refusal(), "");
}

}  // namespace
}  // namespace halfstep::cudnn
