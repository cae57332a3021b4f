// Training on several ranks, as threads of this process, is training on one with the whole batch.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/distributed/run_on.h"
#include "tests/support/error_of.h"
#include "tests/temporary_directory.h"
#include <halfstep/training/callbacks.h>
#include <halfstep/training/training_step.h>

namespace halfstep {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using namespace test;

/// Models as frameworks export them: an MLP, a convolution network, a transformer and an LSTM, over 50 steps.
class TrainedOnRanks : public ::testing::TestWithParam<const char*> {};

TEST_P(TrainedOnRanks, FollowsOneProcessWithTheWholeBatch) {
  Job job = zoo(GetParam());
  job.options.optimizer.numbers = {{"momentum", 0.9}};
  job.options.schedule.base_lr = 0.001;  // losses stay large beside the rounding of scores
  expect_the_same_on_ranks(job, {2, 4});
}
INSTANTIATE_TEST_SUITE_P(Models, TrainedOnRanks,
                         ::testing::Values("mlp-torchscript", "lenet-torchscript", "bert-dynamo", "lstm-torchscript"),
                         [](const auto& each) {
                           const std::string name = each.param;
                           return name.substr(0, name.find('-'));
                         });

/// Numbers without a pattern, as text.
std::string numbers(int count, double size) {
  std::vector<std::string> texts;
  for (int i = 0; i < count; ++i) texts.push_back(fmt::format("{:.6f}", size * std::sin(1.7 * i * i + 0.3 * i + 1)));
  return fmt::format("{}", fmt::join(texts, ","));
}

/// Residual blocks of convolutions and BatchNormalization, computed in f64.
LoadedModel residual_in_f64() {
  constexpr int kChannels = 4, kBlocks = 3;
  std::string states = fmt::format("double[{0},2,3,3] first = {{{1}}}, double[{0},3] last = {{{2}}}", kChannels,
                                   numbers(kChannels * 18, 0.4), numbers(kChannels * 3, 0.8));
  std::string nodes = "h0 = Conv<pads = [1,1,1,1]>(x, first) ";
  for (int i = 0; i < kBlocks; ++i) {
    for (const char* part : {"a", "b"}) {
      const std::string id = fmt::format("{}{}", part, i);
      states +=
          fmt::format(", double[{0},{0},3,3] w{1} = {{{2}}}", kChannels, id, numbers(kChannels * kChannels * 9, 0.3));
      for (const auto& [name, value] : {std::pair("g", 1), {"o", 0}, {"m", 0}, {"v", 1}})
        states += fmt::format(", double[{}] {}{} = {{{}}}", kChannels, name, id,
                              fmt::join(std::vector<int>(kChannels, value), ","));
    }
    nodes += fmt::format(
        "c{0} = Conv<pads = [1,1,1,1]>(h{0}, wa{0}) n{0} = BatchNormalization(c{0}, ga{0}, oa{0}, ma{0}, va{0}) "
        "r{0} = Relu(n{0}) d{0} = Conv<pads = [1,1,1,1]>(r{0}, wb{0}) "
        "k{0} = BatchNormalization(d{0}, gb{0}, ob{0}, mb{0}, vb{0}) s{0} = Add(k{0}, h{0}) h{1} = Relu(s{0}) ",
        i, i + 1);
  }
  return parse_model(
      fmt::format("<ir_version: 10, opset_import: [\"\": 20]> m (double[N,2,6,6] x) => (double[N,3] y) <{}> {{ {} "
                  "p = GlobalAveragePool(h{}) f = Flatten(p) y = MatMul(f, last) }}",
                  states, nodes, kBlocks));
}

/// In f64 a difference is one of the formulas; in f32 those of rounding grow with the steps, and as a loss gets small.
TEST(SyncBatchNorm, AResidualNetworkInF64FollowsOneProcessForLong) {
  Job job;
  job.model = residual_in_f64;
  job.data = [] {
    Tensor x(DType::f64, {8, 2, 6, 6}), y(DType::i64, {8});
    for (std::int64_t i = 0; i < x.count(); ++i) x.data<double>()[i] = std::sin(0.37 * static_cast<double>(i * i % 97));
    for (std::int64_t i = 0; i < 8; ++i) y.data<std::int64_t>()[i] = i % 3;
    return Dataset(DataArray::of(x, "x"), DataArray::of(y, "y"));
  };
  job.options.losses = {{"softmax_cross_entropy"}};
  job.options.steps = 50;
  job.options.batch_size = 8;
  job.options.sync_batchnorm = true;
  const Course alone = run_on(0, job);
  EXPECT_LT(alone.steps.back().loss, 0.9 * alone.steps.front().loss) << "it learns";
  for (const int size : {2, 4}) {
    const Course together = run_on(size, job);
    ASSERT_EQ(together.steps.size(), 50u);
    for (std::size_t i = 0; i < 50; ++i)
      expect_near(together.steps[i].loss, alone.steps[i].loss, fmt::format("{} ranks, step {}", size, i + 1));
  }
}

TEST(SyncBatchNorm, AResidualNetworkFollowsOneProcessWithTheWholeBatch) {
  Job job = zoo("resnet-torchscript");
  job.options.batch_size = 8;
  job.options.schedule.base_lr = 0.005;  // the loss stays large beside the rounding of scores
  job.options.sync_batchnorm = true;
  const Course alone = run_on(0, job);
  EXPECT_LT(alone.steps.back().loss, 0.5 * alone.steps.front().loss) << "it learns";
  for (const int size : {2, 4}) {
    const Course together = run_on(size, job);
    ASSERT_EQ(together.steps.size(), 50u);
    for (std::size_t i = 0; i < 50; ++i)
      expect_near(together.steps[i].loss, alone.steps[i].loss, fmt::format("{} ranks, step {}", size, i + 1));
  }
}

TEST(TrainingStepOnRanks, GivesLossGradientsAndUpdateOfAllRows) {
  const Dataset data = small_rows();
  Tensor x(DType::f32, {8, 2}), y(DType::f32, {8, 1});
  std::vector<std::int64_t> all(8);
  std::iota(all.begin(), all.end(), 0);
  data.x[0].rows.read_rows(all, x.raw(), {});
  data.y->read_rows(all, y.raw(), {});
  const auto run = [&](const std::shared_ptr<Communicator>& ranks, std::vector<double>& numbers) {
    const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
    TrainingStepOptions options = small_step(ranks);
    options.learning_rate = 0.1;
    TrainingStep step(small_model(), *executor, options);
    // Three rows for rank 0, five for rank 1.
    const std::int64_t first = ranks && ranks->rank() == 1 ? 3 : 0, last = ranks && ranks->rank() == 0 ? 3 : 8;
    const NamedTensors batch{{"x", x.rows(first, last)}, {"labels", y.rows(first, last)}};
    for (int i = 0; i < 3; ++i) numbers.push_back(step.run(batch).loss);
    for (int i = 0; i < 2; ++i) numbers.push_back(step.forward_backward(batch, 0.5).loss);
    const Tensor gradients = step.flat_gradients();
    numbers.push_back(step.update().gradient_norm);
    const Tensor parameters = step.flat_parameters();
    for (const Tensor& values : {gradients, parameters})
      numbers.insert(numbers.end(), values.span<float>().begin(), values.span<float>().end());
  };
  std::vector<double> alone, together[2];
  run(nullptr, alone);
  run_ranks(2, [&](const auto& ranks) { run(ranks, together[ranks->rank()]); });
  EXPECT_EQ(together[0], together[1]);
  ASSERT_EQ(together[0].size(), alone.size());
  for (std::size_t i = 0; i < alone.size(); ++i) expect_near(together[0][i], alone[i], fmt::format("number {}", i));
}

TEST(TrainingStepOnRanks, RanksThatDifferAreRefusedAndNamed) {
  const auto make = [](const std::function<void(TrainingStepOptions&)>& change, const char* weights) {
    run_ranks(2, [&](const auto& ranks) {
      const bool differs = ranks->rank() == 1;
      const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
      TrainingStepOptions options = small_step(ranks, "adam");
      if (differs) change(options);
      const std::string model = fmt::format(
          "<ir_version: 10, opset_import: [\"\": 24]> m (float[N, 2] x) => (float[N, 1] y) "
          "<float[2, 1] w = {{{}}}, float[1] b = {{0}}> {{ y = Gemm(x, w, b) }}",
          differs ? weights : "0.5, -1");
      TrainingStep step(parse_model(model), *executor, options);
    });
  };
  using Change = std::function<void(TrainingStepOptions&)>;
  const struct {
    Change change;
    const char *weights, *error;
  } cases[] = {
      {[](auto&) {}, "0.5, -2", "the same parameters on all ranks"},
      {[](auto& options) { options.optimizer.clip_norm = 1; }, "0.5, -1", "the same --clip-norm on all ranks"},
      {[](auto& options) { options.learning_rate = 0.5; }, "0.5, -1", "0.001 on rank 0 and 0.5 on rank 1"},
      {[](auto& options) { options.loss->terms[0].weight = 2; }, "0.5, -1", "the same loss on all ranks"},
  };
  EXPECT_NO_THROW(make([](auto&) {}, "0.5, -1"));
  for (const auto& c : cases) EXPECT_THAT(error_of([&] { make(c.change, c.weights); }), HasSubstr(c.error));
}

TEST(OnRanks, AnUnevenLastBatchWeighsByRows) { expect_the_same_on_ranks(uneven()); }

/// 15 rows in batches of eight: of the last seven the third of five ranks has two, and of the others one.
TEST(OnRanks, ALastBatchMayHaveMoreRowsForARankThanAFullOne) {
  Job job = uneven();
  job.data = [] {
    Tensor x(DType::f32, {15, 2}), y(DType::f32, {15, 1});
    for (std::int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(i % 7) / 8;
    for (std::int64_t i = 0; i < y.count(); ++i) y.data<float>()[i] = static_cast<float>(i % 2);
    return Dataset(DataArray::of(x, "x"), DataArray::of(y, "y"));
  };
  job.options.batch_size = 8;
  expect_the_same_on_ranks(job, {5});
}

TEST(OnRanks, TheReferenceExecutorReducesToo) {
  Job job = uneven();
  job.executor = make_reference_executor;
  expect_the_same_on_ranks(job, {3});
}

TEST(OnRanks, ClippingAndAccumulatingLookAtAllGradients) {
  Job job = uneven();
  job.options.optimizer.clip_norm = 0.05;
  job.options.optimizer.accumulate = 2;
  job.options.log_grad_norms = true;
  job.options.bucket_bytes = 1;
  expect_the_same_on_ranks(job);
}

TEST(OnRanks, LabelsThatAreIgnoredAndSeveralLossesWeighAsInOneBatch) {
  Job job;
  job.model = [] {
    return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m
      (float[N, 2] x) => (float[N, 3] c, float[N, 1] v) <float[2, 3] w = {1, 2, 3, 0.5, -1, 0}, float[2, 1] u = {1, 1}>
      { c = MatMul(x, w) v = MatMul(x, u) })");
  };
  job.data = [] {
    const Dataset rows = small_rows();
    Tensor classes(DType::i64, {8});
    for (std::int64_t i = 0; i < 8; ++i) classes.data<std::int64_t>()[i] = i < 3 ? -100 : i % 3;
    Dataset data(std::vector<Dataset::Input>{
        {"x", rows.x[0].rows}, {"classes", DataArray::of(classes, "classes")}, {"values", *rows.y}});
    return data;
  };
  job.options.losses = {{.loss = "softmax_cross_entropy", .output = "c", .labels = "classes"},
                        {.loss = "mean_squared_error", .output = "v", .labels = "values", .weight = 2}};
  job.options.batch_size = 5;
  job.options.shuffle = false;  // the first ranks have nothing but ignored labels
  expect_the_same_on_ranks(job);
}

TEST(OnRanks, AnOverflowOnOneRankSkipsTheUpdateOnAll) {
  for (const int size : {2, 4}) {
    const Course run = run_on(size, overflowing());
    ASSERT_EQ(run.steps.size(), 6u);
    EXPECT_FALSE(run.steps[0].grads_finite);
    EXPECT_EQ(run.steps[0].update, 0);
    EXPECT_EQ(run.steps[1].loss_scale, 32768);
  }
}

TEST(OnRanks, TheSameRanksGiveTheSameBits) {
  Job job = uneven();
  job.options.optimizer.name = "adam";
  job.options.optimizer.numbers = {};
  EXPECT_TRUE(same_bits(run_on(4, job).parameters, run_on(4, job).parameters));
}

TEST(OnRanks, ARunGoesOnWithAnotherNumberOfRanks) {
  const Course alone = run_on(0, uneven());
  for (const auto& [before, after] : {std::pair(2, 4), std::pair(4, 0), std::pair(0, 3)}) {
    TemporaryDirectory folder;
    Job first = uneven(), second = uneven();
    first.options.checkpoint = folder / "checkpoint";
    first.options.steps = 3;  // in the middle of the second epoch
    run_on(before, first);
    second.options.resume = second.options.checkpoint = folder / "checkpoint";
    const Course rest = run_on(after, second);
    ASSERT_EQ(rest.steps.size(), 3u);
    for (std::size_t i = 0; i < rest.steps.size(); ++i)
      expect_near(rest.steps[i].loss, alone.steps[i + 3].loss,
                  fmt::format("{} to {} ranks, step {}", before, after, i));
    ASSERT_EQ(rest.epochs.size(), 10u);
    for (std::size_t i = 0; i < rest.epochs.size(); ++i)
      expect_near(rest.epochs[i], alone.epochs[i + 5], fmt::format("{} to {} ranks, number {}", before, after, i));
  }
}

TEST(OnRanks, RanksThatDifferAreRefusedAndNamed) {
  const auto error = [](const std::function<void(Job&)>& change) {
    return error_of([&] {
      run_ranks(2, [&](const auto& ranks) {
        Job job = uneven();
        if (ranks->rank() == 1) change(job);
        run_rank(job, ranks);
      });
    });
  };
  EXPECT_THAT(error([](Job& job) { job.options.schedule.base_lr = 0.5; }),
              AllOf(HasSubstr("--lr"), HasSubstr("0.1 on rank 0 and 0.5 on rank 1")));
  EXPECT_THAT(error([](Job& job) { job.options.batch_size = 4; }), HasSubstr("the same --batch on all ranks"));
  EXPECT_THAT(error([](Job& job) { job.options.precision = Precision::bf16; }), HasSubstr("the same --precision"));
  EXPECT_THAT(error([](Job& job) {
                job.model = [] {
                  return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 1] y)
                                        <float[2, 1] w = {0.5, -2}, float[1] b = {0}> { y = Gemm(x, w, b) })");
                };
              }),
              HasSubstr("the same parameters on all ranks"));
  EXPECT_THAT(error([](Job& job) { job.options.steps = 2; }), HasSubstr("the same --steps"));
  EXPECT_THAT(error([](Job& job) { job.options.metrics = parse_metrics("mse"); }),
              AllOf(HasSubstr("the same --metrics"), HasSubstr("mae on rank 0 and mse on rank 1")));
}

