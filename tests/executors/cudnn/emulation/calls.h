// Calls of the CUDA runtime that the host makes, as it makes them: those of a captured graph count when they are
// captured.
#pragma once

namespace emulation {

struct Calls {
  int waits = 0;           ///< for a stream, an event or the device, also by a copy from or to pageable memory
  int copies = 0;          ///< between host and device
  int copies_to_host = 0;  ///< of these
  int graphs = 0;          ///< launches
};
/// So far.
Calls calls();

}  // namespace emulation
