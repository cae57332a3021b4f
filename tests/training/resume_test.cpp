// What a resumed run says of the checkpoint it goes on from, and what it refuses.
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/safetensors.h"
#include "graph/crc.h"
#include "tests/temporary_directory.h"
#include <halfstep/executors/registry.h>
#include <halfstep/training/checkpoint.h>
#include <halfstep/training/trainer.h>

namespace halfstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr auto kInput = Error::Kind::input;

LoadedModel linear_model() {
  return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> test
    (float[N, 2] x) => (float[N, 1] y, float[N, 1] z) <float[2, 1] w = {1, 1}> { y = MatMul(x, w) z = Neg(y) })");
}

Dataset rows(std::int64_t count) {
  Tensor x(DType::f32, {count, 2}), y(DType::f32, {count, 1});
  for (std::int64_t i = 0; i < 2 * count; ++i) x.data<float>()[i] = static_cast<float>(i % 3);
  return Dataset(DataArray::of(x, "x"), DataArray::of(y, "y"));
}

class Resume : public testing::Test {
 protected:
  TrainerOptions options() const {
    return {.precision = Precision::fp32, .steps = 3, .batch_size = 2, .checkpoint = dir_.path()};
  }

  void train(TrainerOptions options, std::int64_t count = 4) const {
    Trainer(linear_model(), *executor_, rows(count), std::move(options)).fit({});
  }

  /// What the run says that goes on for two steps.
  std::vector<std::string> resume(TrainerOptions options, std::int64_t count = 4) const {
    options.resume = dir_.path();
    options.steps += 2;
    std::vector<std::string> notices;
    Trainer(linear_model(), *executor_, rows(count), std::move(options))
        .fit({.on_notice = [&](const std::string& text) { notices.push_back(text); }});
    return notices;
  }

  void change(const std::function<void(Checkpoint&)>& change) const {
    Checkpoint checkpoint = load_checkpoint(dir_.path()).checkpoint;
    change(checkpoint);
    save_checkpoint(dir_.path(), checkpoint);
  }

  TemporaryDirectory dir_;
  std::unique_ptr<Executor> executor_ = make_reference_executor();
};

TEST_F(Resume, EachOptionThatDiffersIsALine) {
  struct Case {
    const char* line;
    std::function<void(TrainerOptions&)> change;
  };
  const Case cases[] = {
      {"resuming with --lr 0.01; the checkpoint was made with 0.001", [](auto& o) { o.schedule.base_lr = 0.01; }},
      {"resuming with --lr-schedule cosine:decay_steps=9,alpha=0; the checkpoint was made with constant",
       [](auto& o) { o.schedule = parse_schedule("cosine:decay_steps=9", o.schedule.base_lr); }},
      {"resuming with --beta1 0.8; the checkpoint was made with 0.9",
       [](auto& o) { o.optimizer.numbers["beta1"] = 0.8; }},
      {"resuming with --beta2 0.9; the checkpoint was made with 0.999",
       [](auto& o) { o.optimizer.numbers["beta2"] = 0.9; }},
      {"resuming with --epsilon 0.1; the checkpoint was made with 1e-08",
       [](auto& o) { o.optimizer.numbers["epsilon"] = 0.1; }},
      {"resuming with --weight-decay 0.5; the checkpoint was made with 0",
       [](auto& o) { o.optimizer.numbers["weight_decay"] = 0.5; }},
      {"resuming with --clip-norm 1; the checkpoint was made with 0", [](auto& o) { o.optimizer.clip_norm = 1; }},
      {"resuming with --loss l1; the checkpoint was made with mean_squared_error",
       [](auto& o) { o.losses[0].loss = "l1"; }},
      {"resuming with --loss-output z; the checkpoint was made with the first",
       [](auto& o) { o.losses[0].output = "z"; }},
      {"resuming with --precision bf16; the checkpoint was made with fp32",
       [](auto& o) { o.precision = Precision::bf16; }},
      {"resuming with --batch 3; the checkpoint was made with 2", [](auto& o) { o.batch_size = 3; }},
      {"resuming with --seed 7; the checkpoint was made with 0", [](auto& o) { o.seed = 7; }},
      {"resuming with --no-shuffle on; the checkpoint was made with off", [](auto& o) { o.shuffle = false; }},
      {"resuming with --freeze-batchnorm on; the checkpoint was made with off",
       [](auto& o) { o.mode.train_batchnorm = false; }},
      {"resuming with --scale 2; the checkpoint was made with by type", [](auto& o) { o.input.scale = 2; }},
  };
  for (const Case& c : cases) {
    train(options());
    TrainerOptions changed = options();
    c.change(changed);
    EXPECT_THAT(resume(changed), ElementsAre(c.line));
  }
  train(options());
  EXPECT_THAT(resume(options()), IsEmpty());
  train(options());
  EXPECT_THAT(resume(options(), 5), ElementsAre("resuming with rows of data 5; the checkpoint was made with 4"));
}