TEST(OnRanks, ResumingFromDifferentCheckpointsIsRefused) {
  TemporaryDirectory folder;
  const auto save = [&](const char* name, std::int64_t steps, double learning_rate) {
    Job job = uneven();
    job.options.checkpoint = folder / name;
    job.options.steps = steps;
    job.options.schedule.base_lr = learning_rate;
    run_on(0, job);
  };
  save("first", 3, 0.1);
  save("later", 4, 0.1);
  save("other", 3, 0.2);
  const auto resume = [&](const char* second) {
    run_ranks(2, [&](const auto& ranks) {
      Job job = uneven();
      job.options.resume = folder / (ranks->rank() == 0 ? "first" : second);
      run_rank(job, ranks);
    });
  };
  EXPECT_THAT(error_of([&] { resume("later"); }), HasSubstr("of the checkpoint on all ranks"));
  EXPECT_THAT(error_of([&] { resume("other"); }), HasSubstr("the same tensors of the checkpoint on all ranks"));
  EXPECT_NO_THROW(resume("first"));
}

TEST(OnRanks, TheBestModelIsWrittenByOneRank) {
  TemporaryDirectory folder;
  run_ranks(2, [&](const auto& ranks) {
    const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
    const Job job = zoo("mlp-torchscript");
    TrainerOptions options = job.options;
    options.ranks = ranks;
    options.steps = 0;
    options.epochs = 1;
    const LoadedModel model = job.model();
    const Dataset data = job.data();
    Trainer trainer(model, *executor, data, options);
    BestModel best(trainer, folder / fmt::format("best{}.onnx", ranks->rank()), model.source);
    trainer.fit(best.callbacks(), &data);
    EXPECT_EQ(trainer.is_first_rank(), ranks->rank() == 0);
  });
  EXPECT_TRUE(std::filesystem::exists(folder / "best0.onnx"));
  EXPECT_FALSE(std::filesystem::exists(folder / "best1.onnx"));
}

