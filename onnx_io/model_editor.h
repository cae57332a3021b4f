// The message of a model, read and changed by plain values: for those who cannot link an ONNX library beside halfstep's
// own. Nothing is checked: the model may be invalid in any way, before and after.
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
  /// What a body (a subgraph) takes and gives.
  struct BodyNames {
    std::vector<std::string> inputs, outputs;
    bool operator==(const BodyNames&) const = default;
  };
  /// What an attribute holds; nothing where it is of another type.
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
  /// Adds it when the node has none of this name. BodyNames leave of a body's inputs and outputs those that they list.
  void set_attribute(std::size_t node, const std::string& name, const Value& value);
  void remove_attribute(std::size_t node, std::string_view name);

  /// The version that the first operator set of the model has; nothing when there is none.
  std::optional<std::int64_t> opset() const;
  void set_opset(std::int64_t version);

  // Inputs and outputs of the graph.
  std::vector<std::string> inputs() const;
  void declare_input(std::size_t input, DType dtype, const Shape& shape);
  std::size_t output_count() const;
  void declare_output(std::size_t output, DType dtype);
  /// The input is an initializer from here on.
  void make_initializer(std::size_t input, const Tensor& value);

 private:
  std::unique_ptr<onnx::ModelProto> model_;
  std::vector<onnx::NodeProto*> nodes_;
};

}  // namespace halfstep
