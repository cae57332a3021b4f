// Attributes of a node.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/tensor.h>

namespace HALFSTEP_API halfstep {

class Graph;

/// The value of one attribute. A subgraph (the body of If, Loop, Scan) is shared and must be copied before it is
/// changed.
using Attribute = std::variant<std::int64_t, float, std::string, Tensor, std::shared_ptr<const Graph>,
                               std::vector<std::int64_t>, std::vector<float>, std::vector<std::string>>;

/// Attributes by name, in order of insertion.
class Attributes {
 public:
  using Entry = std::pair<std::string, Attribute>;

  Attributes() = default;
  Attributes(std::initializer_list<Entry> entries) : entries_(entries) {}

  bool has(std::string_view name) const { return find(name) != nullptr; }
  const Attribute* find(std::string_view name) const;

  // Value of an attribute, or `fallback` if it is absent. Throws Error if it is present with another type.
  std::int64_t get_int(std::string_view name, std::int64_t fallback) const;
  float get_float(std::string_view name, float fallback) const;
  std::string get_string(std::string_view name, std::string_view fallback) const;
  std::vector<std::int64_t> get_ints(std::string_view name, std::vector<std::int64_t> fallback = {}) const;
  std::vector<float> get_floats(std::string_view name, std::vector<float> fallback = {}) const;

  void set(std::string_view name, Attribute value);
  void remove(std::string_view name);

  bool empty() const { return entries_.empty(); }
  std::size_t size() const { return entries_.size(); }
  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }

 private:
  std::vector<Entry> entries_;
};

}  // namespace halfstep
