"""Warnings for whoever has called the package."""

import sys
import warnings

_PASSED_OVER = ("halfstep", "contextlib")


def warn(text):
    """A UserWarning of the nearest caller outside of the package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_OVER:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, UserWarning, stacklevel=level)


def warn_once(ranks, text):
    """The same, of several ranks by rank 0; `ranks` is None in a process by itself."""
    if ranks is None or ranks.rank == 0:
        warn(text)
