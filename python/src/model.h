// A model that was read, as Python holds it.
#pragma once

#include <filesystem>
#include <string>

#include "python/src/bindings.h"
#include <halfstep/executors/executor.h>
#include <halfstep/onnx_io/load.h>

namespace halfstep::python {

/// Operators by their names, counts, inputs and outputs.
nb::dict describe(const Graph& graph);
nb::dict describe(const Plan& plan);

}  // namespace halfstep::python
