// Patterns of nodes, and what takes their place.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// What a value is computed by: an operator's first output, of operands that are patterns themselves. A pattern without
/// operators stands for any value.
///
/// Example, a product of x with one constant that nothing but the sum behind it reads:
/// `{.ops = {"Add"}, .commutes = true, .operands = {{.ops = {"Mul"}, .once = true, .operands = {x, constant}}, bias}}`
struct Pattern {
  std::string_view name = {};          ///< by which a match knows value and node; equal names stand for one value
  std::vector<std::string> ops = {};   ///< any of these; "ai.halfstep.X" for own ones
  bool once = false;                   ///< nothing reads the value but the node before it in the pattern
  bool commutes = false;               ///< its two operands may stand in either order
  std::vector<Pattern> operands = {};  ///< of the node's first inputs; further ones may be anything
  std::function<bool(const Graph&, ValueId)> value = {};     ///< holds of the value, where given
  std::function<bool(const Graph&, const Node&)> node = {};  ///< holds of the node, where given
};

/// Where in a graph a pattern was found.
class Match {
 public:
  explicit Match(std::size_t root) : root_(root) {}

  /// The node that gives the pattern's value, as an index.
  std::size_t root() const { return root_; }
  /// The value of that name; kNoValue for one that the pattern does not have.
  ValueId operator[](std::string_view name) const;

 private:
  friend class Matcher;
  std::size_t root_;
  std::vector<std::pair<std::string_view, ValueId>> values_;
};

/// Whether the node's first output is what the pattern says, in a way that `accept` takes: it is asked for each way
/// that there is until it says yes. The pattern outlives the match.
bool match(const Graph& graph, const Pattern& pattern, std::size_t node,
           const std::function<bool(const Match&)>& accept);

/// What to do where a pattern is found; false where it does nothing after all. It may add nodes and change those of the
/// match; those that nobody reads any more it can leave.
struct Rule {
  Pattern before;
  std::function<bool(Graph&, const Match&)> apply;
};

/// Applies the rules to every node that there is now, in order: the first that does something. Then removes what nobody
/// reads any more.
void rewrite(Graph& graph, const std::vector<Rule>& rules);

/// Any value.
Pattern any(std::string_view name);

}  // namespace halfstep
