"""The results of a call of fit."""

import numbers

__all__ = ["History"]


def shown(logs):
    """The numbers of logs for a line of text; tables such as a confusion matrix are left out."""
    return [f"{name} {value:.4g}" for name, value in logs.items() if isinstance(value, numbers.Real)]


class History:
    """The results of a call of fit.

    Attributes:
        history: name → a value per epoch: "loss", the metrics, the same with the prefix "val_", "learning_rate".
        epoch: numbers of the epochs, from 0.
        steps, skipped: number of batches, and of updates skipped because gradients were not finite.
        stopped: why training ended before its last epoch; empty if it did not.
    """

    def __init__(self):
        self.history, self.epoch = {}, []
        self.steps = self.skipped = 0
        self.stopped = ""

    def add(self, epoch, logs):
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self):
        last = ", ".join(shown({name: values[-1] for name, values in self.history.items()}))
        return f"History({len(self.epoch)} epochs{': ' if last else ''}{last})"
