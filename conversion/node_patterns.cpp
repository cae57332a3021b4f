#include "conversion/node_patterns.h"

#include <string_view>

#include <fmt/format.h>

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

constexpr std::string_view kOp = "op:", kNode = "node:";

// std::regex calls itself for each character, of expressions and of what they are matched with.
constexpr std::size_t kLongest = 1024;

std::regex compile(const std::string& text) {
  if (text.size() > kLongest)
    throw_input_error(fmt::format("a regular expression of at most {} bytes after node:", kLongest),
                      fmt::format("one of {}", text.size()), "write several, separated by commas");
  try {
    return std::regex(text, std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& e) {
    throw_input_error("a regular expression after node:", "'" + text + "' (" + e.what() + ")",
                      "correct the expression");
  }
}

/// The one text that an expression matches, where it has nothing special in it that is not escaped.
std::optional<std::string> only_match(const std::string& expression) {
  constexpr std::string_view kSpecial = R"(\^$.|?*+()[]{}/)";
  std::string text;
  for (std::size_t i = 0; i < expression.size(); ++i) {
    const bool escaped = expression[i] == '\\' && i + 1 < expression.size();
    i += escaped;
    if (expression[i] != '/' && escaped != (kSpecial.find(expression[i]) != std::string_view::npos))
      return std::nullopt;
    text += expression[i];
  }
  return text;
}

NodePattern parse_one(const std::string& text) {
  NodePattern pattern;
  if (text.starts_with(kOp)) {
    pattern = {NodePattern::Kind::op, text.substr(kOp.size())};
  } else if (text.starts_with(kNode)) {
    pattern = {NodePattern::Kind::node, text.substr(kNode.size())};
    if (!only_match(pattern.text)) compile(pattern.text);
  }
  if (pattern.text.empty())
    throw_input_error("nodes as op:TYPE or node:EXPRESSION, separated by commas", "'" + text + "'",
                      "write for example op:Softmax,node:/encoder/.*");
  return pattern;
}

}  // namespace

std::vector<NodePattern> parse_node_patterns(std::string_view text) {
  std::vector<NodePattern> patterns;
  std::string current;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && text[i] == '\\' && i + 1 < text.size() && text[i + 1] == ',') {
      current += text[++i];
    } else if (i == text.size() || text[i] == ',') {
      patterns.push_back(parse_one(current));
      current.clear();
    } else {
      current += text[i];
    }
  }
  return patterns;
}

namespace conversion {

std::string label_of(const onnx::NodeProto& node) {
  if (!node.name().empty()) return node.name();
  for (const std::string& output : node.output())
    if (!output.empty()) return output;
  return {};
}

std::string operator_of(const ViewNode& node) { return node.domain.empty() ? node.op : node.domain + "." + node.op; }

Matcher::Matcher(const std::vector<NodePattern>& patterns) {
  for (const NodePattern& pattern : patterns) {
    Entry& entry = entries_.emplace_back(Entry{pattern});
    if (pattern.kind == NodePattern::Kind::op) continue;
    entry.name = only_match(pattern.text);
    if (!entry.name) entry.expression = compile(pattern.text);
  }
}

bool Matcher::matches(const Entry& entry, const ViewNode& node) {
  if (entry.pattern.kind == NodePattern::Kind::op) return entry.pattern.text == operator_of(node);
  const std::string label = label_of(*node.proto);
  if (entry.name) return *entry.name == label;
  if (label.size() > kLongest)
    throw_input_error(
        fmt::format("names of nodes of at most {} bytes, to match '{}' with", kLongest, entry.pattern.text),
        fmt::format("one of {} bytes", label.size()), "name the nodes by op:TYPE");
  return std::regex_match(label, entry.expression);
}

bool Matcher::matches(const ViewNode& node) const {
  bool any = false;
  for (const Entry& entry : entries_) {
    const bool is_match = matches(entry, node);
    entry.used = entry.used || is_match;
    any = any || is_match;
  }
  return any;
}

std::vector<std::string> Matcher::unused() const {
  std::vector<std::string> texts;
  for (const Entry& entry : entries_)
    if (!entry.used)
      texts.push_back(std::string(entry.pattern.kind == NodePattern::Kind::op ? kOp : kNode) + entry.pattern.text);
  return texts;
}

}  // namespace conversion
}  // namespace halfstep
