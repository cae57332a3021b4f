#include "base/enum_names.h"
#include <halfstep/graph/capabilities.h>

namespace halfstep {

std::string_view name_of(OpClass c) {
  constexpr std::string_view kNames[] = {"matmul",        "convolution", "pooling",
                                         "normalization", "elementwise", "reduction"};
  return name_in(kNames, c);
}

}  // namespace halfstep
