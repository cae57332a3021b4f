// The rules that tell parameters from the other float constants of a model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "passes/load/model_facts.h"

namespace halfstep {

struct Verdict {
  bool is_parameter = true;
  std::string reason = {};  ///< why it is none; empty when it is
  /// Names or uses suggest it, and the model may have meant otherwise.
  bool is_guess = false;
  /// Of the last axis only so many elements, the first, are a parameter; 0: all.
  std::int64_t leading = 0;
};

/// One verdict a value of the graph; those of values that are no float constants, or that nobody reads, mean nothing.
ValueMap<Verdict> judge_constants(const ModelFacts& model);

}  // namespace halfstep
