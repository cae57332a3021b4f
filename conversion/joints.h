// Values of one type, because a node passes them into or out of its subgraphs. Internal to conversion.
#pragma once

#include <vector>

#include "conversion/model_view.h"

namespace halfstep::conversion {

/// An output of an If and those of its branches; the output of a body that Loop or Scan stack and the stacked output;
/// the operand that Scan iterates over and the input of the body.
struct Joint {
  struct BodyOutput {
    int scope = 0;
    std::size_t position = 0;
  };
  int operand = kNone;  ///< of the node
  int output = kNone;   ///< of the node
  ValueId body_input = kNoValue;
  std::vector<BodyOutput> body_outputs = {};
};

/// The joints of f32 values at a node that may also be passed in `half`. State carried between iterations is in none:
/// it stays f32, because a sum over many iterations would be rounded in each.
std::vector<Joint> joints_of(const ModelView& view, const ViewNode& node, DType half);

}  // namespace halfstep::conversion
