// Defaults of the attributes of a model's local functions. Internal.
#pragma once

#include <onnx/onnx_pb.h>

namespace halfstep {

/// Gives every call of a local function the defaults of those attributes that it lacks: what inlines calls does not
/// know of them. For models whose functions nest within limits (check_inlined_size).
///
/// Throws Error(input) where a default is a graph, where the calls would have too many bytes of them, and where a
/// function passes on an attribute that one of its own callers may leave out, to a function with a default for it.
void fill_function_defaults(onnx::ModelProto& model);

}  // namespace halfstep
