// Expected magnitudes of values, estimated only from a model's constants. Internal to conversion.
#pragma once

#include <vector>

#include "conversion/model_view.h"
#include "onnx_io/detached.h"
#include "passes/precision/choose_precision.h"

namespace halfstep::conversion {

/// For each value of the view without a range: the expected root mean square of its elements, and whether it is only a
/// rearranged constant. `values` are the view's, with the ranges of f32 constants and of measured values; ranges of
/// constants are rounded to `half`.
///
/// Inputs of the model are assumed to have a mean square of 1, and elements to be independent and normally distributed,
/// so that a product with a matrix of K rows multiplies mean squares by K times that of the matrix (the argument for
/// weight initialization: Glorot and Bengio 2010, He et al. 2015). Biases and the shifts of normalizations prevent such
/// an estimate from drifting in a trained model. It can distinguish 1e-6 from 1, but is not more precise.
///
/// Constants that `half` can represent, and those that one of `nodes` uses in half anyway, count as if stored in half:
/// converting them again gives the same estimates to the last bit.
void expect_magnitudes(const ModelView& view, const DetachedModel& model, DType half,
                       const std::vector<PrecisionNode>& nodes, ValueMap<PrecisionValue>& values);

}  // namespace halfstep::conversion
