// Training on batches that the caller makes.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include "tests/training/small_rows.h"
#include <halfstep/data/batch_stream.h>
#include <halfstep/executors/executor.h>
#include <halfstep/training/trainer.h>

namespace halfstep {
namespace {

using ::testing::HasSubstr;

/// The rows of small_rows() in batches of three: the last one has two.
class Rows : public BatchStream {
 public:
  void begin(std::int64_t) override { row_ = 0; }
  NamedTensors next() override {
    ++calls;
    if (calls == fail_at) throw_failure("a batch", "a source that broke", "");
    const std::int64_t last = std::min<std::int64_t>(row_ + size, 8);
    if (row_ == last) return {};
    NamedTensors batch{{"x", x_.rows(row_, last).clone()}, {"labels", y_.rows(row_, last).clone()}};
    row_ = last;
    if (change) change(batch, calls);
    return batch;
  }

  std::int64_t size = 3, calls = 0, fail_at = -1;
  std::function<void(NamedTensors&, std::int64_t)> change;

 private:
  Tensor x_ = small_rows().x[0].rows.load(), y_ = small_rows().y->load();
  std::int64_t row_ = 0;
};

TrainerOptions options() {
  TrainerOptions result = small_options();
  result.shuffle = false;
  return result;
}

TEST(Streams, TrainAsADataSetOfTheSameBatchesDoes) {
  const auto executor = make_reference_executor();
  Rows rows;
  Trainer streamed(small_model(), *executor, rows, options());
  Trainer plain(small_model(), *executor, small_rows(), options());
  const std::vector<float> losses = losses_of(streamed);
  EXPECT_EQ(losses, losses_of(plain));
  EXPECT_EQ(losses.size(), 9U);
}

TEST(Streams, TellEpochsApart) {
  const auto executor = make_reference_executor();
  Rows rows;
  Trainer trainer(small_model(), *executor, rows, options());
  std::vector<std::int64_t> samples;
  trainer.fit({.on_epoch_end = [&](const StepResult& last, const Evaluation*) { samples.push_back(last.samples); }});
  EXPECT_THAT(samples, ::testing::ElementsAre(8, 8, 8));
}

TEST(Streams, AreGoneOnWithWhereACheckpointStands) {
  const TemporaryDirectory directory;
  const auto executor = make_reference_executor();
  Rows rows;
  Trainer whole(small_model(), *executor, rows, options());
  const std::vector<float> expected = losses_of(whole);
  TrainerOptions first = options();
  first.steps = 5;
  first.checkpoint = directory.path();
  Trainer begun(small_model(), *executor, rows, first);
  losses_of(begun);
  TrainerOptions rest = options();
  rest.resume = directory.path();
  Trainer resumed(small_model(), *executor, rows, rest);
  EXPECT_EQ(losses_of(resumed), std::vector<float>(expected.begin() + 5, expected.end()));
  rows.size = 4;
  Trainer other(small_model(), *executor, rows, rest);
  EXPECT_THROW(losses_of(other), Error) << "its batches do not end where the checkpoint stands";
}

TEST(Streams, SayWhatIsWrongWithABatch) {
  const auto executor = make_reference_executor();
  const struct {
    std::function<void(NamedTensors&, std::int64_t)> change;
    const char* says;
  } cases[] = {
      {[](NamedTensors& b, std::int64_t) { b.erase("x"); }, "input of the model"},
      {[](NamedTensors& b, std::int64_t call) {
         if (call > 2) b.erase("labels");
       },
       "'labels' in each batch"},
      {[](NamedTensors& b, std::int64_t call) {
         if (call > 2) b["x"] = Tensor(DType::f32, {3, 5});
       },
       "f32 [5]"},
      {[](NamedTensors& b, std::int64_t call) {
         if (call > 2) b["x"] = Tensor(DType::f32, {2, 2});
       },
       "rows of 'labels'"},
      {[](NamedTensors& b, std::int64_t call) {
         if (call > 2) b["x"] = Tensor::scalar(1.0f);
       },
       "along the first axis"},
      {[](NamedTensors& b, std::int64_t call) {
         if (call > 2) b["x"].data<float>()[3] = NAN;
       },
       "finite"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.says);
    Rows rows;
    rows.change = c.change;
    try {
      Trainer trainer(small_model(), *executor, rows, options());
      trainer.fit({});
      ASSERT_TRUE(trainer.failure()) << "nothing was wrong";
      EXPECT_THAT(trainer.failure()->what(), HasSubstr(c.says));
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(c.says));
    }
  }
}

TEST(Streams, ThatBreakLeaveWhatWasTrained) {
  const auto executor = make_reference_executor();
  Rows rows;
  Trainer trainer(small_model(), *executor, rows, options());
  rows.fail_at = rows.calls + 4;
  std::vector<std::string> notices;
  EXPECT_FALSE(trainer.fit({.on_notice = [&](const std::string& n) { notices.push_back(n); }}));
  ASSERT_TRUE(trainer.failure());
  EXPECT_THAT(trainer.failure()->what(), HasSubstr("a source that broke"));
  EXPECT_FALSE(identical(trainer.parameters().at("w"), Tensor::of<float>({0.5f, -1}, {2, 1})));
}

}  // namespace
}  // namespace halfstep
