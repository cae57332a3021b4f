// An optimizer of which each rank has a part is the whole one.
#include <filesystem>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "passes/step/shard_optimizer.h"
#include "tests/distributed/run_on.h"
#include "tests/support/half_copies.h"
#include "tests/temporary_directory.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/training/callbacks.h>
#include <halfstep/training/checkpoint.h>

namespace halfstep {
namespace {

using namespace test;

using ::testing::HasSubstr;

/// Parameters of 24, 12, 12 and 4 bytes.
LoadedModel two_layers() {
  return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 1] y)
    <float[2, 3] w = {0.5, -1, 0.25, 1, 0.125, -0.5}, float[3] b = {0, 0.5, -0.5}, float[3, 1] v = {1, -1, 0.5},
     float[1] c = {0}> { h = Gemm(x, w, b) t = Tanh(h) y = Gemm(t, v, c) })");
}

Job job_with(std::string_view optimizer) {
  Job job;
  job.model = two_layers;
  job.options.optimizer.name = optimizer;
  job.options.optimizer.numbers = {};
  job.options.batch_size = 5;
  return job;
}

Job sharded(Job job) {
  job.options.sharded_optimizer = true;
  return job;
}

void expect_same_bits(const Job& job, std::initializer_list<int> sizes, const std::string& what) {
  for (const int size : sizes) {
    const Course whole = run_on(size, job), shared = run_on(size, sharded(job));
    EXPECT_TRUE(same_bits(shared.parameters, whole.parameters)) << what << " on " << size;
    ASSERT_EQ(shared.steps.size(), whole.steps.size());
    for (std::size_t i = 0; i < whole.steps.size(); ++i) {
      EXPECT_EQ(shared.steps[i].loss, whole.steps[i].loss) << what << " on " << size << ", step " << i;
      EXPECT_EQ(shared.steps[i].grad_norm, whole.steps[i].grad_norm);
      EXPECT_EQ(shared.steps[i].update, whole.steps[i].update);
    }
  }
}

TEST(OwnersOf, BalanceBytesWhateverTheOrder) {
  std::vector<TensorInfo> parameters{{"a", DType::f32, Shape{6}},
                                     {"b", DType::f32, Shape{3}},
                                     {"c", DType::f64, Shape{2}},
                                     {"d", DType::f32, Shape{1}},
                                     {"e", DType::f32, Shape{3}}};
  const std::map<std::string, int> owners = owners_of(parameters, 2);
  EXPECT_EQ(owners, (std::map<std::string, int>{{"a", 0}, {"c", 1}, {"b", 1}, {"e", 0}, {"d", 1}}));
  std::ranges::reverse(parameters);
  EXPECT_EQ(owners_of(parameters, 2), owners);
  EXPECT_EQ(owners_of(std::span(parameters).first(1), 3), (std::map<std::string, int>{{"e", 0}}));
}

TEST(ShardedOptimizer, GivesTheSameBitsForEveryOptimizer) {
  for (const OptimizerDef& row : optimizers()) expect_same_bits(job_with(row.name), {2, 3}, std::string(row.name));
}

TEST(ShardedOptimizer, TheReferenceExecutorGathersToo) {
  for (const char* name : {"adam", "lamb"}) {
    Job job = job_with(name);
    job.executor = make_reference_executor;
    expect_same_bits(job, {2}, name);
  }
}

template <bool half_copies>
std::unique_ptr<Executor> cpu_executor(const ExecutorOptions& options) {
  return std::make_unique<HalfCopiesExecutor>(make_onednn_executor(options), half_copies);
}

/// Copies of what other ranks update are those of what was gathered.
TEST(ShardedOptimizer, HasHalfCopiesOfAllParameters) {
  for (const char* name : {"adam", "adafactor"})
    for (const Precision precision : {Precision::bf16, Precision::fp16}) {
      Job casts = job_with(name), overflows = overflowing(job_with(name));
      for (Job* job : {&casts, &overflows}) {
        job->options.precision = precision;
        job->validates = true;
        job->executor = cpu_executor<false>;
        const Course wanted = run_on(2, *job);
        job->executor = cpu_executor<true>;
        for (const Job& one : {*job, sharded(*job)}) {
          const Course run = run_on(2, one);
          EXPECT_TRUE(same_bits(run.parameters, wanted.parameters)) << name;
          EXPECT_EQ(run.epochs, wanted.epochs) << name;
          ASSERT_EQ(run.steps.size(), wanted.steps.size());
          for (std::size_t i = 0; i < run.steps.size(); ++i) EXPECT_EQ(run.steps[i].loss, wanted.steps[i].loss) << name;
        }
      }
    }
}

TEST(ShardedOptimizer, RanksMayHaveNoParameterOrAllOfThem) {
  expect_same_bits(job_with("adam"), {1, 5}, "more ranks than parameters");
  Job one = job_with("adam");
  one.model = [] {
    return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 1] y)
      <float[2, 1] w = {0.5, -1}> { y = MatMul(x, w) })");
  };
  expect_same_bits(one, {2, 3}, "one parameter");
}

