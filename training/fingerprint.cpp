#include "training/fingerprint.h"

#include <bit>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <variant>

#include <fmt/format.h>

namespace halfstep {
namespace {

// FNV-1a of 64 bits.
class Hash {
 public:
  void add(std::string_view bytes) {
    for (const unsigned char c : bytes) hash_ = (hash_ ^ c) * 0x100000001b3u;
    hash_ = (hash_ ^ 0xff) * 0x100000001b3u;
  }
  void add(std::int64_t number) { add(fmt::format("{}", number)); }
  void add(float number) { add(static_cast<std::int64_t>(std::bit_cast<std::uint32_t>(number))); }
  void add(const Tensor& tensor) {
    add(name_of(tensor.dtype()));
    add(tensor.shape().to_string());
    if (tensor.dtype() == DType::string)
      for (const std::string& element : tensor.span<std::string>()) add(element);
    else
      add(std::string_view(static_cast<const char*>(tensor.raw()), tensor.bytes()));
  }
  template <class T>
  void add(const std::vector<T>& list) {
    for (const T& element : list) add(element);
    add("");
  }
  std::string text() const { return fmt::format("{:016x}", hash_); }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325u;
};

void add_contents(Hash& hash, const Graph& graph, const NameSet& parameters) {
  for (const Node& node : graph.nodes)
    for (const auto& [name, attribute] : node.attributes) {
      hash.add(name);
      std::visit(
          [&]<class T>(const T& value) {
            if constexpr (std::is_same_v<T, std::shared_ptr<const Graph>>)
              add_contents(hash, *value, {});
            else
              hash.add(value);
          },
          attribute);
    }
  for (const Value& value : graph.values)
    if (value.is_constant() && !parameters.contains(value.name)) hash.add(value.constant);
}

void add_work(Hash& hash, const Graph& graph) {
  const auto add_types = [&](const std::vector<ValueId>& ids) {
    for (const ValueId id : ids) {
      if (id == kNoValue) continue;
      hash.add(name_of(graph[id].dtype));
      hash.add(graph[id].shape.to_string());
    }
    hash.add("");
  };
  for (const Node& node : graph.nodes) {
    hash.add(node.domain);
    hash.add(node.op);
    add_types(node.inputs);
    add_types(node.outputs);
    for (const auto& [name, attribute] : node.attributes) {
      hash.add(name);
      std::visit(
          [&]<class T>(const T& value) {
            if constexpr (std::is_same_v<T, std::shared_ptr<const Graph>>)
              add_work(hash, *value);
            else
              hash.add(value);
          },
          attribute);
    }
  }
}

}  // namespace

std::string fingerprint(const Graph& graph) {
  Hash hash;
  auto add_value = [&](ValueId id) {
    if (id == kNoValue) return hash.add("");
    const Value& value = graph[id];
    hash.add(value.name);
    if (!value.is_constant() && !graph.is_input(id)) return;
    hash.add(name_of(value.dtype));
    hash.add(value.shape.to_string());
  };
  for (const Node& node : graph.nodes) {
    hash.add(node.domain);
    hash.add(node.op);
    for (ValueId id : node.inputs) add_value(id);
    for (ValueId id : node.outputs) add_value(id);
  }
  return hash.text();
}

std::string fingerprint_of_work(const Graph& graph) {
  Hash hash;
  add_work(hash, graph);
  return hash.text();
}

std::string fingerprint_of_contents(const Graph& graph, const NameSet& parameters) {
  Hash hash;
  add_contents(hash, graph, parameters);
  return hash.text();
}

}  // namespace halfstep
