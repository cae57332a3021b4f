// Checks of inputs that the ONNX library's inference functions do not validate, before they are called.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include <onnx/onnx_pb.h>

namespace halfstep {

/// A node's attribute by name; nullptr if it has none.
using AttributeLookup = std::function<const onnx::AttributeProto*(const std::string&)>;

/// Throws Error(input) for attributes of an operator of ai.onnx for which its inference function would not terminate,
/// would index out of a shape's bounds, or would create lists of arbitrary length. `where` identifies the node.
void check_before_inference(std::string_view op, std::size_t outputs, const AttributeLookup& attribute,
                            const std::function<std::string()>& where);

}  // namespace halfstep
