// The FLOPs of operators that are more than one for each element: a rule for each.
#pragma once

#include <halfstep/ops/cost.h>

namespace halfstep::ops {

/// The FLOPs of a node.
using CostRule = double (*)(const CostCall&);

/// nullptr where none is said: then it is one FLOP for each element, or none where elements are only moved.
CostRule cost_rule(const Node& node);

/// Elements of the largest operand or result.
double largest(const CostCall& call);

/// Of Einsum, in einsum.cpp: a product of all operands and a sum for every choice of all labels.
double einsum_cost(const CostCall& call);

}  // namespace halfstep::ops
