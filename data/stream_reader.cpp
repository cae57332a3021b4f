#include "data/stream_reader.h"

#include <span>
#include <utility>

#include <fmt/format.h>

#include "data/row_shape.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

RowType row_type(const Tensor& tensor) {
  const Shape& shape = tensor.shape();
  return {tensor.dtype(), Shape(std::vector<std::int64_t>(shape.begin() + 1, shape.end()))};
}

void require_rows(const std::string& name, const Tensor& tensor) {
  if (!tensor.is_defined() || tensor.shape().rank() == 0 || tensor.shape()[0] == 0)
    throw_input_error(fmt::format("rows of '{}' along the first axis", name),
                      tensor.is_defined() ? tensor.shape().to_string() : "nothing", "check the stream's batches");
}

}  // namespace

Dataset first_batch(BatchStream& stream) {
  stream.begin(0);
  const NamedTensors batch = stream.next();
  std::vector<Dataset::Input> x;
  std::optional<DataArray> y;
  for (const auto& [name, tensor] : batch) {
    require_rows(name, tensor);
    if (name == kStreamLabels)
      y = DataArray::of(tensor.clone(), name);
    else
      x.push_back({name, DataArray::of(tensor.clone(), name)});
  }
  if (x.empty())
    throw_input_error("a first batch of the stream, with an input of the model",
                      batch.empty() ? "no batch" : "labels alone", "give tensors by the names of the model's inputs");
  return Dataset(std::move(x), std::move(y));
}

StreamReader::StreamReader(BatchStream& stream, StreamOptions options)
    : stream_(stream), options_(std::move(options)), at_(options_.start) {}

const Batch* StreamReader::next() {
  if (error_) std::rethrow_exception(error_);
  try {
    if (!to_next()) return nullptr;
  } catch (...) {
    error_ = std::current_exception();
    throw;
  }
  try {
    read_ahead();
  } catch (...) {  // after the batch that is whole
    error_ = std::current_exception();
  }
  return &current_.batch;
}

bool StreamReader::to_next() {
  if (!began_) begin();
  while (!has_ahead_) {
    // An epoch without a batch ends at once; so does one that a resumed run has seen to its end.
    if (options_.end_epoch && at_.epoch >= *options_.end_epoch) return false;
    const bool empty = at_.row == 0;
    if (empty)
      throw_input_error("a batch in each epoch of the stream", fmt::format("none in epoch {}", at_.epoch + 1), "");
    at_ = {at_.epoch + 1, 0};
    begin();
  }
  if (options_.end_epoch && at_.epoch >= *options_.end_epoch) return false;
  std::swap(current_, ahead_);
  Batch& batch = current_.batch;
  batch.at = at_;
  at_.row += batch.rows;
  batch.all_rows = batch.rows;
  batch.next = at_;
  return true;
}

void StreamReader::read_ahead() {
  Batch& batch = current_.batch;
  has_ahead_ = read(ahead_);
  if (!has_ahead_) {
    batch.next = at_ = {at_.epoch + 1, 0};
    if (!options_.end_epoch || at_.epoch < *options_.end_epoch) {
      stream_.begin(at_.epoch);
      has_ahead_ = read(ahead_);
    }
  }
}

void StreamReader::begin() {
  began_ = true;
  stream_.begin(at_.epoch);
  has_ahead_ = read(ahead_);
  for (std::int64_t seen = 0; has_ahead_ && seen < at_.row;) {
    seen += ahead_.batch.rows;
    if (seen > at_.row)
      throw_input_error(
          fmt::format("a batch of the stream that starts at row {} of its epoch, to resume there", at_.row),
          "one across it", "make the same batches as in the run that is resumed");
    has_ahead_ = read(ahead_);
  }
}

bool StreamReader::read(Slot& slot) {
  const NamedTensors given = stream_.next();
  if (given.empty()) return false;
  Batch& batch = slot.batch;
  batch.rows = 0;
  slot.buffers.resize(options_.x.size() + options_.labels.size() + options_.sample_weights.size());
  std::size_t next = 0;
  const auto read_all = [&](const std::vector<StreamColumn>& columns, std::vector<Tensor>& tensors) {
    tensors.resize(columns.size());
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const std::string& name = columns[i].name;
      const auto at = given.find(name);
      if (at == given.end())
        throw_input_error(fmt::format("'{}' in each batch of the stream", name), "none",
                          "give it as in the first batch");
      require_rows(name, at->second);
      const std::int64_t rows = at->second.shape()[0];
      if (batch.rows == 0) batch.rows = rows;
      if (batch.rows != rows)
        throw_input_error(fmt::format("{} rows of '{}', as of the others", batch.rows, name), std::to_string(rows), "");
      tensors[i] = converted(at->second, columns[i], slot.buffers[next++]);
    }
  };
  read_all(options_.x, batch.x);
  read_all(options_.labels, batch.labels);
  read_all(options_.sample_weights, batch.sample_weights);
  if (options_.batch_size && batch.rows != *options_.batch_size)
    throw_input_error(fmt::format("batches of {} rows: the model's batch size is fixed", *options_.batch_size),
                      std::to_string(batch.rows),
                      "omit the last batch, or export the model with a dynamic batch dimension");
  return true;
}

Tensor StreamReader::converted(const Tensor& given, const StreamColumn& column, Tensor& buffer) {
  const auto& [name, transform] = column;
  if (row_type(given) != transform.from)
    throw_input_error(fmt::format("rows of '{}' like the first batch's, {}", name, transform.from.to_string()),
                      row_type(given).to_string(), "give the same types and shapes in each batch");
  const std::int64_t rows = given.shape()[0];
  while (static_cast<std::int64_t>(numbers_.size()) < rows)
    numbers_.push_back(static_cast<std::int64_t>(numbers_.size()));
  const std::span<const std::int64_t> numbers(numbers_.data(), static_cast<std::size_t>(rows));
  require_finite(name, transform.from, given.raw(), numbers);
  if (transform.is_copy) return given;
  if (!buffer.is_defined() || buffer.shape()[0] < rows)
    buffer = Tensor(transform.to.dtype, with_rows(rows, transform.to.shape));
  transform.apply(given.raw(), numbers, buffer.raw());
  return buffer.shape()[0] == rows ? buffer : buffer.rows(0, rows);
}

}  // namespace halfstep
