#include <halfstep/graph/capabilities.h>

namespace halfstep {

std::string_view name_of(OpClass c) {
  switch (c) {
    case OpClass::matmul:
      return "matmul";
    case OpClass::convolution:
      return "convolution";
    case OpClass::pooling:
      return "pooling";
    case OpClass::normalization:
      return "normalization";
    case OpClass::elementwise:
      return "elementwise";
    case OpClass::reduction:
      return "reduction";
  }
  return "unknown";
}

}  // namespace halfstep
