// What the name of a constant says: exporters make names up, or take those that the framework's variables have.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace halfstep {

enum class NameKind : std::uint8_t {
  made_up,   ///< by an exporter or an optimizer of models: "onnx::Mul_12", "val_3", "/act/Constant_output_0"
  variable,  ///< TensorFlow's read of a variable: "dense/MatMul/ReadVariableOp:0"
  path,      ///< an attribute of a module within others: "layers.0.weight"
  plain,     ///< any other: "logit_scale" may be an attribute of the outermost module, or made by hand
};
NameKind kind_of_name(const std::string& name);

/// The module that a name of kind path or plain belongs to: "layers.0"; "" for the outermost.
std::string_view module_of(std::string_view name);

/// Whether frameworks' models keep by such a name what is not trained: statistics of the data, tables of positions,
/// masks, grids.
bool is_buffer_name(std::string_view name);

}  // namespace halfstep
