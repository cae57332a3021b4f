"""Callbacks of a training run: to monitor, change or stop it."""

import math

from .errors import InputError
from .metrics import smaller_is_better

__all__ = ["Callback", "EarlyStopping", "LearningRateScheduler", "ModelCheckpoint"]


class Callback:
    """Base class of callbacks: fit calls its methods; `self.model` is the model being trained.

    To end training after the current step, set `self.model.stop_training`. `logs` has the values of an epoch that are
    recorded in the History: "loss", metrics, and those of the validation data with the prefix "val_".
    """

    model = None

    def on_train_begin(self):
        """Before the first step of a call of fit."""

    def on_epoch_begin(self, epoch):
        """`epoch` counts from 0 and continues over calls of fit."""

    def on_step(self, step, report):
        """After each batch: `step` counts from 0 in its epoch, `report` is a StepReport."""

    def on_epoch_end(self, epoch, logs):
        """After an epoch and its validation, if any."""

    def on_train_end(self):
        """At the end, also after an exception."""


class _Function(Callback):
    def __init__(self, function):
        self.function = function

    def on_epoch_end(self, epoch, logs):
        self.function(epoch, logs)


def as_callbacks(callbacks, model):
    made = []
    for callback in callbacks or ():
        if isinstance(callback, type) or not (isinstance(callback, Callback) or callable(callback)):
            raise InputError(
                "callbacks: halfstep.Callback objects, or functions of an epoch and its logs",
                repr(callback),
                "pass an object, such as EarlyStopping()",
            )
        made.append(callback if isinstance(callback, Callback) else _Function(callback))
        made[-1].model = model
    return made


def watching_steps(callbacks):
    """Those that override on_step."""
    return [one for one in callbacks if getattr(one.on_step, "__func__", None) is not Callback.on_step]


class _Monitor(Callback):
    """Monitors one value of the logs."""

    def __init__(self, monitor, mode, min_delta=0.0):
        if mode not in ("auto", "min", "max"):
            raise InputError("mode: auto, min or max", repr(mode), "")
        if mode == "auto":
            mode = "min" if smaller_is_better(monitor) else "max"
        self.monitor, self.mode, self.min_delta = monitor, mode, abs(min_delta)
        self._forget()

    def _forget(self):
        self.best = math.inf if self.mode == "min" else -math.inf

    def _improves(self, logs):
        if self.monitor not in logs:
            hint = "pass validation_data to fit" if self.monitor.startswith("val_") else ""
            raise InputError(f"a value to monitor: {', '.join(logs)}", f"'{self.monitor}'", hint)
        value = logs[self.monitor]
        gain = self.best - value if self.mode == "min" else value - self.best
        if not gain > self.min_delta:
            return False
        self.best = value
        return True


class EarlyStopping(_Monitor):
    """Stops training if a value has not improved for some epochs.

    Args:
        monitor: a value of the logs. mode: whether smaller ("min") or larger ("max") values are better; "auto": by its name.
        min_delta: smallest change that counts as an improvement. patience: number of epochs without one before it stops.
        restore_best_weights: restores the parameters and statistics of the best epoch at the end.
    """

    def __init__(self, monitor="val_loss", *, min_delta=0.0, patience=0, mode="auto", restore_best_weights=False):
        super().__init__(monitor, mode, min_delta)
        self.patience, self.restore_best_weights = patience, restore_best_weights
        self.waited, self.best_epoch, self._state = 0, None, None

    def on_train_begin(self):
        self._forget()
        self.waited, self.best_epoch, self._state = 0, None, None

    def on_epoch_end(self, epoch, logs):
        if self._improves(logs):
            self.waited, self.best_epoch = 0, epoch
            if self.restore_best_weights:
                self._state = self.model.state()
            return
        self.waited += 1
        if self.waited > self.patience:
            self.model.stop_training = f"{self.monitor} has not improved for {self.waited} epochs"

    def on_train_end(self):
        if self._state is not None:
            self.model.load_state(self._state)


class ModelCheckpoint(_Monitor):
    """Saves the model after each epoch, on rank 0 of several. The file is replaced atomically.

    Args:
        path: may contain {epoch} and names of the logs: "best-{epoch}-{val_loss:.3f}.onnx".
        save_best_only: saves only if `monitor` has improved.
    """

    def __init__(self, path, monitor="val_loss", *, save_best_only=True, mode="auto"):
        super().__init__(monitor, mode)
        self.path, self.save_best_only = str(path), save_best_only

    def on_epoch_end(self, epoch, logs):
        if (not self.save_best_only or self._improves(logs)) and self.model.is_first_rank:
            self.model.save(self.path.format(epoch=epoch, **logs))


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch: `schedule(epoch, learning_rate)` returns it.

    Not for an optimizer with a schedule: setting the learning rate then raises InputError.
    """

    def __init__(self, schedule):
        self.schedule = schedule

    def on_epoch_begin(self, epoch):
        self.model.learning_rate = float(self.schedule(epoch, self.model.learning_rate))
