// Batches of a stream, one of which cannot be used.
#include "data/stream_reader.h"

#include <vector>

#include <gmock/gmock.h>

#include "tests/support/error_of.h"
#include <halfstep/data/batch_stream.h>

namespace halfstep {
namespace {

using ::testing::HasSubstr;

/// Batches of one row of "x", the same in each epoch.
class Rows : public BatchStream {
 public:
  explicit Rows(std::vector<Tensor> rows) : rows_(std::move(rows)) {}
  void begin(std::int64_t) override { at_ = 0; }
  NamedTensors next() override { return at_ < rows_.size() ? NamedTensors{{"x", rows_[at_++]}} : NamedTensors(); }

 private:
  std::vector<Tensor> rows_;
  std::size_t at_ = 0;
};

TEST(StreamReader, GivesTheGoodBatchesBeforeABadOneAndThenItsErrorEachTime) {
  const Tensor good = Tensor::of<float>({1, 2}, Shape{1, 2}), other = Tensor::of<float>({1}, Shape{1, 1});
  const RowType type{DType::f32, Shape{2}};
  for (std::size_t before = 0; before < 3; ++before) {
    std::vector<Tensor> rows(before, good);
    rows.push_back(other);
    rows.push_back(good);
    Rows stream(rows);
    StreamReader reader(stream, {.x = {{"x", fit_input(DataArray::of(good, "x"), type)}}, .end_epoch = 1});
    for (std::size_t i = 0; i < before; ++i) {
      const Batch* batch = reader.next();
      ASSERT_TRUE(batch) << i << " of " << before;
      EXPECT_TRUE(identical(batch->x.at(0), good));
    }
    for (int i = 0; i < 3; ++i)
      EXPECT_THAT(error_of([&] { reader.next(); }), HasSubstr("like the first batch's")) << i << " after " << before;
  }
}

}  // namespace
}  // namespace halfstep
