// The parts of the shape family; shape.cpp joins them.
#pragma once

#include <vector>

#include "ops/op_def.h"

namespace halfstep::ops {

std::vector<OpDef> reshape_rows();    // Reshape Flatten Squeeze Unsqueeze Shape Size
std::vector<OpDef> generator_rows();  // ConstantOfShape Range OneHot EyeLike NonZero
std::vector<OpDef> movement_rows();   // Transpose Concat Split Slice Expand Tile Pad Trilu …
std::vector<OpDef> indexing_rows();   // Gather* Scatter*

}  // namespace halfstep::ops
