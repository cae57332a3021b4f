// What one rank is asked for or meets, all ranks do; and ranks that were started differently are refused.
#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/distributed/run_on.h"
#include "tests/support/error_of.h"
#include "tests/temporary_directory.h"
#include "training/ranks.h"
#include <halfstep/training/checkpoint.h>
#include <halfstep/training/training_step.h>

namespace halfstep {
namespace {

using namespace test;
using ::testing::HasSubstr;

/// Callbacks of one rank of several, or of a run by itself.
auto on_rank(int rank, std::function<TrainerCallbacks(Trainer&)> callbacks) {
  return [rank, callbacks = std::move(callbacks)](Trainer& trainer, int own) {
    return own == rank ? callbacks(trainer) : TrainerCallbacks();
  };
}

struct Asked {
  const char* name;
  TrainerCallbacks (*callbacks)(Trainer&);
};

/// An epoch has two steps.
const Asked kAsked[] = {
    {"stop_in_a_step",
     [](Trainer& trainer) {
       return TrainerCallbacks{.on_step = [&](const StepResult& r) { trainer.control().stop = r.step == 3; }};
     }},
    {"stop_in_the_last_step_of_an_epoch",
     [](Trainer& trainer) {
       return TrainerCallbacks{.on_step = [&](const StepResult& r) { trainer.control().stop = r.step == 2; }};
     }},
    {"stop_before_a_step",
     [](Trainer& trainer) {
       return TrainerCallbacks{.on_step_begin = [&](std::int64_t step) { trainer.control().stop = step == 3; }};
     }},
    {"stop_at_the_end_of_an_epoch",
     [](Trainer& trainer) {
       return TrainerCallbacks{.on_epoch_end = [&](const StepResult& r, const Evaluation*) {
         if (r.epoch == 2) trainer.control().stop = true;
       }};
     }},
    {"skip",
     [](Trainer& trainer) {
       return TrainerCallbacks{
           .on_epoch_begin = [&](std::int64_t epoch, std::int64_t) { trainer.control().skip = epoch == 2; }};
     }},
};

class AskedOfOneRank : public ::testing::TestWithParam<Asked> {};

TEST_P(AskedOfOneRank, IsDoneByAll) {
  Job job = uneven();
  TemporaryDirectory folder;
  job.options.checkpoint = folder / "alone";
  job.callbacks = on_rank(0, GetParam().callbacks);
  const Course alone = run_on(0, job);
  for (const int rank : {0, 1, 2}) {
    job.options.checkpoint = folder / fmt::format("of{}", rank);
    job.callbacks = on_rank(rank, GetParam().callbacks);
    const Course run = run_on(3, job);
    expect_same_course(run, alone, fmt::format("asked of rank {}", rank));
    EXPECT_EQ(run.finished, alone.finished);
    // What was saved is where the run ended.
    EXPECT_EQ(load_checkpoint(job.options.checkpoint).checkpoint.state.step,
              load_checkpoint(folder / "alone").checkpoint.state.step);
  }
}
INSTANTIATE_TEST_SUITE_P(Callbacks, AskedOfOneRank, ::testing::ValuesIn(kAsked),
                         [](const auto& each) { return std::string(each.param.name); });

TEST(OnRanks, TheLearningRateIsThatOfTheFirstRank) {
  const auto set = [](Trainer& trainer, double rate) {
    return TrainerCallbacks{.on_start = [&trainer, rate](std::int64_t) { trainer.control().learning_rate = rate; }};
  };
  Job job = uneven();
  job.callbacks = [&](Trainer& trainer, int) { return set(trainer, 0.05); };
  const Course alone = run_on(0, job);
  job.callbacks = [&](Trainer& trainer, int rank) { return set(trainer, rank == 0 ? 0.05 : 0.5); };
  expect_same_course(run_on(2, job), alone, "rates that differ");
}

TEST(OnRanks, ASignalToOneRankStopsAllWithTheSameStep) {
  static std::atomic<bool> asked;
  for (const int rank : {0, 1}) {
    TemporaryDirectory folder;
    Job job = uneven();
    job.options.checkpoint = folder / "checkpoint";
    asked = false;
    job.stop = rank == 0 ? +[](int own) -> const std::atomic<bool>* { return own == 0 ? &asked : nullptr; }
                         : +[](int own) -> const std::atomic<bool>* { return own == 1 ? &asked : nullptr; };
    job.callbacks = on_rank(
        rank, [](Trainer&) { return TrainerCallbacks{.on_step = [](const StepResult& r) { asked = r.step >= 3; }}; });
    const Course run = run_on(2, job);
    EXPECT_FALSE(run.finished);
    EXPECT_EQ(run.steps.size(), 4u) << "the step that all had agreed on";
    EXPECT_EQ(load_checkpoint(job.options.checkpoint).checkpoint.state.step, 4);
  }
}

/// Whatever the sum of what they say.
TEST(StepAgreement, EveryRankFindsThatOrdersDiffer) {
  const std::vector<std::uint32_t> cases[] = {{1, 3, 2}, {1, 2, 2}, {0x10000, 0x30000, 0x20000}, {7, 0x10006, 7}};
  for (const std::vector<std::uint32_t>& orders : cases) {
    std::vector<std::string> found(3);
    run_ranks(3, [&](const auto& ranks) {
      const auto rank = static_cast<std::size_t>(ranks->rank());
      StepAgreement agreement(ranks.get(), 1);
      agreement.exchange(std::vector<double>{1}, false, 0xffffffff, {});
      found[rank] = error_of([&] { agreement.exchange(std::vector<double>{1}, false, orders[rank], {}); });
    });
    EXPECT_THAT(found, ::testing::Each(HasSubstr("the same gradients to be added up in the same order on all ranks")));
  }
}

/// Each rank looks for the node by rows of its own; all end with one text, which is of no rank.
TEST(OnRanks, ARunThatDivergesEndsWithOneError) {
  Job job;
  job.options.schedule.base_lr = 1e30f;
  job.options.max_skipped_in_a_row = 3;
  job.options.epochs = 50;
  std::vector<std::string> found(3);
  run_ranks(3, [&](const auto& ranks) {
    try {
      run_rank(job, ranks);
    } catch (const SharedError& error) {
      found[static_cast<std::size_t>(ranks->rank())] = error.what();
    }
  });
  EXPECT_THAT(found, ::testing::Each(HasSubstr("the first node that went non-finite: ")));
  EXPECT_THAT(found, ::testing::Each(HasSubstr(" on rank 0")));
  EXPECT_THAT(found, ::testing::Each(found[0]));
}

TEST(OnRanks, ACheckpointThatCannotBeWrittenIsTheFailureOfAll) {
  TemporaryDirectory folder;
  Job job = uneven();
  job.options.checkpoint = folder / "checkpoint";
  job.callbacks = on_rank(0, [&](Trainer&) {
    return TrainerCallbacks{.on_checkpoint = [&] {  // a file takes the folder's place
      std::filesystem::remove_all(folder / "checkpoint");
      std::ofstream(folder / "checkpoint") << "no folder";
    }};
  });
  const Course run = run_on(2, job);
  EXPECT_TRUE(run.finished);
  EXPECT_EQ(run.steps.size(), 6u) << "training goes on";
  EXPECT_THAT(run.failure, HasSubstr((folder / "checkpoint").string()));
}

/// A model for two rows, and seven rows: three batches, dealt to ranks in turn, and one row that is left out.
TEST(OnRanks, BatchesOfFixedSizeAreEvaluatedInTurn) {
  const auto model = [] {
    return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[2, 2] x) => (float[2, 1] y)
      <float[2, 1] w = {0.5, -1}, float[1] b = {0}, int64[2] s = {2, 1}> { z = Gemm(x, w, b) y = Reshape(z, s) })");
  };
  const auto evaluated = [&](const std::shared_ptr<Communicator>& ranks) {
    const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
    Tensor x(DType::f32, {7, 2}), y(DType::f32, {7, 1});
    for (std::int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(i % 5) / 4;
    for (std::int64_t i = 0; i < y.count(); ++i) y.data<float>()[i] = static_cast<float>(i % 2);
    const Dataset data(DataArray::of(x, "x"), DataArray::of(y, "y"));
    TrainerOptions options = small_options();
    options.metrics = parse_metrics("mae");
    options.ranks = ranks;
    return Trainer(model(), *executor, data, options).evaluate(data);
  };
  const Evaluation alone = evaluated(nullptr);
  for (const int size : {2, 3}) {
    run_ranks(size, [&](const auto& ranks) {
      const Evaluation together = evaluated(ranks);
      EXPECT_EQ(together.rows, alone.rows);
      expect_near(together.loss, alone.loss, "loss");
      expect_near(together.metrics.at(0).second, alone.metrics.at(0).second, "mae");
    });
  }
}

/// What is refused where rank 1 has another value, by the option that is changed. A new member of the options does not
/// compile here until it is one of the names below: then add a row, or say why ranks may differ in it.
TEST(OnRanks, EveryOptionIsCompared) {
  {
    [[maybe_unused]] const auto& [losses, loss_function, ignore_label, batch_axes, optimizer, schedule, precision,
                                  loss_scale, parameters, mode, epochs, steps, batch_size, ranks, bucket_bytes,
                                  sync_batchnorm, sharded, dtype, shuffle, seed, metrics, input, checkpoint,
                                  checkpoint_every, resume, settings, log_grad_norms, memory_budget, max_skipped,
                                  observer] = TrainerOptions();
    [[maybe_unused]] const auto& [train_batchnorm, train_dropout, step_seed] = TrainingModeOptions();
    [[maybe_unused]] const auto& [size, rank, bucket, buckets, sync, shards, owners, reduced] = RankOptions();
    [[maybe_unused]] const auto& [name, numbers, clip_norm, accumulate, norms, scale, groups] = OptimizerOptions();
    [[maybe_unused]] const auto& [enabled, initial, growth, backoff, interval, least, most] = LossScaleOptions();
  }
  // Not compared: functions (loss_function, observer), `ranks` itself, and memory_budget, which changes no result.
  using Change = void (*)(TrainerOptions&);
  const std::vector<std::pair<const char*, Change>> changes = {
      {"losses", [](auto& o) { o.losses[0].loss = "l1"; }},
      {"weight", [](auto& o) { o.losses[0].weight = 2; }},
      {"ignore_label", [](auto& o) { o.ignore_label = 3; }},
      {"optimizer", [](auto& o) { o.optimizer.name = "adam"; }},
      {"numbers", [](auto& o) { o.optimizer.numbers["momentum"] = 0.5; }},
      {"clip_norm", [](auto& o) { o.optimizer.clip_norm = 1; }},
      {"accumulate", [](auto& o) { o.optimizer.accumulate = 2; }},
      {"groups", [](auto& o) { o.optimizer.groups = {{.pattern = "w", .lr_factor = 2}}; }},
      {"schedule", [](auto& o) { o.schedule.base_lr = 0.01; }},
      {"precision", [](auto& o) { o.precision = Precision::bf16; }},
      {"loss_scale", [](auto& o) { o.loss_scale = 8; }},
      {"parameters", [](auto& o) { o.parameters.freeze = {"b"}; }},
      {"train_batchnorm", [](auto& o) { o.mode.train_batchnorm = false; }},
      {"train_dropout", [](auto& o) { o.mode.train_dropout = false; }},
      {"epochs", [](auto& o) { o.epochs = 4; }},
      {"steps", [](auto& o) { o.steps = 4; }},
      {"batch_size", [](auto& o) { o.batch_size = 4; }},
      {"bucket_bytes", [](auto& o) { o.bucket_bytes = 4; }},
      {"sync_batchnorm", [](auto& o) { o.sync_batchnorm = true; }},
      {"sharded_optimizer", [](auto& o) { o.sharded_optimizer = true; }},
      {"gradient_dtype", [](auto& o) { o.gradient_dtype = DType::bf16; }},
      {"shuffle", [](auto& o) { o.shuffle = false; }},
      {"seed", [](auto& o) { o.seed = 4; }},
      {"metrics", [](auto& o) { o.metrics = parse_metrics("mse"); }},
      {"input", [](auto& o) { o.input.scale = 2; }},
      {"checkpoint", [](auto& o) { o.checkpoint = "folder"; }},
      {"checkpoint_every", [](auto& o) { o.checkpoint_every = 4; }},
      {"resume", [](auto& o) { o.resume = "folder"; }},
      {"settings",
       [](auto& o) {
         o.settings = {{"--augment", "flip"}};
       }},
      {"log_grad_norms", [](auto& o) { o.log_grad_norms = true; }},
      {"max_skipped", [](auto& o) { o.max_skipped_in_a_row = 4; }},
  };
  const auto made = [](Change change) {
    run_ranks(2, [&](const auto& ranks) {
      const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
      TrainerOptions options = small_options();
      options.settings = {{"--augment", "none"}};
      options.ranks = ranks;
      if (change && ranks->rank() == 1) change(options);
      Trainer(small_model(), *executor, small_rows(), options);
    });
  };
  EXPECT_NO_THROW(made(nullptr));
  for (const auto& [option, change] : changes) {
    SCOPED_TRACE(option);
    EXPECT_THAT(error_of([&, change = change] { made(change); }), HasSubstr("on rank 1"));
  }
}

TEST(TrainingStepOnRanks, EveryOptionIsCompared) {
  {
    [[maybe_unused]] const auto& [loss, optimizer, learning_rate, precision, loss_scale, parameters, mode, batch_axes,
                                  memory_budget, ranks, bucket_bytes, sync_batchnorm, sharded, dtype, programs,
                                  observer] = TrainingStepOptions();
    [[maybe_unused]] const auto& [row, output, label_dtype, label_shape, class_axis, ignore_label, numbers,
                                  labels_input, labels, weight, class_weights, sample_weights, sample_weight_shape,
                                  reduction] = LossTerm();
  }
  // Not compared: what batches decide (types and shapes of labels) and what changes no result (memory_budget,
  // programs).
  using Change = void (*)(TrainingStepOptions&);
  const std::vector<std::pair<const char*, Change>> changes = {
      {"loss", [](auto& o) { o.loss->terms[0].loss = "l1"; }},
      {"output", [](auto& o) { o.loss->terms[0].output = "y"; }},
      {"class_axis", [](auto& o) { o.loss->terms[0].class_axis = 1; }},
      {"ignore_label", [](auto& o) { o.loss->terms[0].ignore_label = 1; }},
      {"labels", [](auto& o) { o.loss->terms[0].labels = "truth"; }},
      {"weight", [](auto& o) { o.loss->terms[0].weight = 2; }},
      {"class_weights",
       [](auto& o) {
         o.loss->terms[0].class_weights = {1, 2};
       }},
      {"sample_weights", [](auto& o) { o.loss->terms[0].sample_weights = "weights"; }},
      {"reduction", [](auto& o) { o.loss->terms[0].reduction = LossReduction::sum; }},
      {"optimizer", [](auto& o) { o.optimizer.name = "adam"; }},
      {"accumulate", [](auto& o) { o.optimizer.accumulate = 2; }},
      {"learning_rate", [](auto& o) { o.learning_rate = 0.5; }},
      {"precision", [](auto& o) { o.precision = Precision::bf16; }},
      {"loss_scale", [](auto& o) { o.loss_scale = 8; }},
      {"parameters", [](auto& o) { o.parameters.freeze = {"b"}; }},
      {"train_batchnorm", [](auto& o) { o.mode.train_batchnorm = false; }},
      {"train_dropout", [](auto& o) { o.mode.train_dropout = false; }},
      {"seed", [](auto& o) { o.mode.seed = 4; }},
      {"batch_axes",
       [](auto& o) {
         o.batch_axes = {{"x", 0}, {"y", 0}};
       }},
      {"bucket_bytes", [](auto& o) { o.bucket_bytes = 4; }},
      {"sync_batchnorm", [](auto& o) { o.sync_batchnorm = true; }},
      {"sharded_optimizer", [](auto& o) { o.sharded_optimizer = true; }},
      {"gradient_dtype", [](auto& o) { o.gradient_dtype = DType::bf16; }},
  };
  const auto made = [](Change change) {
    run_ranks(2, [&](const auto& ranks) {
      const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
      TrainingStepOptions options = small_step(ranks);
      if (change && ranks->rank() == 1) change(options);
      TrainingStep(small_model(), *executor, options);
    });
  };
  EXPECT_NO_THROW(made(nullptr));
  for (const auto& [option, change] : changes) {
    SCOPED_TRACE(option);
    EXPECT_THAT(error_of([&, change = change] { made(change); }), HasSubstr("on rank 1"));
  }
}

}  // namespace
}  // namespace halfstep
