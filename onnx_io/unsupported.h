// Collects the operators of a model that halfstep lacks.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace onnx {
class ModelProto;
}

namespace halfstep {

/// Error::required of the error thrown by `report`.
inline constexpr std::string_view kSupportedModel =
    "a model whose operators are all supported (halfstep check --markdown lists them)";

/// Collects operators, then reports them all in one Error.
class UnsupportedOperators {
 public:
  void add(std::string_view domain, std::string_view op, std::string node);
  bool empty() const { return nodes_.empty(); }
  /// (domain, operator) → names of nodes
  const std::map<std::pair<std::string, std::string>, std::vector<std::string>>& nodes() const { return nodes_; }
  /// Throws Error(input) that names every operator with its nodes; does nothing if there are none.
  void report() const;

 private:
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> nodes_;
};

/// Whether a node of this operator, in some version, is supported: by a row of the table, by a lifting rule that
/// converts it to a supported one, or by a function body.
bool is_supported(std::string_view op, std::string_view domain);

/// The unsupported operators of a model, including subgraphs and its local functions.
UnsupportedOperators unsupported_operators(onnx::ModelProto& model);

}  // namespace halfstep
