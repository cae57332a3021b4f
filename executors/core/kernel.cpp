#include <halfstep/executors/core/kernel.h>

namespace halfstep::core {

Bind in_sequence(Bind first, Bind second) {
  return [first = std::move(first), second = std::move(second)](const Memory& memory) -> Run {
    return [a = first(memory), b = second(memory)] {
      a();
      b();
    };
  };
}

}  // namespace halfstep::core
