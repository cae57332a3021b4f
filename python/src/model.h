// A loaded model in Python.
#pragma once

#include <filesystem>
#include <string>

#include "python/src/bindings.h"
#include <halfstep/executors/executor.h>
#include <halfstep/onnx_io/load.h>

namespace halfstep::python {

/// Operators by name with counts, inputs and outputs.
nb::dict describe(const Graph& graph);
nb::dict describe(const Plan& plan);

}  // namespace halfstep::python
