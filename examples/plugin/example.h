// The parts of the example plug-in.
#pragma once

#include <span>

#include <halfstep/halfstep.h>
#include <halfstep/ops/op_def.h>

namespace example {

/// The operators it defines: com.example.Swish.
std::span<const halfstep::OpDef> operators();
/// x * sigmoid(beta * x)
double swish(double x, double beta);

}  // namespace example
