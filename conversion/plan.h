// Selection of what becomes half in a viewed model. Internal to conversion.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "conversion/model_view.h"
#include "onnx_io/detached.h"
#include "passes/precision/choose_precision.h"
#include <halfstep/conversion/convert.h>

namespace halfstep::conversion {

enum class NodeKind : std::uint8_t {
  ordinary,
  constant,   ///< a Constant of f32
  widening,   ///< a Cast from the half type to f32: its result already exists in half
  narrowing,  ///< a Cast from f32 to the half type: a reader that requires half
  cast,       ///< a Cast or CastLike to f32 from any other type: can also return half
  copy,       ///< one from f32 to f32 for an output of a subgraph: an Identity
};

/// The type in which a node reads an f32 operand of the source.
enum class Taken : std::uint8_t { f32, half, any };

struct ConversionPlan {
  std::vector<NodeKind> kinds;       ///< of the view's nodes
  std::vector<PrecisionNode> nodes;  ///< the view's nodes, then boundaries and joints
  ValueMap<PrecisionValue> values;
  /// The value itself, or the value with the same numbers, before a Cast from f32 to f32, or to half and back.
  ValueMap<ValueId> same_as;
  std::deque<FloatRange> ranges;  ///< the ranges that `values` point to
  ValueMap<bool> half_boundary;   ///< an input or output of the model whose type becomes half
  /// For inputs and outputs that are not kept in f32 by an option: the elements that half cannot represent. If this is
  /// certain, they stay f32.
  std::map<ValueId, ValueMisfit> boundary_misfits;
  /// Per operand of a node with subgraphs, and per output of a subgraph: the index in `nodes` of its joint, or kNone.
  std::vector<std::vector<int>> operand_joints, output_joints;
  ValueMap<bool> made_half;  ///< an f32 value of the source that is computed in half, or is an input in half
  PrecisionChoice choice;
  std::vector<std::string> warnings;

  bool is_half(int node) const { return choice.half[node]; }
  Taken taken(int node, std::size_t operand) const;
  /// For an f32 output of a graph, by its position: whether it becomes half.
  bool gives_half(const ModelView& view, std::size_t scope, std::size_t position) const;
};

ConversionPlan plan_conversion(const ModelView& view, const DetachedModel& model, const ConvertOptions& options);

}  // namespace halfstep::conversion