TEST(ShardedOptimizer, ClipsAccumulatesAndGroupsAsTheWholeOne) {
  Job job = job_with("adamw");
  job.options.optimizer.clip_norm = 0.05;
  job.options.optimizer.accumulate = 2;
  job.options.optimizer.groups = {{.pattern = "w", .lr_factor = 0.5, .frozen_updates = 1},
                                  {.pattern = "?", .numbers = {{"weight_decay", 0.0}}}};
  job.options.log_grad_norms = true;
  job.options.bucket_bytes = 1;
  expect_same_bits(job, {2, 3}, "clipping");
}

TEST(ShardedOptimizer, IsTheSameWithStatisticsOfAllRanks) {
  Job job = job_with("adam");
  job.model = [] {
    return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 1] y)
      <float[2] g = {1, 1}, float[2] o = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, 1}, float[2, 1] w = {0.5, -1}>
      { n = BatchNormalization(x, g, o, m, v) y = MatMul(n, w) })");
  };
  job.options.sync_batchnorm = true;
  job.validates = true;
  expect_same_bits(job, {2, 3}, "statistics of all ranks");
  expect_same_course(run_on(3, sharded(job)), run_on(0, job), "alone", 1e-5);
}

TEST(ShardedOptimizer, AnOverflowSkipsTheUpdateOnAllRanks) {
  const Job job = overflowing(job_with("adam"));
  expect_same_bits(job, {2}, "overflow");
  const Course run = run_on(2, sharded(job));
  EXPECT_FALSE(run.steps[0].grads_finite);
  EXPECT_EQ(run.steps[0].update, 0);
}

/// Four matrices of 64 numbers each: a rank of four has the two moments of one.
TEST(ShardedOptimizer, ARankHasTheMomentsOfItsPart) {
  Job job = job_with("adam");
  std::string values = "1";
  for (int i = 1; i < 64; ++i) values += ", 0.1";
  job.model = [&] {
    return parse_model(fmt::format(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 8] x) => (float[N, 8] y)
      <float[8, 8] a = {{{0}}}, float[8, 8] b = {{{0}}}, float[8, 8] c = {{{0}}}, float[8, 8] d = {{{0}}}>
      {{ e = MatMul(x, a) f = MatMul(e, b) g = MatMul(f, c) y = MatMul(g, d) }})",
                                   values));
  };
  const auto moments_on = [&](bool is_sharded) {
    std::vector<std::size_t> moments(4);
    run_ranks(4, [&](const auto& ranks) {
      const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
      TrainerOptions options = job.options;
      options.ranks = ranks;
      options.sharded_optimizer = is_sharded;
      Tensor x(DType::f32, {8, 8}), y(DType::f32, {8, 8});
      const Dataset data(DataArray::of(x, "x"), DataArray::of(y, "y"));
      Trainer trainer(job.model(), *executor, data, options);
      moments[static_cast<std::size_t>(ranks->rank())] = trainer.memory().value().moments;
    });
    return moments;
  };
  constexpr std::size_t kCounter = 8, kMoments = 2 * 64 * 4;
  EXPECT_THAT(moments_on(false), ::testing::Each(kCounter + 4 * kMoments));
  EXPECT_THAT(moments_on(true), ::testing::Each(kCounter + kMoments));
}

/// With or without, from and to any number of ranks.
TEST(ShardedOptimizer, CheckpointsHaveTheWholeAndGoOnAnywhere) {
  Job job = job_with("adam");
  job.options.epochs = 5;
  const Course alone = run_on(0, job);
  const struct {
    int before, after;
    bool sharded_before, sharded_after;
  } cases[] = {{2, 3, true, true}, {3, 0, true, false}, {0, 2, false, true}, {2, 2, true, false}};
  for (const auto& c : cases) {
    TemporaryDirectory folder;
    Job first = job, second = job;
    first.options.checkpoint = folder / "checkpoint";
    first.options.steps = 3;
    first.options.sharded_optimizer = c.sharded_before;
    run_on(c.before, first);
    second.options.resume = second.options.checkpoint = folder / "checkpoint";
    second.options.sharded_optimizer = c.sharded_after;
    const Course rest = run_on(c.after, second);
    ASSERT_EQ(rest.steps.size() + 3, alone.steps.size());
    for (std::size_t i = 0; i < rest.steps.size(); ++i)
      expect_near(rest.steps[i].loss, alone.steps[i + 3].loss,
                  fmt::format("{} to {} ranks, step {}", c.before, c.after, i), 1e-5);
  }
}

TEST(ShardedOptimizer, CheckpointsAreTheSameAsOfTheWholeOne) {
  TemporaryDirectory folder;
  const auto tensors = [&](const char* name, bool is_sharded) {
    Job job = job_with("adam");
    job.options.checkpoint = folder / name;
    job.options.sharded_optimizer = is_sharded;
    run_on(3, job);
    return load_checkpoint(folder / name).checkpoint.tensors;
  };
  const NamedTensors whole = tensors("whole", false);
  EXPECT_TRUE(whole.contains("adam.m.w"));
  EXPECT_TRUE(same_bits(tensors("sharded", true), whole));
}

