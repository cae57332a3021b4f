// Which values of a node a half type cannot hold. Internal to choose_precision.
#pragma once

#include <string>
#include <vector>

#include "passes/precision/choose_precision.h"
#include "passes/precision/mask_constants.h"

namespace halfstep {

class MisfitFinder {
 public:
  MisfitFinder(const std::vector<PrecisionNode>& nodes, const std::vector<PrecisionValue>& values,
               const MaskConstants& masks, DType half);

  struct Found {
    Misfit kind = Misfit::none;
    std::string reason = {};
    bool is_small = false;  ///< rather than too large
  };
  /// The first of the node's operands and results that is too large, else the first that is too small.
  Found find(const PrecisionNode& node) const;

  /// The same of one value.
  Found find_value(int value) const { return check({.value = value, .role = Role::tied, .what = "elements"}); }

  /// Per value: the constant whose elements it has, moved around (of several that are joined the one that overflows);
  /// or kAbsent.
  const std::vector<int>& moved_from() const { return moved_from_; }

 private:
  struct Operand {
    int value;
    Role role;
    const char* what;
    bool may_be_small = false;
  };
  Found check(const Operand& operand) const;
  Found check_expected(const Operand& operand, double expected) const;
  int origin(int value) const;
  bool is_constant(int value) const;

  const std::vector<PrecisionValue>& values_;
  const MaskConstants& masks_;
  const DType half_;
  std::vector<int> moved_from_;
};

}  // namespace halfstep
