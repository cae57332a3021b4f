#include "data/batch_loader.h"

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "data/epoch_order.h"
#include "data/row_shape.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

/// An array and how its rows are read.
struct Column {
  DataArray array;
  RowTransform transform;
  Tensor staging;  // where rows are read to before they are converted; nothing when reading is all there is to do
};

std::vector<Column> columns_of(const Dataset& data, std::vector<RowTransform> x, std::vector<LabelRows> labels) {
  const auto require = [](bool holds, const std::string& found) {
    if (!holds) throw_input_error("transforms made for these arrays", found, "fit the arrays to the model again");
  };
  require(x.size() == data.x.size(), fmt::format("{} for {} arrays", x.size(), data.x.size()));
  std::vector<Column> columns;
  for (std::size_t i = 0; i < x.size(); ++i) columns.push_back({data.x[i].rows, std::move(x[i]), {}});
  for (LabelRows& one : labels) {
    require(one.rows.rows() == data.rows(), fmt::format("{} rows of labels", one.rows.rows()));
    columns.push_back({std::move(one.rows), std::move(one.transform), {}});
  }
  for (const auto& [array, transform, staging] : columns)
    require(array.row_type() == transform.from, fmt::format("{} has {}, the transform takes {}", array.name(),
                                                            array.row_type().to_string(), transform.from.to_string()));
  return columns;
}

LoaderOptions checked(LoaderOptions options, std::int64_t rows) {
  const auto require = [](bool holds, const char* required, const std::string& found) {
    if (!holds) throw_input_error(required, found, "mend the option");
  };
  require(options.batch_size >= 1, "a batch of at least one row", std::to_string(options.batch_size));
  require(options.prefetch >= 1, "at least one batch prepared ahead", std::to_string(options.prefetch));
  require(options.start.epoch >= 0 && options.start.row >= 0 && options.start.row <= rows,
          "a start inside the data set", fmt::format("epoch {}, row {}", options.start.epoch, options.start.row));
  options.batch_size = std::min(options.batch_size, rows);
  return options;
}

}  // namespace