/// The squares of the inputs are about 1e6, and their variance is 0.04: less than a rounding of the squares.
TEST(SyncBatchNorm, InputsMayBeFarFromTheRunningMean) {
  Job job = uneven();
  job.model = [] {
    return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 1] y)
      <float[2] g = {1, 1}, float[2] o = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, 1}, float[2, 1] w = {0.5, -1}>
      { n = BatchNormalization(x, g, o, m, v) y = MatMul(n, w) })");
  };
  job.data = [] {
    Tensor x(DType::f32, {8, 2}), y(DType::f32, {8, 1});
    for (std::int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = 1024 + static_cast<float>(i % 3) / 4;
    for (std::int64_t i = 0; i < y.count(); ++i) y.data<float>()[i] = static_cast<float>(i % 2);
    return Dataset(DataArray::of(x, "x"), DataArray::of(y, "y"));
  };
  job.options.sync_batchnorm = true;
  job.options.shuffle = false;
  job.validates = false;
  job.options.steps = 2;
  const Course alone = run_on(0, job);
  for (const int size : {2, 4}) {
    const Course synced = run_on(size, job);
    ASSERT_EQ(synced.steps.size(), alone.steps.size());
    // A mean of 1024 is known to 6e-5, which is 3e-4 of the deviation.
    for (std::size_t i = 0; i < alone.steps.size(); ++i)
      expect_near(synced.steps[i].loss, alone.steps[i].loss, fmt::format("{} ranks, step {}", size, i + 1), 5e-3);
    for (std::size_t i = 0; i < 2; ++i)
      expect_near(synced.parameters.at("v").data<float>()[i], alone.parameters.at("v").data<float>()[i], "v", 1e-5);
  }
}

