#include "onnx_io/module_scope.h"

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <vector>

namespace halfstep {
namespace {

/// A list of strings, as Python writes it: the names of the modules from the outermost on, each with those around it,
/// and at last the operation: ['', 'encoder', 'encoder.layer.0', 'linear_3'].
constexpr std::string_view kNames = "pkg.torch.onnx.name_scopes";
/// The same of their classes.
constexpr std::string_view kClasses = "pkg.torch.onnx.class_hierarchy";

const std::string* modules_of(const onnx::NodeProto& node) {
  const auto entry = std::ranges::find(node.metadata_props(), kNames, &onnx::StringStringEntryProto::key);
  return entry == node.metadata_props().end() ? nullptr : &entry->value();
}

std::vector<std::string> strings_in(std::string_view list) {
  std::vector<std::string> strings;
  char quote = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const char c = list[i];
    if (quote == 0) {
      if (c != '\'' && c != '"') continue;
      quote = c;
      strings.emplace_back();
    } else if (c == quote) {
      quote = 0;
    } else if (c == '\\' && i + 1 < list.size()) {
      strings.back() += list[++i];
    } else {
      strings.back() += c;
    }
  }
  return strings;
}

}  // namespace

std::string scoped_name(const onnx::NodeProto& node) {
  const std::string* modules = modules_of(node);
  if (!modules || node.name().empty()) return node.name();
  std::vector<std::string> names = strings_in(*modules);
  if (!names.empty()) names.pop_back();  // the operation
  std::string path, around;
  for (const std::string& name : names) {
    if (name.empty()) continue;  // the model itself
    path += '/';
    path += name.starts_with(around) ? name.substr(around.size()) : name;
    around = name + '.';
  }
  return path.empty() ? node.name() : path + '/' + node.name();
}

void copy_module_scope(const onnx::NodeProto& from, onnx::NodeProto& to) {
  for (const onnx::StringStringEntryProto& entry : from.metadata_props())
    if (entry.key() == kNames || entry.key() == kClasses) *to.add_metadata_props() = entry;
}

}  // namespace halfstep
