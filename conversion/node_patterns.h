// Nodes selected by patterns. Internal to conversion.
#pragma once

#include <optional>
#include <regex>
#include <string>
#include <vector>

#include "conversion/model_view.h"
#include <halfstep/conversion/convert.h>

namespace halfstep::conversion {

/// The node's name, or that of its first output.
std::string label_of(const onnx::NodeProto& node);
/// "Softmax", "com.microsoft.Gelu".
std::string operator_of(const ViewNode& node);

class Matcher {
 public:
  explicit Matcher(const std::vector<NodePattern>& patterns);
  /// Throws Error(input) for a node with a name that is too long for an expression.
  bool matches(const ViewNode& node) const;
  /// The text of patterns that have not matched any node.
  std::vector<std::string> unused() const;

 private:
  struct Entry {
    NodePattern pattern;
    std::optional<std::string> name = {};  ///< of nodes, where the expression matches no other
    std::regex expression = {};
    mutable bool used = false;
  };
  static bool matches(const Entry& entry, const ViewNode& node);

  std::vector<Entry> entries_;
};

}  // namespace halfstep::conversion
