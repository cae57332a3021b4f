"""What is kept of the batches of an epoch or an evaluation: means and metrics, and whether training still gets anywhere."""

import math

from ._batches import label_weight
from .errors import Error
from .metrics import metric_names

MOST_BAD_UPDATES = 50  # in a row, beside those that bring the loss scale down to its lowest


class Running:
    """Losses and metrics over batches, each with the weight that it has in the mean over all."""

    def __init__(self, step, names, metrics):
        self.step, self.names, self.losses = step, names, names.losses
        self.wanted = metrics
        self.terms = list(self.losses) if self.losses else [None]
        self.sums = [0.0] * len(self.terms)
        self.weights = [0.0] * len(self.terms)
        self.metrics = None  # of the terms with labels; there are none before the first batch

    def add(self, batch, report, rows):
        losses = report.terms if len(self.terms) > 1 else [report.loss]
        for i, (loss, value) in enumerate(zip(self.terms, losses)):
            weight = label_weight(loss, batch, self.names.default_labels, rows)
            if weight > 0:
                self.sums[i] += value * weight
                self.weights[i] += weight
        if self.metrics is None:
            self.metrics = self._make_metrics()
        for term, metrics in self.metrics:
            self.step.measure(metrics, batch, term)

    def _make_metrics(self):
        made = []
        for i, loss in enumerate(self.terms):
            wanted = self.wanted
            if isinstance(wanted, dict):
                wanted = wanted.get(loss.output if loss else "", [])
            names = metric_names(wanted)
            if names != "" and (loss is None or loss.takes_labels):
                made.append((i, self.step.metrics(names, i)))
        return made

    @property
    def loss(self):
        """NaN before the first label that counts."""
        total = 0.0
        for loss, sum_, weight in zip(self.terms, self.sums, self.weights):
            mean = sum_ / weight if weight else math.nan
            total += mean * (loss.weight if loss and len(self.terms) > 1 else 1.0)
        return total

    def logs(self):
        """Name → number, the loss first."""
        logs = {"loss": self.loss}
        several = len(self.terms) > 1
        if several:
            for i, loss in enumerate(self.terms):
                logs[f"{self._prefix(i)}loss"] = self.sums[i] / self.weights[i] if self.weights[i] else math.nan
        for i, metrics in self.metrics or ():
            prefix = self._prefix(i) if several else ""
            logs.update({prefix + name: value for name, value in metrics.values().items()})
        return logs

    def _prefix(self, i):
        output = self.terms[i].output
        first = sum(one.output == output for one in self.terms[:i]) == 0
        return f"{output or 'output'}_" if first else f"{output or 'output'}_{i}_"


class BadUpdates:
    """Raises Error when so many updates in a row were skipped, or losses not finite, that training gets nowhere."""

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
                f"{self.in_a_row} in a row that were skipped or whose loss was not finite",
                "lower the learning rate, set clip_norm, or train in bf16 or fp32",
            )
