"""Progress display of a training run."""

import sys
import time

from .history import shown

WIDTH = 24


class Progress:
    """On a terminal, a progress bar for the current epoch, and a line for each completed epoch.

    verbose: "auto": only on a terminal; 0: nothing; 1: both; 2: only a line for each epoch.
    """

    def __init__(self, verbose, epochs):
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self.lines = sys.stderr is not None and (verbose in (1, 2) or (verbose == "auto" and terminal))
        self.bar = terminal and self.lines and verbose != 2
        self.epochs = epochs
        self.drawn = 0.0

    def begin(self, epoch, steps):
        self.epoch, self.steps, self.start = epoch, steps, time.perf_counter()

    def step(self, done, running):
        """`running.loss` is read only when it is shown."""
        if not self.bar:
            return
        now = time.perf_counter()
        if now - self.drawn < 0.1:
            return
        self.drawn = now
        full = WIDTH * done // self.steps if self.steps else 0
        share = "━" * full + " " * (WIDTH - full) if self.steps else ""
        total = f"/{self.steps}" if self.steps else ""
        sys.stderr.write(f"\repoch {self.epoch + 1}/{self.epochs}  {done}{total} {share} loss {running.loss:.4g}\033[K")
        sys.stderr.flush()

    def end(self, logs, skipped):
        self.clear()
        if not self.lines:
            return
        values = "  ".join(shown(logs))
        note = f"  {skipped} updates skipped" if skipped else ""
        seconds = time.perf_counter() - self.start
        print(f"epoch {self.epoch + 1}/{self.epochs}  {values}  {seconds:.1f} s{note}", file=sys.stderr, flush=True)

    def clear(self):
        if self.bar:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
