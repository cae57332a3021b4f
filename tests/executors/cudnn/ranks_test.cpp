// Ranks of NCCL whose steps run on the GPU: CUDA, cuDNN and NCCL are emulated, with one machine for all ranks.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "distributed/local_gpu.h"
#include "distributed/nccl/nccl_communicator.h"
#include "ops/collective/all_reduce.h"
#include "tests/distributed/run_on.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/emulation/nccl.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/ranks.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/builder.h>

namespace halfstep::cudnn {
namespace {

using namespace test;
using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::SizeIs;

/// A group of NCCL that takes the host's memory alone, as others do.
class OnHost final : public Communicator {
 public:
  explicit OnHost(std::shared_ptr<Communicator> ranks) : ranks_(std::move(ranks)) {}

  std::string_view name() const override { return ranks_->name(); }
  int rank() const override { return ranks_->rank(); }
  int size() const override { return ranks_->size(); }
  void all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override {
    ranks_->all_reduce(data, count, dtype, reduction);
  }
  std::unique_ptr<AllReduce> make_all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override {
    return ranks_->make_all_reduce(data, count, dtype, reduction);
  }
  void reduce_scatter(const void* from, void* to, std::size_t count, DType dtype, Reduction reduction) override {
    ranks_->reduce_scatter(from, to, count, dtype, reduction);
  }
  void all_gather(const void* from, void* to, std::size_t bytes) override { ranks_->all_gather(from, to, bytes); }
  void broadcast(void* data, std::size_t bytes, int root) override { ranks_->broadcast(data, bytes, root); }
  void barrier() override { ranks_->barrier(); }
  void abort(int exit_code) noexcept override { ranks_->abort(exit_code); }

 private:
  std::shared_ptr<Communicator> ranks_;
};

class GpuRanks : public testing::Test {
 protected:
  ~GpuRanks() override {
    emulation::machine() = {};
    EXPECT_EQ(emulation::live_objects(), 0);
    EXPECT_STREQ(emulation::latest_refusal(), "");
  }
};

/// A weight, in ONNX's text form.
std::string weight(const std::string& name, const std::string& shape, int count) {
  std::vector<std::string> numbers;
  for (int i = 0; i < count; ++i) numbers.push_back(fmt::format("{}", static_cast<double>(i * 7 % 13 - 6) / 40));
  return fmt::format("float[{}] {} = {{{}}}", shape, name, fmt::join(numbers, ", "));
}

/// Parameters of 16 KB and less, some of which end where no kernel would have the next begin.
LoadedModel wide_model() {
  return parse_model(fmt::format(
      R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 1] y) <{}, {}, {}, {}, {}> {{
           h = Gemm(x, u, c)
           k = Relu(h)
           l = MatMul(k, v)
           y = Gemm(l, w, b)
         }})",
      weight("u", "2, 63", 126), weight("c", "63", 63), weight("v", "63, 65", 4095), weight("w", "65, 1", 65),
      weight("b", "1", 1)));
}

Job job() {
  Job result;
  result.options.optimizer.name = "adam";
  result.options.optimizer.numbers = {};
  result.options.schedule.base_lr = 0.01;
  result.options.bucket_bytes = 1000;
  result.options.batch_size = 4;
  result.options.epochs = 2;
  result.executor = [](const ExecutorOptions& options) { return emulated_executor(Values::shared, options); };
  return result;
}

struct Runs {
  std::vector<Course> courses;
  std::vector<std::string> errors;
};
Runs run_on_gpus(int size, const Job& job, bool on_host = false, const nccl::Api& api = emulation::nccl_api()) {
  ncclUniqueId id;
  api.get_unique_id(&id);
  Runs runs;
  runs.courses.resize(static_cast<std::size_t>(size));
  runs.errors = emulation::on_ranks(size, [&](int rank) {
    std::shared_ptr<Communicator> ranks =
        std::make_shared<nccl::NcclCommunicator>(api, id, rank, size, CommunicatorOptions{});
    if (on_host) ranks = std::make_shared<OnHost>(ranks);
    runs.courses[static_cast<std::size_t>(rank)] = run_rank(job, ranks);
  });
  return runs;
}

std::vector<float> losses_of(const Course& course) {
  std::vector<float> losses;
  for (const StepResult& step : course.steps) losses.push_back(step.loss);
  return losses;
}

