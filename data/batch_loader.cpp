#include "data/batch_loader.h"

#include <array>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "data/epoch_order.h"
#include "data/row_shape.h"
#include <halfstep/base/error.h>
#include <halfstep/formats/row_source.h>
#include <halfstep/graph/named_tensors.h>

namespace halfstep {
namespace {

/// An array and the conversion of its rows.
struct Column {
  FittedRows rows;
  Tensor staging;  // buffer for rows before the conversion; undefined if rows are read without one
};

std::vector<Column> columns_of(BatchColumns given) {
  const auto require = [](bool holds, const std::string& found) {
    if (!holds) throw_input_error("transforms made for these arrays", found, "fit the arrays to the model again");
  };
  require(!given.x.empty(), "no array of inputs");
  std::vector<Column> columns;
  for (std::vector<FittedRows>* list : {&given.x, &given.labels, &given.sample_weights})
    for (FittedRows& one : *list) columns.push_back({std::move(one), {}});
  for (const auto& [one, staging] : columns) {
    require(one.rows.rows() == columns[0].rows.rows.rows(),
            fmt::format("{} rows of {}", one.rows.rows(), one.rows.name()));
    require(one.rows.row_type() == one.transform.from,
            fmt::format("{} has {}, the transform takes {}", one.rows.name(), one.rows.row_type().to_string(),
                        one.transform.from.to_string()));
  }
  return columns;
}

LoaderOptions checked(LoaderOptions options, std::int64_t rows) {
  const auto require = [](bool holds, const char* required, const std::string& found) {
    if (!holds) throw_input_error(required, found, "correct the option");
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
  Impl(BatchColumns columns, const LoaderOptions& options)
      : rows_(columns.x.empty() ? 0 : columns.x[0].rows.rows()),
        counts_{columns.x.size(), columns.labels.size(), columns.sample_weights.size()},
        options_(checked(options, rows_)),
        columns_(columns_of(std::move(columns))),
        order_(static_cast<std::size_t>(rows_)),
        slots_(batches_held(batch_bytes(), options_.prefetch)) {
    for (Column& column : columns_) {
      const RowTransform& transform = column.rows.transform;
      if (!transform.is_copy)
        column.staging = Tensor(transform.from.dtype, with_rows(most_own_rows(), transform.from.shape));
      RowSource* source = column.rows.rows.source().get();
      if (source && std::ranges::find(sources_, source) == sources_.end()) sources_.push_back(source);
    }
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
      // Waking the producer for every batch would cost a context switch each, so it sleeps until half the ring is free.
      if (producer_waits_ && filled_ <= slots_.size() / 2) room_.notify_one();
    }
    ready_.wait(lock, [&] { return filled_ > 0 || ended_; });
    if (filled_ > 0) {
      holding_ = true;
      return &slots_[first_].current->batch;
    }
    if (error_) std::rethrow_exception(error_);
    return nullptr;
  }

  const Batch* ahead() {
    const std::lock_guard lock(mutex_);
    const std::size_t held = holding_ ? 1 : 0;
    return filled_ > held ? &slots_[(first_ + held) % slots_.size()].current->batch : nullptr;
  }

  std::int64_t batch_size() const { return options_.batch_size; }

  std::int64_t batches_per_epoch() const {
    const std::int64_t full = rows_ / options_.batch_size;
    const bool has_rest = rows_ % options_.batch_size != 0;
    return full + (has_rest && !options_.drop_last);
  }

 private:
  /// The memory of a batch of this number of rows.
  struct View {
    Batch batch;
    std::vector<Tensor> columns;          // the tensors of the batch, in order
    std::vector<NamedTensors> of_source;  // destinations of each source: columns, or their staging buffers
  };
  /// The memory of one batch, and a view of it for each number of rows that occurs.
  struct Slot {
    std::vector<View> views;
    View* current = nullptr;
  };

  /// What is read of a batch of so many rows.
  std::int64_t own_rows(std::int64_t all) const { return std::max<std::int64_t>(1, options_.share.size(all)); }

  /// The rows of all ranks that a batch may have: a full one, the last of an epoch, and the last of the epoch that was
  /// begun in its middle. 0: there is none.
  std::array<std::int64_t, 3> batch_sizes() const {
    return {options_.batch_size, rows_ % options_.batch_size, (rows_ - options_.start.row) % options_.batch_size};
  }

  /// A share does not grow with the batch: of 7 rows the third of 5 ranks has two, of 8 it has one.
  std::int64_t most_own_rows() const {
    std::int64_t most = 0;
    for (const std::int64_t all : batch_sizes()) most = std::max(most, own_rows(all));
    return most;
  }

  std::size_t batch_bytes() const {
    std::size_t bytes = 0;
    for (const Column& column : columns_) {
      const RowType& type = column.rows.transform.to;
      bytes +=
          bytes_of(type.dtype, static_cast<std::size_t>(with_rows(own_rows(options_.batch_size), type.shape).count()));
    }
    return bytes;
  }

  Slot make_slot() const {
    std::vector<Tensor> full;
    for (const Column& column : columns_) {
      const RowType& type = column.rows.transform.to;
      full.emplace_back(type.dtype, with_rows(most_own_rows(), type.shape));
    }
    Slot slot;
    for (const std::int64_t all : batch_sizes()) {
      const std::int64_t rows = all == 0 ? 0 : own_rows(all);
      const auto known = [&](const View& view) { return view.batch.rows == rows; };
      if (rows == 0 || std::any_of(slot.views.begin(), slot.views.end(), known)) continue;
      slot.views.push_back(make_view(full, rows));
    }
    return slot;
  }

  View make_view(const std::vector<Tensor>& full, std::int64_t rows) const {
    View view;
    view.batch.rows = rows;
    view.of_source.resize(sources_.size());
    for (std::size_t i = 0; i < full.size(); ++i) {
      view.columns.push_back(full[i].rows(0, rows));
      std::vector<Tensor>& list = i < counts_.x                    ? view.batch.x
                                  : i < counts_.x + counts_.labels ? view.batch.labels
                                                                   : view.batch.sample_weights;
      list.push_back(view.columns.back());
      const DataArray& array = columns_[i].rows.rows;
      if (!array.source()) continue;
      const auto source = std::ranges::find(sources_, array.source().get()) - sources_.begin();
      view.of_source[source][array.name()] =
          columns_[i].staging.is_defined() ? columns_[i].staging.rows(0, rows) : view.columns.back();
    }
    return view;
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

  /// Produces the rest of an epoch; returns false if requested to stop.
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

  /// Reads and converts this rank's share of the `all` rows from `at` on; returns where the next batch starts.
  Cursor fill(Slot& slot, Cursor at, std::int64_t all) {
    const std::int64_t rows = own_rows(all);
    const bool is_spare = options_.share.size(all) == 0;
    const std::int64_t first = at.row + (is_spare ? all - 1 : options_.share.begin(all));
    View& view =
        *std::find_if(slot.views.begin(), slot.views.end(), [&](const View& v) { return v.batch.rows == rows; });
    const auto indices =
        std::span<const std::int64_t>(order_).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows));
    const RowDraw draw{options_.seed, at.epoch};
    for (std::size_t i = 0; i < sources_.size(); ++i) read_in_place(*sources_[i], indices, draw, view.of_source[i]);
    for (std::size_t i = 0; i < columns_.size(); ++i) read(columns_[i], indices, draw, view.columns[i]);
    const std::int64_t end = at.row + all;
    const std::int64_t rest = rows_ - end;
    const bool last = rest == 0 || (options_.drop_last && rest < options_.batch_size);
    view.batch.at = at;
    view.batch.all_rows = all;
    view.batch.is_spare = is_spare;
    view.batch.next = last ? Cursor{at.epoch + 1, 0} : Cursor{at.epoch, end};
    slot.current = &view;
    return view.batch.next;
  }

  /// Rows of a source are already read.
  static void read(Column& column, std::span<const std::int64_t> rows, const RowDraw& draw, Tensor& out) {
    const auto& [array, transform] = column.rows;
    void* to = transform.is_copy ? out.raw() : column.staging.raw();
    if (array.source())
      require_finite(array.name(), array.row_type(), to, rows);
    else
      array.read_rows(rows, to, draw);
    if (!transform.is_copy) transform.apply(to, rows, out.raw());
  }

  const std::int64_t rows_;
  const struct { std::size_t x, labels, sample_weights; } counts_;
  const LoaderOptions options_;
  std::vector<Column> columns_;  // x, labels, sample weights
  std::vector<RowSource*> sources_;
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

BatchLoader::BatchLoader(BatchColumns columns, const LoaderOptions& options)
    : impl_(std::make_unique<Impl>(std::move(columns), options)) {}

BatchLoader::~BatchLoader() = default;

const Batch* BatchLoader::next() { return impl_->next(); }
const Batch* BatchLoader::ahead() { return impl_->ahead(); }
std::int64_t BatchLoader::batch_size() const { return impl_->batch_size(); }
std::int64_t BatchLoader::batches_per_epoch() const { return impl_->batches_per_epoch(); }

}  // namespace halfstep
