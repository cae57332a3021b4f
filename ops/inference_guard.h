// What the ONNX library's inference functions take on trust, checked before they are called.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include <onnx/onnx_pb.h>

namespace halfstep {

/// A node's attribute by its name; nullptr where it has none.
using AttributeLookup = std::function<const onnx::AttributeProto*(const std::string&)>;

/// Throws Error(input) for attributes of an operator of ai.onnx with which its inference function would not end, would
/// index outside of a shape, or would make lists as long as it is told. `where` tells which node it is.
void check_before_inference(std::string_view op, std::size_t outputs, const AttributeLookup& attribute,
                            const std::function<std::string()>& where);

}  // namespace halfstep
