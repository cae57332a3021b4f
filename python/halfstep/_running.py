"""Running means and metrics of an epoch or an evaluation, and detection of training without progress."""

import math

from . import _core
from .errors import Error
from .metrics import metric_names

MOST_BAD_UPDATES = 50  # consecutive, in addition to those that reduce the loss scale to its minimum


class Running:
    """Losses and metrics over batches, each batch with its weight in the overall mean.

    Attributes:
        add: runs a step or an evaluation on a batch and returns its report.
    """

    def __init__(self, step, names, metrics, *, training):
        self.terms = names.terms()
        terms = [one.term(names.outputs) for one in self.terms]
        measured = []
        for i, loss in enumerate(self.terms):
            wanted = metric_names(metrics.get(loss.output, []) if isinstance(metrics, dict) else metrics)
            if wanted != "" and loss.takes_labels:
                measured.append((i, wanted))
        self._means = _core.Running(step, terms=terms, input=names.inputs[0], measured=measured, training=training)
        self.add = self._means.add

    @property
    def loss(self):
        """NaN before the first label that is not ignored."""
        means = self._means.losses
        if len(means) == 1:
            return means[0]
        return sum(mean * loss.weight for loss, mean in zip(self.terms, means))

    def logs(self):
        """Name → number, the loss first."""
        logs = {"loss": self.loss}
        several = len(self.terms) > 1
        if several:
            logs.update({f"{self._prefix(i)}loss": mean for i, mean in enumerate(self._means.losses)})
        for i, values in self._means.metrics():
            prefix = self._prefix(i) if several else ""
            logs.update({prefix + name: value for name, value in values.items()})
        return logs

    def _prefix(self, i):
        output = self.terms[i].output
        first = sum(one.output == output for one in self.terms[:i]) == 0
        return f"{output or 'output'}_" if first else f"{output or 'output'}_{i}_"


class BadUpdates:
    """Raises Error after too many consecutive updates that were skipped or had a non-finite loss."""

    def __init__(self, step, accumulate):
        halvings = max(0, math.ceil(math.log2(step.loss_scale))) if step.loss_scale > 0 else 0
        self.most = MOST_BAD_UPDATES + halvings
        self.accumulate = accumulate
        self.batches = self.in_a_row = self.skipped = 0

    def add(self, report):
        self.batches += 1
        due = self.batches % self.accumulate == 0
        self.skipped += due and not report.updated
        if (not due or report.updated) and math.isfinite(report.loss):
            self.in_a_row = 0
            return
        self.in_a_row += 1
        if self.in_a_row >= self.most:
            raise Error(
                "updates with finite gradients",
                f"{self.in_a_row} in a row that were skipped or had a non-finite loss",
                "lower the learning rate, set clip_norm, or train in bf16 or fp32",
            )
