#pragma once

#include "python/src/bindings.h"
#include <halfstep/training/metrics.h>

namespace halfstep::python {

/// Name → number; for a confusion matrix its counts as an array.
nb::dict values_of(const Metrics& metrics);

}  // namespace halfstep::python
