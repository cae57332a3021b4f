// A node of an elementwise operator as an expression of CUDA C++, for texts that kernels/device_text.h begins. What is
// a formula comes from ops/elementwise/formulas-inl.h.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "ops/elementwise/formula.h"
#include <halfstep/graph/graph.h>

namespace halfstep::cudnn {

/// The name of an element type in device_text.h, and of the type it is computed in; empty for types that the device
/// does not hold.
std::string_view element_name(DType dtype);
std::string_view value_name(DType dtype);

/// A float that reads back as it is.
std::string float_text(float x);

/// The functions that expressions call, each once.
class FormulaFunctions {
 public:
  /// The name of a formula's function on numbers of that type, or on bool where the formula is of truth.
  std::string call(const ops::FormulaDef& def, const ops::FormulaNumber& number);
  const std::string& text() const { return text_; }

 private:
  std::set<std::string> known_;
  std::string text_;
};

/// An expression of a node's operands. Operands come in the type that their element type is computed in, and the result
/// is rounded to the node's by whoever asks.
struct ElementText {
  std::string text;                ///< operand i is $i; empty where the operator has none for these types
  std::vector<std::size_t> reads;  ///< the operands that it names

  explicit operator bool() const { return !text.empty(); }
  /// With names in the places of operands: names[k] for operand reads[k].
  std::string with(const std::vector<std::string>& names) const;
};

/// Of a node that gives one result of one element for one element each of its operands.
ElementText element_text(const Graph& graph, const Node& node, FormulaFunctions& functions);
bool has_element_text(const Graph& graph, const Node& node);

}  // namespace halfstep::cudnn
