#include "conversion/node_patterns.h"

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

constexpr std::string_view kOp = "op:", kNode = "node:";

std::regex compile(const std::string& text) {
  try {
    return std::regex(text, std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& e) {
    throw_input_error("a regular expression after node:", "'" + text + "' (" + e.what() + ")",
                      "correct the expression");
  }
}

NodePattern parse_one(const std::string& text) {
  NodePattern pattern;
  if (text.starts_with(kOp)) {
    pattern = {NodePattern::Kind::op, text.substr(kOp.size())};
  } else if (text.starts_with(kNode)) {
    pattern = {NodePattern::Kind::node, text.substr(kNode.size())};
    compile(pattern.text);
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
  for (const NodePattern& pattern : patterns)
    entries_.push_back(
        {pattern, pattern.kind == NodePattern::Kind::node ? compile(pattern.text) : std::regex(), false});
}

bool Matcher::matches(const ViewNode& node) const {
  bool any = false;
  for (const Entry& entry : entries_) {
    const bool matches = entry.pattern.kind == NodePattern::Kind::op
                             ? entry.pattern.text == operator_of(node)
                             : std::regex_match(label_of(*node.proto), entry.expression);
    entry.used = entry.used || matches;
    any = any || matches;
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
