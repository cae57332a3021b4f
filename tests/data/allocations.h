// Counts allocations.
#pragma once

namespace halfstep::testing {

/// How often this program has called `operator new` so far, from any thread or library.
long allocations();

}  // namespace halfstep::testing
