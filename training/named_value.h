// A number and what it is called.
#pragma once

#include <string_view>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

struct NamedValue {
  std::string_view name;
  double value = 0;
};

}  // namespace halfstep
