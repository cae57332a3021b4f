// The elements of the tensors of an operation graph while it runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "tests/executors/cudnn/emulation/backend_descriptor.h"
#include "tests/executors/cudnn/emulation/numbers.h"

namespace emulation {

/// Values of the tensors of one run, row-major; what lies nowhere is rounded to its type.
class Values {
 public:
  Values(const std::map<std::int64_t, void*>& addresses) : addresses_(addresses) {}

  std::vector<double> read(const Tensor& t) const {
    if (t.is_virtual) return between_.at(t.id);
    std::vector<double> values(static_cast<std::size_t>(t.count()));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = load(t.type, addresses_.at(t.id), t.position(static_cast<std::int64_t>(i)));
    return values;
  }
  void write(const Tensor& t, std::vector<double> values) {
    if (t.is_virtual) {
      for (double& v : values) {
        alignas(double) std::byte rounded[sizeof(double)];
        store(t.type, rounded, 0, v);
        v = load(t.type, rounded, 0);
      }
      between_[t.id] = std::move(values);
      return;
    }
    for (std::size_t i = 0; i < values.size(); ++i)
      store(t.type, addresses_.at(t.id), t.position(static_cast<std::int64_t>(i)), values[i]);
  }

 private:
  const std::map<std::int64_t, void*>& addresses_;
  std::map<std::int64_t, std::vector<double>> between_;
};

}  // namespace emulation
