"""How OpenMP's threads wait for one another.

GCC's OpenMP runtime lets a thread that waits spin for milliseconds, which starves a step wherever other programs use the
cores, and it reads its environment only when it is loaded. So this is done before the extension is: after it nothing
can be changed, nor where another library has loaded the same runtime before.
"""

import os

SPINS = "1000"  # some microseconds: longer than the gaps between the parallel regions of a step


def choose_waiting():
    """Lets threads give the core up soon, unless the user has said how they are to wait."""
    if "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ:
        os.environ["GOMP_SPINCOUNT"] = SPINS