/// Each with the device of its number, or both with one that is named.
TEST_F(GpuRanks, HaveADeviceEach) {
  const Course alone = run_on(0, job());
  emulation::machine().devices = 2;
  emulation::contexts();
  const nccl::Api api = emulation::nccl_api();
  ncclUniqueId id;
  api.get_unique_id(&id);
  std::vector<Course> courses(2);
  const std::vector<std::string> errors = emulation::on_ranks(2, [&](int rank) {
    Job own = job();
    thread_local std::string device;
    device = gpu_id(static_cast<std::size_t>(rank));
    own.executor = [](const ExecutorOptions& options) {
      ExecutorOptions on = options;
      on.device = device;
      return emulated_executor(Values::shared, on);
    };
    own.callbacks = [](Trainer& trainer, int) {
      TrainerCallbacks callbacks;
      callbacks.on_step = [&trainer](const StepResult&) {
        EXPECT_THAT(trainer.plan().entries, Contains(testing::Field(&PlanEntry::reason, "in the device's memory")));
      };
      return callbacks;
    };
    courses[static_cast<std::size_t>(rank)] = run_rank(
        own, std::make_shared<nccl::NcclCommunicator>(api, id, rank, 2, CommunicatorOptions{}, nccl::Line(), rank));
  });
  ASSERT_THAT(errors, Each(""));
  EXPECT_TRUE(same_bits(courses[0].parameters, courses[1].parameters));
  expect_same_course(courses[0], alone, "2 devices", 1e-5);
  EXPECT_EQ(emulation::contexts(), (std::set<int>{0, 1}));
}

TEST_F(GpuRanks, LearnWhatOneProcessLearns) {
  const Course alone = run_on(0, job());
  for (const std::uint32_t seed : {0u, 1u, 2u, 3u, 4u, 5u}) {
    emulation::machine().seed = seed;
    const Runs runs = run_on_gpus(2, job());
    ASSERT_THAT(runs.errors, Each("")) << "seed " << seed;
    EXPECT_TRUE(same_bits(runs.courses[0].parameters, runs.courses[1].parameters)) << "seed " << seed;
    expect_same_course(runs.courses[0], alone, "2 ranks", 1e-5);
  }
}

/// By way of the host, every number is added up to the same.
TEST_F(GpuRanks, TheMemoryOfTheDeviceGivesTheBitsOfTheHosts) {
  const std::pair<const char*, std::function<void(TrainerOptions&)>> ways[] = {
      {"whole", [](TrainerOptions&) {}},
      {"sharded", [](TrainerOptions& options) { options.sharded_optimizer = true; }},
      {"bf16 gradients", [](TrainerOptions& options) { options.gradient_dtype = DType::bf16; }}};
  for (const auto& [name, set] : ways) {
    Job one = job();
    set(one.options);
    const Runs host = run_on_gpus(2, one, true);
    ASSERT_THAT(host.errors, Each("")) << name;
    for (const std::uint32_t seed : {0u, 7u, 8u}) {
      emulation::machine().seed = seed;
      const Runs device = run_on_gpus(2, one);
      ASSERT_THAT(device.errors, Each("")) << name;
      EXPECT_EQ(losses_of(device.courses[0]), losses_of(host.courses[0])) << name << ", seed " << seed;
      EXPECT_TRUE(same_bits(device.courses[1].parameters, host.courses[0].parameters)) << name << ", seed " << seed;
    }
    emulation::machine().seed = 0;
  }
}

/// The largest number of bytes that a step of both ranks copies to the host, the first aside.
std::size_t bytes_of_a_step(bool on_host) {
  Job one = job();
  one.model = wide_model;
  std::vector<std::size_t> at;
  one.callbacks = [&](Trainer&, int rank) {
    TrainerCallbacks callbacks;
    callbacks.on_step = [&, rank](const StepResult&) {
      if (rank == 0) at.push_back(emulation::bytes_to_host());
    };
    return callbacks;
  };
  EXPECT_THAT(run_on_gpus(2, one, on_host).errors, Each(""));
  std::size_t most = 0;
  for (std::size_t i = 2; i < at.size(); ++i) most = std::max(most, at[i] - at[i - 1]);
  EXPECT_GT(most, 0u);
  return most;
}

TEST_F(GpuRanks, AStepCopiesNumbersAloneToTheHost) {
  EXPECT_LT(bytes_of_a_step(false), 700u) << "a rank's numbers lie 64 bytes apart, so that one copy brings all";
  EXPECT_GT(bytes_of_a_step(true), 16000u) << "the gradients";
}

/// What lies between exchanges is launched as graphs, of which a step of both ranks has the same.
TEST_F(GpuRanks, ExchangesSplitTheGraph) {
  Job one = job();
  one.model = wide_model;
  std::vector<int> launches;
  std::vector<std::string> notes;
  one.callbacks = [&](Trainer& trainer, int rank) {
    TrainerCallbacks callbacks;
    callbacks.on_step = [&, rank](const StepResult&) {
      if (rank != 0) return;
      launches.push_back(emulation::graph_launches());
      notes = trainer.plan().notes;
    };
    return callbacks;
  };
  ASSERT_THAT(run_on_gpus(2, one).errors, Each(""));
  EXPECT_THAT(notes, Contains(testing::ContainsRegex("what is between them is [2-9] captured CUDA graphs")));
  ASSERT_GE(launches.size(), 4u);
  EXPECT_GE(launches[3] - launches[1], 8) << "of two steps, two of each rank";
}

