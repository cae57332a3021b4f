// Rules for the FLOPs of operators with more than one FLOP per element.
#pragma once

#include <halfstep/ops/cost.h>

namespace halfstep::ops {

/// The FLOPs of a node.
using CostRule = double (*)(const CostCall&);

/// nullptr if there is no rule: then it is one FLOP per element, or none if elements are only moved.
CostRule cost_rule(const Node& node);

/// Elements of the largest operand or result.
double largest(const CostCall& call);

/// For Einsum, in einsum.cpp: a product of all operands and a sum for every combination of all labels.
double einsum_cost(const CostCall& call);

}  // namespace halfstep::ops
