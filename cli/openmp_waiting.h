// Waiting of OpenMP threads.
#pragma once

namespace halfstep::cli {

/// Makes waiting OpenMP threads release the core soon, by restarting this program with GOMP_SPINCOUNT set: libgomp only
/// reads its environment when it is loaded. With its default, to spin for milliseconds, two threads of a step starve
/// each other when another program uses a core. Has no effect if OMP_WAIT_POLICY or GOMP_SPINCOUNT is set (as after the
/// restart), or if the system cannot restart the program. Must be called with main's argv, before anything is read or
/// written.
void choose_openmp_waiting(char** argv);

}  // namespace halfstep::cli