/// What the test is worth: without a wait of one stream for another some order of their work gives other numbers.
TEST_F(GpuRanks, AStreamThatDoesNotWaitIsSeen) {
  const Runs right = run_on_gpus(2, job());
  nccl::Api api = emulation::nccl_api();
  api.stream_wait = [](cudaStream_t, cudaEvent_t) { return cudaSuccess; };
  bool is_seen = false;
  for (std::uint32_t seed = 1; seed < 10 && !is_seen; ++seed) {
    emulation::machine().seed = seed;
    const Runs wrong = run_on_gpus(2, job(), false, api);
    is_seen =
        wrong.errors[0] + wrong.errors[1] != "" || !same_bits(wrong.courses[0].parameters, right.courses[0].parameters);
    emulation::latest_refusal();
  }
  EXPECT_TRUE(is_seen);
}

/// CUDA keeps "not ready", too, and the next launch of a kernel would report it.
TEST_F(GpuRanks, AQuestionAboutAnEventLeavesNoFailure) {
  const nccl::Api api = emulation::nccl_api();
  void* memory = nullptr;
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  ASSERT_EQ(api.allocate(&memory, 4), cudaSuccess);
  ASSERT_EQ(api.create_stream(&stream), cudaSuccess);
  ASSERT_EQ(api.create_event(&event), cudaSuccess);
  for (int i = 0; i < 2; ++i) cudaMemsetAsync(memory, 0, 4, stream);
  ASSERT_EQ(api.record(event, stream), cudaSuccess);
  EXPECT_EQ(api.query(event), cudaErrorNotReady);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(api.query(event), cudaSuccess);
  EXPECT_EQ(api.copy(memory, memory, 1000, cudaMemcpyDeviceToDevice, stream), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  api.destroy_event(event);
  api.destroy_stream(stream);
  api.free(memory);
  emulation::latest_refusal();
}

TEST_F(GpuRanks, ARankThatFailsKeepsNoOtherWaiting) {
  Job one = job();
  one.callbacks = [](Trainer&, int rank) {
    TrainerCallbacks callbacks;
    callbacks.on_step = [rank](const StepResult&) {
      if (rank == 1) throw_input_error("good data", "bad data", "");
    };
    return callbacks;
  };
  const Runs runs = run_on_gpus(2, one);
  EXPECT_THAT(runs.errors[1], HasSubstr("bad data"));
  EXPECT_THAT(runs.errors[0], HasSubstr("another rank has gone"));
}

/// Of two tensors, of which the first is computed where it is reduced.
TEST_F(GpuRanks, ThePlanSaysWhereExchangesAre) {
  Graph graph;
  graph.opsets = {{"", kOnnxOpset}, {std::string(kOwnDomain), kOwnOpset}};
  Builder b(graph);
  const Expr x = b.expr(graph.add_input("x", DType::f32, {3}));
  const Expr started = b.own("StartAllReduce", {Expr(), b.op("Relu", {x}), x});
  const std::vector<Expr> sums =
      b.multi("FinishAllReduce", kOwnDomain, {started}, 2, {{"shapes", flattened({Shape{3}, Shape{3}})}});
  graph.outputs = {sums[0].id(), sums[1].id()};
  for (const bool on_host : {false, true}) {
    const nccl::Api api = emulation::nccl_api();
    ncclUniqueId id;
    api.get_unique_id(&id);
    EXPECT_THAT(emulation::on_ranks(2,
                                    [&](int rank) {
                                      std::shared_ptr<Communicator> ranks = std::make_shared<nccl::NcclCommunicator>(
                                          api, id, rank, 2, CommunicatorOptions{});
                                      if (on_host) ranks = std::make_shared<OnHost>(ranks);
                                      const auto alone = emulated_executor();
                                      const auto executor = halfstep::on_ranks(*alone, ranks);
                                      const auto store = executor->make_store();
                                      const auto program = executor->compile(graph, *store);
                                      for (const float sign : {1.0f, -1.0f, 1.0f}) {
                                        for (float& each : program->input(0).span<float>())
                                          each = sign * static_cast<float>(rank + 1);
                                        program->run();
                                        EXPECT_EQ(program->output(0).data<float>()[2], sign > 0 ? 3.0f : 0.0f);
                                        EXPECT_EQ(program->output(1).data<float>()[0], sign * 3.0f);
                                      }
                                      std::vector<std::string> places;
                                      for (const PlanEntry& entry : program->plan().entries)
                                        if (entry.kernel == "all-reduce") places.push_back(entry.reason);
                                      EXPECT_THAT(places, SizeIs(2));
                                      EXPECT_THAT(places, Each(on_host ? "" : "in the device's memory"));
                                      EXPECT_THAT(program->plan().notes, Contains(HasSubstr("other ranks")));
                                    }),
                Each(""));
  }
}

}  // namespace
}  // namespace halfstep::cudnn
