// What a program says it keeps in memory is what it has allocated.
#include <map>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include <halfstep/executors/core/backend.h>
#include <halfstep/executors/memory_use.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/passes/pipelines.h>

namespace halfstep {
namespace {

/// Counts what is allocated and not yet given back.
class CountingDevice final : public core::Device {
 public:
  std::shared_ptr<void> allocate(std::size_t bytes, core::Space space) override {
    std::shared_ptr<void> memory = core::Device::allocate(bytes, space);
    void* data = memory.get();
    *held_ += bytes;
    return {data, [memory, held = held_, bytes](void*) { *held -= bytes; }};
  }
  std::size_t held() const { return *held_; }

 private:
  std::shared_ptr<std::size_t> held_ = std::make_shared<std::size_t>(0);
};

Graph training_graph(const std::string& optimizer) {
  const LoadedModel model = parse_model(R"(<ir_version: 10, opset_import: ["": 20]>
    m (float[N, 3] x) => (float[N, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}, float[2] b = {0, 0}>
    { h = Gemm(x, w, b) y = Tanh(h) })");
  StepOptions options{.shapes = {.by_name = {}, .batch = 8}};
  options.loss.terms = {{.loss = "mean_squared_error", .label_dtype = DType::f32, .label_shape = Shape{8, 2}}};
  options.optimizer.name = optimizer;
  return run_pipeline(model.graph, whole_pipeline(Purpose::training, options, {}));
}

TEST(MemoryUse, IsWhatTheProgramAllocates) {
  const auto device = std::make_shared<CountingDevice>();
  const auto executor = core::make_executor({.name = "counting", .capabilities = {}, .kernels = {}, .device = device});
  const auto store = executor->make_store();
  const auto program = executor->compile(training_graph("adam"), *store);
  const std::optional<MemoryUse> use = memory_of(*program);
  ASSERT_TRUE(use.has_value());
  EXPECT_EQ(use->states() + use->arena, device->held());
  EXPECT_EQ(use->arena, program->plan().arena_bytes);
  EXPECT_EQ(use->states(), program->plan().state_bytes);
  constexpr std::size_t kParameters = (3 * 2 + 2) * sizeof(float);
  EXPECT_EQ(use->parameters, kParameters);
  EXPECT_EQ(use->moments, 2 * kParameters + sizeof(std::int64_t)) << "two of each, and the counter";
  EXPECT_EQ(use->live, use->gradients + use->activations + use->workspace);
  EXPECT_LE(use->live, use->arena);
  EXPECT_GT(use->live, 0u);
}

TEST(MemoryUse, OfTheReferenceIsThatOfAllItsValues) {
  const auto executor = make_reference_executor();
  const auto store = executor->make_store();
  const Graph graph = training_graph("adam");
  const auto program = executor->compile(graph, *store);
  const std::optional<MemoryUse> use = memory_of(*program);
  ASSERT_TRUE(use.has_value());
  constexpr std::size_t kParameters = (3 * 2 + 2) * sizeof(float);
  EXPECT_EQ(use->parameters, kParameters);
  EXPECT_EQ(use->moments, 2 * kParameters + sizeof(std::int64_t));
  EXPECT_EQ(use->states(), program->plan().state_bytes);
  std::size_t results = 0;
  for (const Node& node : graph.nodes)
    for (const ValueId id : node.outputs)
      if (id != kNoValue) results += bytes_of(graph[id].dtype, static_cast<std::size_t>(graph[id].shape.count()));
  EXPECT_EQ(use->activations, results) << "each value has memory of its own; this graph has no optimizer node";
  EXPECT_EQ(use->live, use->arena);
}

}  // namespace
}  // namespace halfstep
