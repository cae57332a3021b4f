#include "ops/operand_name.h"

#include <onnx/defs/schema.h>

#include <halfstep/ops/op_def.h>

namespace halfstep {

std::string operand_name(const Node& node, std::size_t index) {
  register_schemas();
  const std::int64_t version = node.domain.empty() ? kOnnxOpset : kOwnOpset;
  const onnx::OpSchema* schema =
      onnx::OpSchemaRegistry::Schema(node.op, static_cast<int>(version), std::string(node.domain));
  if (schema && !schema->inputs().empty() && index < node.operands().size()) {
    const std::size_t last = schema->inputs().size() - 1;
    if (index <= last) return schema->inputs()[index].GetName();
    if (schema->inputs()[last].GetOption() == onnx::OpSchema::Variadic) return schema->inputs()[last].GetName();
  }
  return "input " + std::to_string(index);
}

}  // namespace halfstep