TEST_F(Resume, EveryOptimizerGoesOnBitForBit) {
  for (const char* name : {"reference", "onednn"}) {
    const std::unique_ptr<Executor> executor = make_executor(name, {.threads = 1});
    for (const OptimizerDef& row : optimizers()) {
      const auto states_after = [&](std::int64_t steps, const std::filesystem::path& resume) {
        TrainerOptions options = this->options();
        options.optimizer.name = row.name;
        if (row.find("momentum")) options.optimizer.numbers["momentum"] = 0.5;
        if (row.find("centered")) options.optimizer.numbers["centered"] = 1;
        options.steps = steps;
        options.resume = resume;
        Trainer(linear_model(), *executor, rows(4), options).fit({});
        return load_checkpoint(dir_.path()).checkpoint.tensors;
      };
      const auto whole = states_after(5, {}), part = states_after(3, {}), all = states_after(5, dir_.path());
      EXPECT_FALSE(identical(part.at("w"), whole.at("w"))) << row.name << " does not learn";
      ASSERT_EQ(all.size(), whole.size());
      for (const auto& [state, tensor] : whole) EXPECT_TRUE(identical(all.at(state), tensor)) << row.name << state;
    }
  }
}

TEST_F(Resume, ARunThatIsDoneSaysSo) {
  train(options());
  TrainerOptions same = options();
  same.steps -= 2;
  EXPECT_THAT(resume(same), ElementsAre("nothing is left to train: the checkpoint is of step 3, after 1 whole epoch"));
}

TEST_F(Resume, WhatTheStateDoesNotFitIsRefusedWithTheOption) {
  struct Case {
    const char* says;
    std::function<void(TrainerOptions&)> first, then;
  };
  const auto nothing = [](TrainerOptions&) {};
  const Case cases[] = {
      {"--momentum 0.9; the checkpoint was made with 0", [](auto& o) { o.optimizer = {.name = "sgd"}; },
       [](auto& o) {
         o.optimizer = {.name = "sgd", .numbers = {{"momentum", 0.9}}};
       }},
      {"expected --precision fp32 without a loss scale, as the checkpoint was made, got --precision fp32 with a loss "
       "scale\nHint: resume with the same flags, or --loss-scale 0, which",
       nothing, [](auto& o) { o.loss_scale = 8; }},
      {"expected --precision fp16 with a loss scale, as the checkpoint was made, got --precision bf16 without a loss "
       "scale\nHint: resume with --precision fp16, or --loss-scale 65536, which",
       [](auto& o) { o.precision = Precision::fp16; }, [](auto& o) { o.precision = Precision::bf16; }},
      {"expected --precision bf16 without a loss scale, as the checkpoint was made, got --precision fp16 with a loss "
       "scale\nHint: resume with --precision bf16, or --loss-scale 0, which",
       [](auto& o) { o.precision = Precision::bf16; }, [](auto& o) { o.precision = Precision::fp16; }},
      {"--accumulate 2; the checkpoint was made with 1", nothing, [](auto& o) { o.optimizer.accumulate = 2; }},
      {"--accumulate 2, as the checkpoint has accumulated gradients of 1 batches",
       [](auto& o) { o.optimizer.accumulate = 2; }, [](auto& o) { o.optimizer.accumulate = 4; }},
      {"--accumulate 2, or another divisor of the 2 steps",
       [](auto& o) {
         o.steps = 2;
         o.optimizer.accumulate = 2;
       },
       [](auto& o) {
         o.steps = 2;
         o.optimizer.accumulate = 4;
       }},
      {"--optimizer adam", nothing, [](auto& o) { o.optimizer.name = "sgd"; }},
  };
  for (const Case& c : cases) {
    TrainerOptions first = options(), then = options();
    c.first(first);
    c.then(then);
    train(first);
    EXPECT_THAT(error_of(kInput, [&] { resume(then); }), HasSubstr(c.says));
  }
  TrainerOptions first = options(), then = options();
  first.steps = then.steps = 4;  // two whole updates
  first.optimizer.accumulate = 2;
  then.optimizer.accumulate = 4;
  train(first);
  EXPECT_THAT(resume(then), testing::Contains("resuming with --accumulate 4; the checkpoint was made with 2"));
}

