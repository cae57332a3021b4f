"""How OpenMP threads wait for one another.

Waiting threads of GCC's OpenMP runtime spin for milliseconds, which slows steps down when other programs use the cores.
The runtime reads its environment only when it is loaded, so this must run before the extension is loaded. It has no
effect if another library has already loaded the same runtime.
"""

import os

SPINS = "1000"  # a few microseconds: longer than the gaps between the parallel regions of a step


def choose_waiting():
    """Makes waiting threads release the core soon, unless the user has configured it."""
    if "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ:
        os.environ["GOMP_SPINCOUNT"] = SPINS
