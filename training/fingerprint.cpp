#include "training/fingerprint.h"

#include <fmt/format.h>

namespace halfstep {

std::string fingerprint(const Graph& graph) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  auto add = [&](std::string_view text) {
    for (unsigned char c : text) hash = (hash ^ c) * 0x100000001b3u;
    hash = (hash ^ 0xff) * 0x100000001b3u;
  };
  auto add_value = [&](ValueId id) {
    if (id == kNoValue) return add("");
    const Value& value = graph[id];
    add(value.name);
    if (!value.is_constant() && !graph.is_input(id)) return;
    add(name_of(value.dtype));
    add(value.shape.to_string());
  };
  for (const Node& node : graph.nodes) {
    add(node.domain);
    add(node.op);
    for (ValueId id : node.inputs) add_value(id);
    for (ValueId id : node.outputs) add_value(id);
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace halfstep