// Operators and names are the same; what a step computes is not.
TEST_F(Resume, AnotherAttributeOrConstantOfTheModelIsReported) {
  const auto with = [](const char* alpha, const char* factor) {
    return parse_model(fmt::format(
        R"(<ir_version: 10, opset_import: ["": 24]> test (float[N, 2] x) => (float[N, 1] y) <float[2, 1] w = {{1, 1}}>
           {{ c = Constant<value = float {{{}}}>() p = Gemm<alpha = {}>(x, w) y = Mul(p, c) }})",
        factor, alpha));
  };
  Trainer(with("1.0", "2"), *executor_, rows(4), options()).fit({});
  const auto notices_with = [&](const char* alpha, const char* factor) {
    TrainerOptions then = options();
    then.resume = dir_.path();
    then.checkpoint.clear();
    then.steps += 2;
    std::vector<std::string> notices;
    Trainer(with(alpha, factor), *executor_, rows(4), then).fit({.on_notice = [&](const std::string& text) {
      notices.push_back(text);
    }});
    return notices;
  };
  EXPECT_THAT(notices_with("1.0", "2"), IsEmpty());
  EXPECT_THAT(notices_with("-3.0", "2"), ElementsAre(HasSubstr("the model's attributes and constants")));
  EXPECT_THAT(notices_with("1.0", "5"), ElementsAre(HasSubstr("the model's attributes and constants")));
}

TEST_F(Resume, WhatNoRunLeavesIsRefused) {
  const auto set = [](const char* name, auto value) {
    return [name, value](Checkpoint& c) { c.tensors.at(name) = Tensor::scalar(value); };
  };
  const auto put = [](const char* name, float value) {
    return [name, value](Checkpoint& c) { c.tensors.at(name).data<float>()[1] = value; };
  };
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  struct Case {
    std::function<void(Checkpoint&)> change;
    const char* says;
  };
  const Case cases[] = {
      {put("w", kNan), "infinities or NaN in w"},
      {put("adam.v.w", kInf), "infinities or NaN in adam.v.w"},
      {set("loss_scale", 0.0f), "loss scale"},
      {set("loss_scale", -8.0f), "loss scale"},
      {set("loss_scale", kNan), "loss scale"},
      {set("loss_scale.good_steps", std::int64_t{-1}), "loss_scale.good_steps"},
      {set("optimizer.step", std::int64_t{-1}), "optimizer.step"},
      {set("optimizer.step", std::int64_t{4}), "0 to its 3 steps"},
      {[](Checkpoint& c) { c.state.step = -1; }, "whose step is a count"},
      {[](Checkpoint& c) { c.state.epoch = -1; }, "whose epoch is a count"},
      {[](Checkpoint& c) { c.state.position = -2; }, "whose position in the epoch"},
      {[](Checkpoint& c) { c.state.position = 4; }, "a row of the data, 0 to 3"},
  };
  TrainerOptions scaled = options();
  scaled.loss_scale = 8;
  for (const Case& c : cases) {
    train(scaled);
    change(c.change);
    EXPECT_THAT(error_of(kInput, [&] { resume(scaled); }), HasSubstr(c.says));
  }
}

TEST_F(Resume, GradientsOfABatchUnderWayMayHaveOverflowed) {
  TrainerOptions accumulating = options();
  accumulating.optimizer.accumulate = 2;
  train(accumulating);
  change(
      [](Checkpoint& c) { c.tensors.at("accumulator.w").data<float>()[0] = std::numeric_limits<float>::infinity(); });
  EXPECT_NO_THROW(resume(accumulating));
}

// Checkpoints once had a member for each of the few options they knew.
TEST_F(Resume, CheckpointsWithoutSettingsStillResume) {
  train(options());
  const Checkpoint now = load_checkpoint(dir_.path()).checkpoint;
  const std::string state = fmt::format(
      R"({{"batch_size":4,"epoch":1,"executor":"onednn","extra":{{}},"hyperparameters":"","model_fingerprint":"{}",)"
      R"("optimizer":"adam","position":2,"precision":"f32","schedule":"constant","seed":5,"step":3}})",
      now.state.model_fingerprint);
  std::uint32_t crc = crc_of(state);
  for (const auto& [name, tensor] : now.tensors) {
    const std::string header = fmt::format("\n{} {}{}\n", name, name_of(tensor.dtype()), tensor.shape().to_string());
    crc = crc_of(tensor, crc_of(header, crc));
  }
  write_safetensors(
      dir_ / kCheckpointFile,
      {now.tensors,
       {{"halfstep.checkpoint", "1"}, {"halfstep.state", state}, {"halfstep.crc32", fmt::format("{:08x}", crc)}}});
  EXPECT_THAT(resume(options()), ElementsAre("resuming with --batch 2; the checkpoint was made with 4",
                                             "resuming with --executor reference; the checkpoint was made with onednn",
                                             "resuming with --seed 0; the checkpoint was made with 5"));
  EXPECT_EQ(load_checkpoint(dir_.path()).checkpoint.state.step, 5);
}

}  // namespace
}  // namespace halfstep
