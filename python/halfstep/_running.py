"""Running means and metrics of an epoch or an evaluation, and what a call of fit watches over."""

import contextlib
import math

from . import _core
from ._warnings import warn
from .errors import Error

MOST_BAD_UPDATES = 50  # consecutive, in addition to those that reduce the loss scale to its minimum


class Running:
    """Losses and metrics over batches, each batch with its weight in the overall mean.

    Args:
        terms: the losses of the step, each with its output. metrics: as metric_texts gives them.

    Attributes:
        add: runs a step or an evaluation on a batch and returns its report.
    """

    def __init__(self, step, terms, metrics, *, training):
        self.terms = terms
        measured = []
        for i, loss in enumerate(self.terms):
            wanted = metrics.get(loss.output, "") if isinstance(metrics, dict) else metrics
            if wanted != "" and loss.takes_labels:
                measured.append((i, wanted))
        self._means = _core.Running(step, terms=len(self.terms), measured=measured, training=training)
        self.add = self._means.add

    @property
    def loss(self):
        """NaN before the first label that is not ignored."""
        means = self._means.losses
        if len(means) == 1:
            return means[0]
        # A term all of whose labels are ignored adds nothing.
        terms = zip(self.terms, means, self._means.weights)
        counted = [mean * loss.weight for loss, mean, weight in terms if weight > 0]
        return sum(counted) if counted else math.nan

    def logs(self, ranks=None):
        """Name → number, the loss first; of the batches of all ranks, which call it together."""
        if ranks is not None:
            self._means.merge(ranks)
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
        return f"{output}_" if first else f"{output}_{i}_"


class BadUpdates:
    """Raises Error after too many consecutive updates that were skipped or had a non-finite loss."""

    def __init__(self, step):
        halvings = max(0, math.ceil(math.log2(step.loss_scale))) if step.loss_scale > 0 else 0
        self.most = MOST_BAD_UPDATES + halvings
        self.in_a_row = self.skipped = 0
        self.finite = True  # the losses since the last update

    def add(self, report):
        self.skipped += report.due and not report.updated
        self.finite = self.finite and math.isfinite(report.loss)
        if not report.due:
            return
        good, self.finite = report.updated and self.finite, True
        self.in_a_row = 0 if good else self.in_a_row + 1
        if good:
            return
        if self.in_a_row >= self.most:
            raise Error(
                "updates with finite gradients",
                f"{self.in_a_row} in a row that were skipped or had a non-finite loss",
                "lower the learning rate, set clip_norm, or train in bf16 or fp32",
            )


@contextlib.contextmanager
def begun(callbacks):
    """Calls on_train_begin now, and at the end on_train_end of those that began, also after an exception.

    Raises the first exception; those that follow it from on_train_end become warnings.
    """
    began, failure = [], None
    try:
        for callback in callbacks:
            callback.on_train_begin()
            began.append(callback)
        yield
    except BaseException as error:
        failure = error
    for callback in began:
        try:
            callback.on_train_end()
        except BaseException as error:
            if failure is not None:
                warn(f"{type(callback).__name__}.on_train_end raised {error!r} after {failure!r}")
            failure = failure or error
    if failure is not None:
        raise failure
