// How large values are likely to be, told from a model's constants alone. Internal to conversion.
#pragma once

#include <vector>

#include "conversion/model_view.h"
#include "onnx_io/detached.h"
#include "passes/precision/choose_precision.h"

namespace halfstep::conversion {

/// For each value of the view without a range: the root mean square that its elements are likely to have, and whether
/// it is but a constant moved around. `values` are the view's, with the ranges of f32 constants and of what was
/// measured; ranges of constants are rounded to `half`.
///
/// Inputs of the model are taken to have a mean square of 1, elements to be independent and normally distributed, so
/// that a product with a matrix of K rows multiplies mean squares by K times that of the matrix (the argument by which
/// weights are initialised: Glorot and Bengio 2010, He et al. 2015). Biases and the shifts of normalizations keep such
/// an estimate from drifting in a trained model. It is good for telling 1e-6 from 1, no more.
///
/// Constants that `half` can hold, and those that one of `nodes` takes in half even so, count as they are in half: once
/// they are stored so, the estimates are the same to the last bit.
void expect_magnitudes(const ModelView& view, const DetachedModel& model, DType half,
                       const std::vector<PrecisionNode>& nodes, ValueMap<PrecisionValue>& values);

}  // namespace halfstep::conversion
