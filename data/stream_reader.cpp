#include "data/stream_reader.h"

#include <numeric>
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
                      tensor.is_defined() ? tensor.shape().to_string() : "nothing", "check what the stream gives");
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
  if (!began_) begin();
  while (!has_ahead_) {
    // An epoch without a batch ends at once; so does one that a resumed run has seen to its end.
    if (options_.end_epoch && at_.epoch >= *options_.end_epoch) return nullptr;
    const bool empty = at_.row == 0;
    if (empty)
      throw_input_error("a batch in each epoch of the stream", fmt::format("none in epoch {}", at_.epoch + 1), "");
    at_ = {at_.epoch + 1, 0};
    begin();
  }
  if (options_.end_epoch && at_.epoch >= *options_.end_epoch) return nullptr;
  std::swap(current_, ahead_);
  current_.at = at_;
  at_.row += current_.rows;
  has_ahead_ = read(ahead_);
  current_.next = at_;
  if (!has_ahead_) {
    current_.next = at_ = {at_.epoch + 1, 0};
    if (!options_.end_epoch || at_.epoch < *options_.end_epoch) {
      stream_.begin(at_.epoch);
      has_ahead_ = read(ahead_);
    }
  }
  return &current_;
}

void StreamReader::begin() {
  began_ = true;
  stream_.begin(at_.epoch);
  has_ahead_ = read(ahead_);
  for (std::int64_t seen = 0; has_ahead_ && seen < at_.row;) {
    seen += ahead_.rows;
    if (seen > at_.row)
      throw_input_error(
          fmt::format("a batch of the stream that starts at row {} of its epoch, to resume there", at_.row),
          "one across it", "make the same batches as in the run that is resumed");
    has_ahead_ = read(ahead_);
  }
}

bool StreamReader::read(Batch& batch) {
  const NamedTensors given = stream_.next();
  if (given.empty()) return false;
  batch.rows = 0;
  batch.x.clear();
  for (std::size_t i = 0; i < options_.x.size(); ++i)
    batch.x.push_back(converted(given, options_.x_names[i], options_.x[i], batch.rows));
  batch.labels.clear();
  for (std::size_t i = 0; i < options_.labels.size(); ++i)
    batch.labels.push_back(converted(given, options_.label_names[i], options_.labels[i], batch.rows));
  if (options_.batch_size && batch.rows != *options_.batch_size)
    throw_input_error(fmt::format("batches of {} rows: the model's batch size is fixed", *options_.batch_size),
                      std::to_string(batch.rows), "leave the last batch out, or export the model with an open batch");
  return true;
}

Tensor StreamReader::converted(const NamedTensors& given, const std::string& name, const RowTransform& transform,
                               std::int64_t& rows) const {
  const auto at = given.find(name);
  if (at == given.end())
    throw_input_error(fmt::format("'{}' in each batch of the stream", name), "none", "give it as in the first batch");
  const Tensor& tensor = at->second;
  require_rows(name, tensor);
  if (row_type(tensor) != transform.from)
    throw_input_error(fmt::format("rows of '{}' like the first batch's, {}", name, transform.from.to_string()),
                      row_type(tensor).to_string(), "give the same types and shapes in each batch");
  const std::int64_t count = tensor.shape()[0];
  if (rows == 0) rows = count;
  if (rows != count)
    throw_input_error(fmt::format("{} rows of '{}', as of the others", rows, name), std::to_string(count), "");
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), std::int64_t{0});
  require_finite(name, transform.from, tensor.raw(), numbers);
  if (transform.is_copy) return tensor;
  Tensor result(transform.to.dtype, with_rows(count, transform.to.shape));
  transform.apply(tensor.raw(), numbers, result.raw());
  return result;
}

}  // namespace halfstep
