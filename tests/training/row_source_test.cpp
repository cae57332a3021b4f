// Data that is read by row from a source of the caller's.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include "tests/training/small_rows.h"
#include <halfstep/executors/executor.h>
#include <halfstep/formats/row_source.h>
#include <halfstep/training/trainer.h>

namespace halfstep {
namespace {

using ::testing::HasSubstr;

/// small_rows(), whose labels are i8: they are converted.
class Rows : public RowSource {
 public:
  std::int64_t rows() const override { return 8; }
  std::map<std::string, RowType> types() const override {
    return {{"x", {DType::f32, {2}}}, {"labels", {DType::i8, {1}}}};
  }
  void read(std::span<const std::int64_t> rows, const RowDraw& draw, NamedTensors& out) override {
    std::set<std::string> names;
    for (auto& [name, tensor] : out) {
      names.insert(name);
      for (std::size_t i = 0; i < rows.size(); ++i)
        if (name == "x")
          for (std::size_t c = 0; c < 2; ++c)
            tensor.data<float>()[2 * i + c] = x_.data<float>()[2 * static_cast<std::size_t>(rows[i]) + c];
        else
          tensor.data<std::int8_t>()[i] = static_cast<std::int8_t>(rows[i] % 2);
    }
    if (names.size() == 2) {
      ++batches;
      epochs.insert(draw.epoch);
    }
    if (change) change(rows, out);
  }

  std::atomic<int> batches = 0;  // read as a whole
  std::set<std::int64_t> epochs;
  std::function<void(std::span<const std::int64_t>, NamedTensors&)> change;

 private:
  Tensor x_ = small_rows().x[0].rows.load();
};

TEST(RowSources, TrainAsArraysDoAndReadEachBatchOnce) {
  const auto executor = make_reference_executor();
  const auto source = std::make_shared<Rows>();
  Trainer read(small_model(), *executor, Dataset(source), small_options());
  EXPECT_EQ(source->batches, 0) << "a loss is chosen by labels alone";
  Trainer plain(small_model(), *executor, small_rows(), small_options());
  const std::vector<float> losses = losses_of(read);
  EXPECT_EQ(losses, losses_of(plain));
  EXPECT_EQ(source->batches, 9);
  EXPECT_THAT(source->epochs, ::testing::ElementsAre(0, 1, 2));
  EXPECT_NEAR(read.evaluate(Dataset(source)).loss, plain.evaluate(small_rows()).loss, 1e-12);
}

TEST(RowSources, AreGoneOnWithWhereACheckpointStands) {
  const TemporaryDirectory directory;
  const auto executor = make_reference_executor();
  const Dataset data(std::make_shared<Rows>());
  Trainer whole(small_model(), *executor, data, small_options());
  const std::vector<float> expected = losses_of(whole);
  TrainerOptions first = small_options(), rest = small_options();
  first.steps = 5;
  first.checkpoint = rest.resume = directory.path();
  Trainer begun(small_model(), *executor, data, first);
  losses_of(begun);
  Trainer resumed(small_model(), *executor, data, rest);
  EXPECT_EQ(losses_of(resumed), std::vector<float>(expected.begin() + 5, expected.end()));
}

TEST(RowSources, SayWhatIsWrong) {
  const auto executor = make_reference_executor();
  const struct {
    const char* says;
    Error::Kind kind;
    std::function<void(std::span<const std::int64_t>, NamedTensors&)> change;
  } cases[] = {
      {"row 4 of x has NaN", Error::Kind::input,
       [](std::span<const std::int64_t> rows, NamedTensors& out) {
         const auto at = std::ranges::find(rows, 4);
         if (at != rows.end() && out.contains("x")) out["x"].data<float>()[2 * (at - rows.begin())] = NAN;
       }},
      {"others in their place", Error::Kind::failure,
       [](std::span<const std::int64_t>, NamedTensors& out) {
         if (out.contains("x")) out["x"] = out["x"].clone();
       }},
      {"a database that answers", Error::Kind::failure,
       [](std::span<const std::int64_t>, NamedTensors& out) {
         if (out.contains("x")) throw_failure("a database that answers", "silence", "");
       }},
  };
  for (const auto& c : cases) {
    const auto source = std::make_shared<Rows>();
    source->change = c.change;
    TrainerOptions o = small_options();
    o.batch_size = 8;
    Trainer trainer(small_model(), *executor, Dataset(source), o);
    EXPECT_THAT(error_of(c.kind, [&] { trainer.fit({}); }), HasSubstr(c.says));
  }
  EXPECT_THAT(error_of(Error::Kind::input, [] { DataArray::of(std::make_shared<Rows>(), "z"); }), HasSubstr("'z'"));
}

}  // namespace
}  // namespace halfstep
