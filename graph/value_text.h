// Ids in messages.
#pragma once

#include <string>

#include <halfstep/graph/graph.h>

namespace halfstep {

inline std::string text_of(ValueId id) {
  return id == kNoValue ? "the id of none" : "the id " + std::to_string(id.index());
}

}  // namespace halfstep
