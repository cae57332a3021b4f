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
#include "graph/error.h"

namespace halfstep {
namespace {

Shape with_rows(std::int64_t rows, const Shape& row) {
  std::vector<std::int64_t> dims{rows};
  dims.insert(dims.end(), row.begin(), row.end());
  return Shape(std::move(dims));
}

LoaderOptions checked(LoaderOptions options, const Dataset& data, const RowTransform& x, const RowTransform& y) {
  const auto require = [](bool holds, const char* required, const std::string& found) {
    if (!holds) throw_input_error(required, found, "mend the option");
  };
  require(options.batch_size >= 1, "a batch of at least one row", std::to_string(options.batch_size));
  require(options.prefetch >= 1, "at least one batch prepared ahead", std::to_string(options.prefetch));
  require(options.start.epoch >= 0 && options.start.row >= 0 && options.start.row <= data.rows(),
          "a start inside the data set", fmt::format("epoch {}, row {}", options.start.epoch, options.start.row));
  for (const auto& [array, transform] : {std::pair{&data.x, &x}, std::pair{&data.y, &y}})
    require(array->row_type() == transform->from, "transforms made for these arrays",
            fmt::format("{} has {}, the transform takes {}", array->name(), array->row_type().to_string(),
                        transform->from.to_string()));
  options.batch_size = std::min(options.batch_size, data.rows());
  return options;
}

}  // namespace

class BatchLoader::Impl {
 public:
  Impl(Dataset data, RowTransform x, RowTransform y, const LoaderOptions& options)
      : data_(std::move(data)),
        x_(std::move(x)),
        y_(std::move(y)),
        options_(checked(options, data_, x_, y_)),
        order_(static_cast<std::size_t>(data_.rows())),
        x_staging_(staging_for(x_)),
        y_staging_(staging_for(y_)),
        slots_(static_cast<std::size_t>(options_.prefetch) + 1) {
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
    const std::int64_t full = data_.rows() / options_.batch_size;
    const bool has_rest = data_.rows() % options_.batch_size != 0;
    return full + (has_rest && !options_.drop_last);
  }

 private:
  /// The memory of one batch, and a view of it for each number of rows that occurs.
  struct Slot {
    std::vector<Batch> views;
    Batch* current = nullptr;
  };

  /// Where rows are read to before they are converted; nothing when reading is all there is to do.
  Tensor staging_for(const RowTransform& transform) const {
    if (transform.is_copy) return {};
    return Tensor(transform.from.dtype, with_rows(options_.batch_size, transform.from.shape));
  }

  Slot make_slot() const {
    const Tensor x(x_.to.dtype, with_rows(options_.batch_size, x_.to.shape));
    const Tensor y(y_.to.dtype, with_rows(options_.batch_size, y_.to.shape));
    Slot slot;
    // Full batches, the last of an epoch, and the last of the epoch that was begun in its middle.
    for (std::int64_t rows : {options_.batch_size, data_.rows() % options_.batch_size,
                              (data_.rows() - options_.start.row) % options_.batch_size}) {
      const auto known = [&](const Batch& view) { return view.rows == rows; };
      if (rows > 0 && std::none_of(slot.views.begin(), slot.views.end(), known))
        slot.views.push_back({.x = x.rows(0, rows), .y = y.rows(0, rows), .rows = rows, .at = {}, .next = {}});
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
    for (std::int64_t rest = data_.rows() - at.row; rest > 0; rest = data_.rows() - at.row) {
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
    read(data_.x, x_, indices, x_staging_, batch.x);
    read(data_.y, y_, indices, y_staging_, batch.y);
    const std::int64_t end = at.row + rows;
    const std::int64_t rest = data_.rows() - end;
    const bool last = rest == 0 || (options_.drop_last && rest < options_.batch_size);
    batch.at = at;
    batch.next = last ? Cursor{at.epoch + 1, 0} : Cursor{at.epoch, end};
    slot.current = &batch;
    return batch.next;
  }

  static void read(const DataArray& array, const RowTransform& transform, std::span<const std::int64_t> rows,
                   Tensor& staging, Tensor& out) {
    if (transform.is_copy) {
      array.read_rows(rows, out.raw());
    } else {
      array.read_rows(rows, staging.raw());
      transform.apply(staging.raw(), rows, out.raw());
    }
  }

  const Dataset data_;
  const RowTransform x_, y_;
  const LoaderOptions options_;
  std::vector<std::int64_t> order_;
  Tensor x_staging_, y_staging_;

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

BatchLoader::BatchLoader(Dataset data, RowTransform x, RowTransform y, const LoaderOptions& options)
    : impl_(std::make_unique<Impl>(std::move(data), std::move(x), std::move(y), options)) {}

BatchLoader::~BatchLoader() = default;

const Batch* BatchLoader::next() { return impl_->next(); }
std::int64_t BatchLoader::batch_size() const { return impl_->batch_size(); }
std::int64_t BatchLoader::batches_per_epoch() const { return impl_->batches_per_epoch(); }

}  // namespace halfstep