/// Of a rank, whose broadcasts are counted, and fail from one on.
class WatchedRank final : public Communicator {
 public:
  WatchedRank(std::shared_ptr<Communicator> rank, std::size_t first_that_fails)
      : rank_(std::move(rank)), first_that_fails_(first_that_fails) {}

  std::size_t broadcasts = 0, broadcast_bytes = 0;

  std::string_view name() const override { return rank_->name(); }
  int rank() const override { return rank_->rank(); }
  int size() const override { return rank_->size(); }
  void all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override {
    rank_->all_reduce(data, count, dtype, reduction);
  }
  std::unique_ptr<AllReduce> make_all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override {
    return rank_->make_all_reduce(data, count, dtype, reduction);
  }
  void reduce_scatter(const void* from, void* to, std::size_t count, DType dtype, Reduction reduction) override {
    rank_->reduce_scatter(from, to, count, dtype, reduction);
  }
  void all_gather(const void* from, void* to, std::size_t bytes) override { rank_->all_gather(from, to, bytes); }
  void broadcast(void* data, std::size_t bytes, int root) override {
    if (++broadcasts > first_that_fails_) throw_failure("MPI_Ibcast to work", "a connection that is gone", "");
    broadcast_bytes += bytes;
    rank_->broadcast(data, bytes, root);
  }
  void barrier() override { rank_->barrier(); }
  void abort(int exit_code) noexcept override { rank_->abort(exit_code); }

 private:
  std::shared_ptr<Communicator> rank_;
  std::size_t first_that_fails_;
};

/// Two ranks, of which the first is watched. Returns what ended it; empty: nothing.
std::string watched_run(const std::filesystem::path& checkpoint, std::size_t first_that_fails,
                        std::vector<std::string>& notices, std::size_t& bytes) {
  Job job = sharded(job_with("adam"));
  job.options.checkpoint = checkpoint;
  job.options.checkpoint_every = 1;
  job.options.steps = 2;
  job.callbacks = [&](Trainer&, int rank) {
    TrainerCallbacks callbacks;
    if (rank == 0) callbacks.on_notice = [&](const std::string& notice) { notices.push_back(notice); };
    return callbacks;
  };
  try {
    run_ranks(2, [&](const auto& ranks) {
      if (ranks->rank() > 0) return static_cast<void>(run_rank(job, ranks));
      const auto watched = std::make_shared<WatchedRank>(ranks, first_that_fails);
      run_rank(job, watched);
      bytes = watched->broadcast_bytes;
    });
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(ShardedOptimizer, ARankThatIsLostDuringACheckpointIsNoErrorOfTheDisk) {
  TemporaryDirectory folder;
  std::vector<std::string> notices;
  std::size_t bytes = 0;
  // The first checkpoint takes nine: a number and the two moments of the second rank's two parameters, and the end.
  EXPECT_THAT(watched_run(folder / "checkpoint", 11, notices, bytes),
              HasSubstr("expected MPI_Ibcast to work, got a connection that is gone, on rank 0"));
  EXPECT_THAT(notices, ::testing::Not(::testing::Contains(HasSubstr("no checkpoint"))));
  EXPECT_EQ(load_checkpoint(folder / "checkpoint").checkpoint.state.step, 1) << "the last one is whole";
}

TEST(ShardedOptimizer, ACheckpointFetchesEachMomentOnce) {
  TemporaryDirectory folder;
  std::vector<std::string> notices;
  std::size_t bytes = 0;
  EXPECT_EQ(watched_run(folder / "checkpoint", 1000, notices, bytes), "");
  // Of the 24, 12, 12 and 4 bytes of parameters the second rank has 24: the two of 12.
  constexpr std::size_t kNumbers = 5 * sizeof(std::int64_t);
  EXPECT_EQ(bytes, 2 * (2 * 24 + kNumbers)) << "two checkpoints";
}

TEST(ShardedOptimizer, ACheckpointThatCannotBeWrittenKeepsNoRankWaiting) {
  TemporaryDirectory folder;
  Job job = sharded(job_with("adam"));
  std::vector<std::string> notices;
  std::vector<std::size_t> steps(2);
  run_ranks(2, [&](const auto& ranks) {
    const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
    TrainerOptions options = job.options;
    options.ranks = ranks;
    options.checkpoint = folder / "checkpoint";
    options.checkpoint_every = 1;
    const Dataset data = job.data();
    Trainer trainer(job.model(), *executor, data, options);
    TrainerCallbacks callbacks;
    const bool is_first = ranks->rank() == 0;
    callbacks.on_start = [&](std::int64_t) {
      if (is_first) std::filesystem::remove_all(folder / "checkpoint");
    };
    callbacks.on_step = [&](const StepResult&) { ++steps[static_cast<std::size_t>(ranks->rank())]; };
    callbacks.on_notice = [&](const std::string& notice) {
      if (is_first) notices.push_back(notice);
    };
    trainer.fit(callbacks);
  });
  EXPECT_EQ(steps[0], steps[1]);
  EXPECT_GT(steps[0], 2u);
  EXPECT_THAT(notices, ::testing::Contains(HasSubstr("no checkpoint of step 1")));
}

}  // namespace
}  // namespace halfstep
