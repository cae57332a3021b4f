#include <algorithm>
#include <sstream>

#include "base/dtype_names.h"
#include <halfstep/graph/graph.h>

namespace halfstep {
namespace {

// Identifiers in ONNX's text form consist of letters, digits, _ . - /; others are quoted there, and so they are here.
std::string identifier(const std::string& name) {
  const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '.' || c == '/' || c == '-';
  }) && !std::isdigit(static_cast<unsigned char>(name[0]));
  return plain ? name : "\"" + name + "\"";
}

std::string type_of(const Value& value) {
  std::string text(onnx_name_of(value.dtype));
  if (value.shape.is_ranked() && value.shape.rank() > 0) {
    std::string dims = value.shape.to_string();
    dims.erase(std::remove(dims.begin(), dims.end(), ' '), dims.end());
    text += dims;
  } else if (!value.shape.is_ranked()) {
    text += "[]";
  }
  return text;
}

struct PrintAttribute {
  std::ostream& out;
  void operator()(std::int64_t v) const { out << v; }
  void operator()(float v) const {
    std::ostringstream text;
    text << v;
    out << text.str();
    if (text.str().find_first_of(".en") == std::string::npos) out << ".0";
  }
  void operator()(const std::string& v) const { out << '"' << v << '"'; }
  void operator()(const Tensor& v) const { elements(v); }
  void operator()(const std::shared_ptr<const Graph>& v) const { out << to_text(*v); }
  template <class T>
  void operator()(const std::vector<T>& list) const {
    out << '[';
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (i) out << ", ";
      (*this)(list[i]);
    }
    out << ']';
  }
  void elements(const Tensor& t) const {
    constexpr std::int64_t kShown = 16;
    const Value v{.name = {}, .dtype = t.dtype(), .shape = t.shape(), .constant = {}};
    out << type_of(v) << " {";
    if (is_float(t.dtype()) || is_integer(t.dtype()) || t.dtype() == DType::boolean) {
      const std::int64_t shown = std::min(t.count(), kShown);
      const Tensor head = Tensor::view(t.dtype(), Shape{shown}, const_cast<void*>(t.raw()));
      const std::vector<double> numbers = to_doubles(head);
      for (std::size_t i = 0; i < numbers.size(); ++i) out << (i ? ", " : "") << numbers[i];
      if (t.count() > kShown) out << ", …";
    }
    out << '}';
  }
};

void print_values(std::ostream& out, const Graph& graph, const std::vector<ValueId>& ids) {
  for (std::size_t i = 0; i < ids.size(); ++i)
    out << (i ? ", " : "") << type_of(graph[ids[i]]) << ' ' << identifier(graph[ids[i]].name);
}

void print_names(std::ostream& out, const Graph& graph, const std::vector<ValueId>& ids) {
  for (std::size_t i = 0; i < ids.size(); ++i)
    out << (i ? ", " : "") << (ids[i] == kNoValue ? std::string("\"\"") : identifier(graph[ids[i]].name));
}

}  // namespace

std::string to_text(const Graph& graph) {
  std::ostringstream out;
  out << identifier(graph.name.empty() ? "graph" : graph.name) << " (";
  print_values(out, graph, graph.inputs);
  out << ") => (";
  print_values(out, graph, graph.outputs);
  out << ")\n";
  for (const State& state : graph.states) {
    out << "# " << name_of(state.role) << ' ' << type_of(graph[state.value]) << ' '
        << identifier(graph[state.value].name);
    if (state.source != kNoValue) out << " of " << identifier(graph[state.source].name);
    if (state.next != kNoValue) out << " <- " << identifier(graph[state.next].name);
    out << '\n';
  }
  if (!graph.captures.empty()) {
    out << "# captures ";
    print_names(out, graph, graph.captures);
    out << '\n';
  }
  bool any = false;
  for (const Value& value : graph.values) {
    if (!value.is_constant()) continue;
    out << (any ? ",\n " : "<") << type_of(value) << ' ' << identifier(value.name) << " = ";
    PrintAttribute{out}.elements(value.constant);
    any = true;
  }
  if (any) out << ">\n";
  out << "{\n";
  for (const Node& node : graph.nodes) {
    out << "  [" << node.name << "] ";
    print_names(out, graph, node.outputs);
    out << " = " << (node.domain.empty() ? "" : node.domain + ".") << node.op;
    if (!node.attributes.empty()) {
      out << " <";
      bool first = true;
      for (const auto& [name, value] : node.attributes) {
        out << (first ? "" : ", ") << name << " = ";
        std::visit(PrintAttribute{out}, value);
        first = false;
      }
      out << '>';
    }
    out << " (";
    print_names(out, graph, {node.operands().begin(), node.operands().end()});
    out << ')';
    if (node.capture_count > 0) {
      out << "  # captures ";
      print_names(out, graph, {node.captures().begin(), node.captures().end()});
    }
    out << '\n';
  }
  out << "}\n";
  return out.str();
}

}  // namespace halfstep
