// Reads and changes the message of a model through plain values, for users who cannot link an ONNX library in addition
// to halfstep's own. Nothing is checked: the model may be invalid in any way, before and after.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/tensor.h>

namespace onnx {
class ModelProto;
class NodeProto;
}  // namespace onnx

namespace HALFSTEP_API halfstep {

class ModelEditor {
 public:
  /// Inputs and outputs of a body (a subgraph).
  struct BodyNames {
    std::vector<std::string> inputs, outputs;
    bool operator==(const BodyNames&) const = default;
  };
  /// The value of an attribute; nothing if it has another type.
  using Value = std::variant<std::monostate, std::int64_t, float, std::string, std::vector<std::int64_t>,
                             std::vector<float>, BodyNames>;

  /// Throws Error(input) unless these are the bytes of a model's message.
  explicit ModelEditor(std::string_view bytes);
  ~ModelEditor();
  std::string bytes() const;

  // Nodes of the graph and of the bodies in it, counted from 0; those of a body come after their node.
  std::size_t node_count() const { return nodes_.size(); }
  std::vector<std::string> operands(std::size_t node) const;
  void set_operands(std::size_t node, const std::vector<std::string>& operands);
  std::vector<std::string> attribute_names(std::size_t node) const;
  Value attribute(std::size_t node, std::string_view name) const;
  /// Adds the attribute if the node has none of this name. BodyNames keep only the listed inputs and outputs of a body.
  void set_attribute(std::size_t node, const std::string& name, const Value& value);
  void remove_attribute(std::size_t node, std::string_view name);

  /// The version of the model's first opset; nothing if there is none.
  std::optional<std::int64_t> opset() const;
  void set_opset(std::int64_t version);

  // Inputs and outputs of the graph.
  std::vector<std::string> inputs() const;
  void declare_input(std::size_t input, DType dtype, const Shape& shape);
  std::size_t output_count() const;
  void declare_output(std::size_t output, DType dtype);
  /// The input becomes an initializer.
  void make_initializer(std::size_t input, const Tensor& value);

 private:
  std::unique_ptr<onnx::ModelProto> model_;
  std::vector<onnx::NodeProto*> nodes_;
};

}  // namespace halfstep
