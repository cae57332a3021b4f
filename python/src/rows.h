// Rows of arrays in batches.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <halfstep/graph/named_tensors.h>

namespace halfstep::python {

/// Tensors by name, as a step takes them.
struct Batch {
  NamedTensors tensors;
};

/// Arrays by name of as many rows each, of which batches are views while they come in order, and otherwise gathered in
/// buffers that one batch after the other uses.
class Rows {
 public:
  /// Throws Error(input) unless each has an axis of rows and as many of them as the others.
  explicit Rows(const NamedTensors& arrays);

  std::int64_t count() const { return count_; }
  /// i64[count()]: which row comes where; unset: in their order. Throws Error(input) for others.
  void set_order(std::optional<Tensor> order);
  /// The rows [begin, end) of the order. Good until the next call.
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
