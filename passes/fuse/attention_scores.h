// What exporters write between the product with keys and the Softmax: factors and masks.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// Of a product with a number, or a quotient by one: the operand and the factor.
std::optional<std::pair<ValueId, double>> scaled(const Graph& graph, ValueId id);

/// What is added to scores: a value, or a constant where a condition does not hold.
struct Mask {
  ValueId value = kNoValue, hides = kNoValue;
  bool shown = true;  ///< scores show where the condition is this
  double hidden = 0;
  std::size_t rank = 0;  ///< of the scores it was added to
};

/// Scores are the product times the factor, with the masks added.
struct Scores {
  ValueId product = kNoValue;
  double factor = 1;
  std::vector<Mask> masks;
};

/// Whether the values have matrices of the same extents, and as many.
bool same_matrices(const Graph& graph, ValueId a, ValueId b);

/// Whether the value is scores that nothing else reads; they are put into `found`. `depth`: nodes to look back through.
bool find_scores(const Graph& graph, ValueId id, Scores& found, int depth = 8);

/// The sum of masks that are known: their elements, broadcast to one shape.
struct KnownMask {
  Shape shape;
  std::vector<double> elements;
};

/// Takes what is known from the masks; those that are not stay.
std::optional<KnownMask> known_mask(const Graph& graph, std::vector<Mask>& masks);

/// It hides what comes after a query's own position, and nothing else.
bool is_causal(const KnownMask& mask, std::int64_t queries, std::int64_t keys);

/// Every row has a key that is not hidden.
bool shows_a_key(const KnownMask& mask);

/// What it hides stays hidden, whatever else is added.
bool hides_for_good(const KnownMask& mask);

}  // namespace halfstep
