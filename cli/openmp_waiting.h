// How OpenMP's threads wait for one another.
#pragma once

namespace halfstep::cli {

/// Makes OpenMP's threads give the core up soon when they wait, by starting this program again with GOMP_SPINCOUNT set:
/// libgomp reads its environment when it is loaded and never again. Its own choice, to spin for milliseconds, lets two
/// threads of a step starve each other wherever another program uses a core. Leaves things as they are when the user
/// has set OMP_WAIT_POLICY or GOMP_SPINCOUNT (as the second start finds it), and when the system cannot start the
/// program again. To be called with main's argv, before anything is read or written.
void choose_openmp_waiting(char** argv);

}  // namespace halfstep::cli
