// Rows of arrays in batches.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <halfstep/graph/named_tensors.h>

namespace halfstep::python {

/// Tensors by name, for a step.
struct Batch {
  NamedTensors tensors;
};

/// Arrays by name with the same number of rows. Batches in order are views; otherwise they are gathered into buffers
/// that successive batches reuse.
class Rows {
 public:
  /// Throws Error(input) unless all have an axis of rows with the same length.
  explicit Rows(const NamedTensors& arrays);

  std::int64_t count() const { return count_; }
  /// i64[count()]: the index of the row at each position; unset: the original order. Throws Error(input) for others.
  void set_order(std::optional<Tensor> order);
  /// The rows [begin, end) of the order. Valid until the next call.
  const Batch& batch(std::int64_t begin, std::int64_t end);

 private:
  struct Array {
    std::string name;
    Tensor rows, buffer;
    std::size_t row_bytes = 0;
  };
  std::vector<Array> arrays_;
  std::int64_t count_ = 0;
  std::optional<Tensor> order_;
  Batch batch_;
};

}  // namespace halfstep::python
