#include "data/batch_loader.h"

#include <algorithm>
#include <limits>
#include <vector>

#include <gmock/gmock.h>

#include "data/epoch_order.h"
#include "tests/allocations.h"
#include "tests/data/temporary_folder.h"
#include <halfstep/data/dataset.h>

namespace halfstep {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

/// Row i has x = {i, -i} and y = i.
Dataset numbered(std::int64_t rows) {
  Tensor x(DType::f32, Shape{rows, 2}), y(DType::i32, Shape{rows});
  for (std::int64_t i = 0; i < rows; ++i) {
    x.data<float>()[2 * i] = static_cast<float>(i);
    x.data<float>()[2 * i + 1] = static_cast<float>(-i);
    y.data<std::int32_t>()[i] = static_cast<std::int32_t>(i);
  }
  return {DataArray::of(x, "x"), DataArray::of(y, "y")};
}

struct Seen {
  std::vector<std::int64_t> labels;
  Cursor at, next;
  bool operator==(const Seen&) const = default;
};

/// x is read as it is, y is converted: both ways into the ring.
BatchLoader loader_of(const Dataset& data, const LoaderOptions& options) {
  return BatchLoader({.x = {{data.x[0].rows, fit_input(data.x[0].rows, {DType::f32, Shape{2}})}},
                      .labels = {{*data.y, fit_target(*data.y, {DType::i64, Shape{}})}}},
                     options);
}

/// Up to `limit` batches, each checked against itself.
std::vector<Seen> batches(const Dataset& data, const LoaderOptions& options, std::size_t limit = 1000) {
  BatchLoader loader = loader_of(data, options);
  std::vector<Seen> result;
  while (result.size() < limit) {
    const Batch* batch = loader.next();
    if (!batch) break;
    EXPECT_EQ(batch->x[0].shape(), (Shape{batch->rows, 2}));
    EXPECT_EQ(batch->labels[0].shape(), (Shape{batch->rows}));
    Seen seen{to_int64s(batch->labels[0]), batch->at, batch->next};
    for (std::size_t i = 0; i < seen.labels.size(); ++i) {
      EXPECT_EQ(batch->x[0].data<float>()[2 * i], static_cast<float>(seen.labels[i]));
      EXPECT_EQ(batch->x[0].data<float>()[2 * i + 1], static_cast<float>(-seen.labels[i]));
    }
    EXPECT_EQ(batch->ends_epoch(), batch->next.row == 0);
    result.push_back(std::move(seen));
  }
  return result;
}

TEST(BatchLoader, KeepsTheFilesOrderWithoutShuffling) {
  const Dataset data = numbered(5);
  EXPECT_THAT(batches(data, {.batch_size = 2, .shuffle = false, .end_epoch = 2}),
              ElementsAre(Seen{{0, 1}, {0, 0}, {0, 2}}, Seen{{2, 3}, {0, 2}, {0, 4}}, Seen{{4}, {0, 4}, {1, 0}},
                          Seen{{0, 1}, {1, 0}, {1, 2}}, Seen{{2, 3}, {1, 2}, {1, 4}}, Seen{{4}, {1, 4}, {2, 0}}));
  EXPECT_THAT(batches(data, {.batch_size = 2, .shuffle = false, .drop_last = true, .end_epoch = 1}),
              ElementsAre(Seen{{0, 1}, {0, 0}, {0, 2}}, Seen{{2, 3}, {0, 2}, {1, 0}}));
}

TEST(BatchLoader, CountsBatches) {
  const struct {
    std::int64_t rows, batch;
    bool drop_last;
    std::int64_t size, per_epoch;
  } cases[] = {{5, 2, false, 2, 3}, {5, 2, true, 2, 2}, {4, 2, false, 2, 2}, {5, 100, true, 5, 1}, {1, 1, false, 1, 1}};
  for (const auto& c : cases) {
    const Dataset data = numbered(c.rows);
    const LoaderOptions options{.batch_size = c.batch, .drop_last = c.drop_last, .end_epoch = 3};
    BatchLoader loader = loader_of(data, options);
    EXPECT_EQ(loader.batch_size(), c.size);
    EXPECT_EQ(loader.batches_per_epoch(), c.per_epoch);
    EXPECT_EQ(batches(data, options).size(), static_cast<std::size_t>(3 * c.per_epoch));
  }
}

TEST(BatchLoader, VisitsEveryRowOnceAnEpochInTheSeedsOrder) {
  const Dataset data = numbered(1000);
  const auto seen = batches(data, {.batch_size = 64, .seed = 3, .end_epoch = 2});
  std::vector<std::int64_t> labels, expected(2000);
  for (const Seen& batch : seen) labels.insert(labels.end(), batch.labels.begin(), batch.labels.end());
  shuffled_order(std::span(expected).first(1000), 3, 0);
  shuffled_order(std::span(expected).last(1000), 3, 1);
  EXPECT_EQ(labels, expected);
}

TEST(BatchLoader, ResumedGoesOnAsIfNeverInterrupted) {
  const Dataset data = numbered(103);
  for (const bool drop_last : {false, true}) {
    LoaderOptions options{.batch_size = 10, .drop_last = drop_last, .seed = 5, .end_epoch = 3};
    const auto whole = batches(data, options);
    for (std::size_t done = 0; done <= whole.size(); ++done) {
      options.start = done ? whole[done - 1].next : Cursor{};
      EXPECT_EQ(batches(data, options),
                std::vector<Seen>(whole.begin() + static_cast<std::ptrdiff_t>(done), whole.end()));
    }
  }
}

TEST(BatchLoader, StartsAnywhereInAnEpoch) {
  const Dataset data = numbered(10);
  EXPECT_THAT(batches(data, {.batch_size = 4, .shuffle = false, .start = {0, 3}, .end_epoch = 1}),
              ElementsAre(Seen{{3, 4, 5, 6}, {0, 3}, {0, 7}}, Seen{{7, 8, 9}, {0, 7}, {1, 0}}));
  EXPECT_THAT(batches(data, {.batch_size = 8, .shuffle = false, .drop_last = true, .start = {0, 3}, .end_epoch = 2}),
              ElementsAre(Seen{{0, 1, 2, 3, 4, 5, 6, 7}, {1, 0}, {2, 0}}));
  EXPECT_THAT(batches(data, {.batch_size = 8, .start = {4, 10}, .end_epoch = 5}), ElementsAre());
}

TEST(BatchLoader, SmallRingsAndSlowConsumersGetTheSameBatches) {
  const Dataset data = numbered(500);
  const auto expected = batches(data, {.batch_size = 7, .end_epoch = 3, .prefetch = 64});
  for (const int prefetch : {1, 2, 3})
    EXPECT_EQ(batches(data, {.batch_size = 7, .end_epoch = 3, .prefetch = prefetch}), expected);
}

TEST(BatchLoader, StopsCleanlyWhenTheConsumerDoes) {
  const Dataset data = numbered(50);
  for (const std::size_t taken : {0, 1, 5, 40})
    for (const int prefetch : {1, 8})
      EXPECT_EQ(batches(data, {.batch_size = 3, .prefetch = prefetch}, taken).size(), taken);
}

TEST(BatchLoader, HoldsFewBatchesThatAreLarge) {
  constexpr std::size_t kMega = 1 << 20;
  const std::vector<std::pair<std::size_t, std::size_t>> held = {{0, 9},         {kMega / 100, 9}, {kMega, 9},
                                                                 {2 * kMega, 5}, {3 * kMega, 3},   {500 * kMega, 3}};
  for (const auto& [bytes, batches] : held) EXPECT_EQ(batches_held(bytes), batches) << bytes;
  EXPECT_EQ(batches_held(500 * kMega, 1), 2u);
  EXPECT_EQ(batches_held(1, 64), 65u);
}

TEST(BatchLoader, BatchesLieInARingThatIsUsedAgain) {
  const Dataset data = numbered(40);
  BatchLoader loader = loader_of(data, {.batch_size = 4, .prefetch = 2});
  std::vector<const void*> buffers;
  for (int i = 0; i < 30; ++i) {
    const void* buffer = loader.next()->x[0].raw();
    if (std::find(buffers.begin(), buffers.end(), buffer) == buffers.end()) buffers.push_back(buffer);
  }
  EXPECT_EQ(buffers.size(), 3u);
}

TEST(BatchLoader, AllocatesNothingOnceItRuns) {
  const Dataset data = numbered(1003);
  BatchLoader loader = loader_of(data, {.batch_size = 10, .prefetch = 2});
  for (int i = 0; i < 5; ++i) loader.next();
  const testing::AllocationCounter allocations;
  for (int i = 0; i < 5 * loader.batches_per_epoch(); ++i) loader.next();
  EXPECT_EQ(allocations.count(), 0);
}

TEST(BatchLoader, HandsOutTheGoodBatchesAndThenTheError) {
  Tensor x(DType::f32, Shape{10, 2}), y(DType::i32, Shape{10});
  x.data<float>()[2 * 7] = std::numeric_limits<float>::quiet_NaN();
  const Dataset data{DataArray::of(x, "x.npy"), DataArray::of(y, "y.npy")};
  BatchLoader loader = loader_of(data, {.batch_size = 3, .shuffle = false});
  EXPECT_NE(loader.next(), nullptr);
  EXPECT_NE(loader.next(), nullptr);
  for (int again = 0; again < 2; ++again)
    EXPECT_THAT(error_of([&] { loader.next(); }), HasSubstr("row 7 of x.npy has NaN"));
}

TEST(BatchLoader, RefusesOptionsOutOfRange) {
  const Dataset data = numbered(10);
  for (const LoaderOptions& wrong :
       {LoaderOptions{.batch_size = 0}, LoaderOptions{.batch_size = -5}, LoaderOptions{.prefetch = 0},
        LoaderOptions{.start = {-1, 0}}, LoaderOptions{.start = {0, -1}}, LoaderOptions{.start = {0, 11}}})
    EXPECT_THROW(loader_of(data, wrong), Error);
  const DataArray other = DataArray::of(Tensor(DType::f32, Shape{10, 3}), "other");
  EXPECT_THAT(error_of([&] {
                BatchLoader({.x = {{data.x[0].rows, fit_input(other, {DType::f32, Shape{3}})}}});
              }),
              HasSubstr("x has f32 [2], the transform takes f32 [3]"));
  EXPECT_THAT(error_of([&] {
                BatchLoader({.x = {}, .labels = {{*data.y, fit_target(*data.y, {DType::i64, Shape{}})}}});
              }),
              HasSubstr("no array of inputs"));
}

}  // namespace
}  // namespace halfstep