TEST(OnRanks, ABatchHasARowForEachRank) {
  Job job = uneven();
  job.options.batch_size = 3;
  EXPECT_THAT(error_of([&] { run_on(4, job); }), HasSubstr("a batch of at least 4 rows, one for each rank"));
}

TEST(OnRanks, ARankThatCannotReadItsRowsEndsAllAndLeavesTheCheckpoint) {
  TemporaryDirectory folder;
  const std::filesystem::path checkpoint = folder / "checkpoint";
  const std::string what = error_of([&] {
    run_ranks(2, [&](const auto& ranks) {
      Job job = uneven();
      job.options.epochs = 20;
      job.options.checkpoint = checkpoint;
      const int rank = ranks->rank();
      job.data = [rank] {
        const Dataset rows = small_rows();
        const RowType type = rows.x[0].rows.row_type();
        auto reads = std::make_shared<std::atomic<int>>(0);
        return Dataset(DataArray::made("x", type, 8,
                                       [=](std::span<const std::int64_t> wanted, const RowDraw&, void* out) {
                                         if (rank == 1 && ++*reads > 40)
                                           throw_input_error("whole rows", "a cut file", "");
                                         std::fill_n(static_cast<float*>(out), 2 * wanted.size(), 0.5f);
                                       }),
                       *rows.y);
      };
      run_rank(job, ranks);
    });
  });
  EXPECT_THAT(what, HasSubstr("a cut file"));
  // What was saved is whole.
  Job job = uneven();
  job.options.epochs = 20;
  job.options.resume = checkpoint;
  EXPECT_FALSE(run_on(0, job).steps.empty());
}

TEST(OnRanks, StatisticsAreThoseOfRankZeroOrOfAll) {
  Job job = uneven();
  job.model = [] {
    return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 1] y)
      <float[2] g = {1, 1}, float[2] o = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, 1}, float[2, 1] w = {0.5, -1}>
      { n = BatchNormalization(x, g, o, m, v) y = MatMul(n, w) })");
  };
  const Course run = run_on(2, job);  // whose parameters are compared, statistics among them
  EXPECT_TRUE(run.parameters.contains("m"));
  job.options.sync_batchnorm = true;
  const Course alone = run_on(0, job);
  for (const int size : {2, 4}) {  // of the last batch the fourth rank has no rows
    const Course synced = run_on(size, job);
    // What is divided by the deviation of five rows rounds more.
    expect_same_course(synced, alone, fmt::format("{} ranks", size), 1e-5);
    for (const char* name : {"m", "v"})
      for (std::size_t i = 0; i < 2; ++i)
        expect_near(synced.parameters.at(name).data<float>()[i], alone.parameters.at(name).data<float>()[i], name,
                    1e-5);
  }
}

}  // namespace
}  // namespace halfstep
