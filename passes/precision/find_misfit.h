// Which values of a node a half type cannot hold. Internal to choose_precision.
#pragma once

#include <string>
#include <vector>

#include "passes/precision/choose_precision.h"
#include "passes/precision/mask_constants.h"

namespace halfstep {

class MisfitFinder {
 public:
  MisfitFinder(const std::vector<PrecisionNode>& nodes, const ValueMap<PrecisionValue>& values,
               const MaskConstants& masks, DType half);

  struct Found {
    Misfit kind = Misfit::none;
    std::string reason = {};
    bool is_small = false;  ///< rather than too large
  };
  /// The first of the node's operands and results that is too large, else the first that is too small.
  Found find(const PrecisionNode& node) const;

  /// The same of one value.
  Found find_value(ValueId value) const { return check({.value = value, .role = Role::tied, .what = "elements"}); }

  /// The constant whose elements a value has, moved around (of several that are joined the one that overflows); or
  /// kNoValue.
  const ValueMap<ValueId>& moved_from() const { return moved_from_; }

 private:
  struct Operand {
    ValueId value;
    Role role;
    const char* what;
    bool may_be_small = false;
  };
  Found check(const Operand& operand) const;
  Found check_expected(const Operand& operand, double expected) const;
  ValueId origin(ValueId value) const;
  bool is_constant(ValueId value) const;

  const ValueMap<PrecisionValue>& values_;
  const MaskConstants& masks_;
  const DType half_;
  ValueMap<ValueId> moved_from_;
};

}  // namespace halfstep