class BatchLoader::Impl {
 public:
  Impl(const Dataset& data, std::vector<RowTransform> x, std::vector<LabelRows> labels, const LoaderOptions& options)
      : rows_(data.rows()),
        inputs_(data.x.size()),
        options_(checked(options, rows_)),
        columns_(columns_of(data, std::move(x), std::move(labels))),
        order_(static_cast<std::size_t>(rows_)),
        slots_(static_cast<std::size_t>(options_.prefetch) + 1) {
    for (Column& column : columns_)
      if (!column.transform.is_copy)
        column.staging =
            Tensor(column.transform.from.dtype, with_rows(options_.batch_size, column.transform.from.shape));
    for (Slot& slot : slots_) slot = make_slot();
    thread_ = std::thread([this] { produce(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    room_.notify_one();
    thread_.join();
  }

  const Batch* next() {
    std::unique_lock lock(mutex_);
    if (holding_) {
      holding_ = false;
      first_ = (first_ + 1) % slots_.size();
      --filled_;
      // Waking the producer for every batch would cost a context switch each: it sleeps until half the ring is free.
      if (producer_waits_ && filled_ <= slots_.size() / 2) room_.notify_one();
    }
    ready_.wait(lock, [&] { return filled_ > 0 || ended_; });
    if (filled_ > 0) {
      holding_ = true;
      return slots_[first_].current;
    }
    if (error_) std::rethrow_exception(error_);
    return nullptr;
  }

  std::int64_t batch_size() const { return options_.batch_size; }

  std::int64_t batches_per_epoch() const {
    const std::int64_t full = rows_ / options_.batch_size;
    const bool has_rest = rows_ % options_.batch_size != 0;
    return full + (has_rest && !options_.drop_last);
  }

 private:
  /// The memory of one batch, and a view of it for each number of rows that occurs.
  struct Slot {
    std::vector<Batch> views;
    Batch* current = nullptr;
  };

  Slot make_slot() const {
    std::vector<Tensor> full;
    for (const Column& column : columns_)
      full.emplace_back(column.transform.to.dtype, with_rows(options_.batch_size, column.transform.to.shape));
    Slot slot;
    // Full batches, the last of an epoch, and the last of the epoch that was begun in its middle.
    for (std::int64_t rows :
         {options_.batch_size, rows_ % options_.batch_size, (rows_ - options_.start.row) % options_.batch_size}) {
      const auto known = [&](const Batch& view) { return view.rows == rows; };
      if (rows == 0 || std::any_of(slot.views.begin(), slot.views.end(), known)) continue;
      Batch& view = slot.views.emplace_back();
      view.rows = rows;
      for (std::size_t i = 0; i < full.size(); ++i)
        (i < inputs_ ? view.x : view.labels).push_back(full[i].rows(0, rows));
    }
    return slot;
  }

  void produce() {
    try {
      for (Cursor at = options_.start; !options_.end_epoch || at.epoch < *options_.end_epoch; at = {at.epoch + 1, 0})
        if (!produce_epoch(at)) break;
    } catch (...) {
      error_ = std::current_exception();
    }
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    ready_.notify_one();
  }

  /// Produces the rest of an epoch; false when asked to stop.
  bool produce_epoch(Cursor at) {
    if (options_.shuffle)
      shuffled_order(order_, options_.seed, at.epoch);
    else
      sequential_order(order_);
    for (std::int64_t rest = rows_ - at.row; rest > 0; rest = rows_ - at.row) {
      if (options_.drop_last && rest < options_.batch_size) break;
      Slot* slot = wait_for_room();
      if (!slot) return false;
      at = fill(*slot, at, std::min(rest, options_.batch_size));
      {
        const std::lock_guard lock(mutex_);
        ++filled_;
      }
      ready_.notify_one();
      if (at.row == 0) break;
    }
    return true;
  }

  Slot* wait_for_room() {
    std::unique_lock lock(mutex_);
    if (filled_ == slots_.size()) {
      producer_waits_ = true;
      room_.wait(lock, [&] { return filled_ <= slots_.size() / 2 || stopping_; });
      producer_waits_ = false;
    }
    if (stopping_) return nullptr;
    return &slots_[(first_ + filled_) % slots_.size()];
  }

  /// Reads and converts `rows` rows from `at` on; returns where the next batch starts.
  Cursor fill(Slot& slot, Cursor at, std::int64_t rows) {
    Batch& batch = *std::find_if(slot.views.begin(), slot.views.end(), [&](const Batch& b) { return b.rows == rows; });
    const auto indices =
        std::span<const std::int64_t>(order_).subspan(static_cast<std::size_t>(at.row), static_cast<std::size_t>(rows));
    const RowDraw draw{options_.seed, at.epoch};
    for (std::size_t i = 0; i < batch.x.size(); ++i) read(columns_[i], indices, draw, batch.x[i]);
    for (std::size_t i = 0; i < batch.labels.size(); ++i) read(columns_[inputs_ + i], indices, draw, batch.labels[i]);
    const std::int64_t end = at.row + rows;
    const std::int64_t rest = rows_ - end;
    const bool last = rest == 0 || (options_.drop_last && rest < options_.batch_size);
    batch.at = at;
    batch.next = last ? Cursor{at.epoch + 1, 0} : Cursor{at.epoch, end};
    slot.current = &batch;
    return batch.next;
  }

  static void read(Column& column, std::span<const std::int64_t> rows, const RowDraw& draw, Tensor& out) {
    if (column.transform.is_copy) {
      column.array.read_rows(rows, out.raw(), draw);
    } else {
      column.array.read_rows(rows, column.staging.raw(), draw);
      column.transform.apply(column.staging.raw(), rows, out.raw());
    }
  }

  const std::int64_t rows_;
  const std::size_t inputs_;
  const LoaderOptions options_;
  std::vector<Column> columns_;  // of data.x, then of labels
  std::vector<std::int64_t> order_;

  // The ring: slots [first_, first_ + filled_) are ready, and the consumer may hold the first of them.
  std::vector<Slot> slots_;
  std::size_t first_ = 0, filled_ = 0;
  bool holding_ = false;
  bool producer_waits_ = false, stopping_ = false, ended_ = false;
  std::exception_ptr error_;
  std::mutex mutex_;
  std::condition_variable ready_, room_;
  std::thread thread_;
};

BatchLoader::BatchLoader(const Dataset& data, std::vector<RowTransform> x, std::vector<LabelRows> labels,
                         const LoaderOptions& options)
    : impl_(std::make_unique<Impl>(data, std::move(x), std::move(labels), options)) {}

BatchLoader::~BatchLoader() = default;

const Batch* BatchLoader::next() { return impl_->next(); }
std::int64_t BatchLoader::batch_size() const { return impl_->batch_size(); }
std::int64_t BatchLoader::batches_per_epoch() const { return impl_->batches_per_epoch(); }

}  // namespace halfstep
