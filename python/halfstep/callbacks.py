"""Callbacks of a training run: to monitor, change or stop it."""

import math
import re

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
    if isinstance(callbacks, Callback) or not hasattr(callbacks, "__iter__"):
        callbacks = [] if callbacks is None else [callbacks]
    made = []
    for callback in callbacks:
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
        """Has it begin anew."""
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
        monitor: a value of the logs.
        mode: whether smaller ("min") or larger ("max") values are better; "auto": by its name.
        min_delta: smallest change that counts as an improvement.
        patience: number of epochs in a row without one after which it stops; 0 is 1.
        restore_best_weights: restores the parameters and statistics of the best epoch at the end. The optimizer's state
            stays that of the last update. Not where an exception ends one of several ranks.
    """

    def __init__(self, monitor="val_loss", *, min_delta=0.0, patience=0, mode="auto", restore_best_weights=False):
        super().__init__(monitor, mode, min_delta)
        self.patience, self.restore_best_weights = patience, restore_best_weights

    def _forget(self):
        super()._forget()
        self.waited, self.best_epoch, self._best = 0, None, None

    def on_train_begin(self):
        self._forget()

    def on_epoch_end(self, epoch, logs):
        if self._improves(logs):
            self.waited, self.best_epoch = 0, epoch
            if self.restore_best_weights:
                self._best = {**self.model.step.parameters(), **self.model.step.statistics()}
            return
        self.waited += 1
        if self.waited >= max(self.patience, 1):
            epochs = "an epoch" if self.waited == 1 else f"{self.waited} epochs"
            self.model.stop_training = f"{self.monitor} has not improved for {epochs}"

    def on_train_end(self):
        best, self._best = self._best, None
        if best is not None and not self.model.leaves_ranks:
            self.model.load_state({**self.model.state(), **best})


# {{, }}, {name} or {name:format}, and braces that are none of these.
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def _filled(pattern, value_of):
    """`pattern` with value_of(field) for each {field}."""

    def text(match):
        if match[0] in "{}":
            expected = "a path with {epoch} and names of the logs in braces"
            raise InputError(expected, repr(pattern), "write {{ for a brace")
        return match[0][0] if match[1] is None else value_of(match[1])

    return _BRACES.sub(text, pattern)


def _check_field(field):
    """Raises InputError unless the logs of some model may have the name."""
    name, _, form = field.partition(":")
    try:
        if name not in ("epoch", "learning_rate"):
            smaller_is_better(name)
    except InputError:
        raise InputError(
            "names in a path: epoch, learning_rate, loss, or a metric, also with val_ in front",
            f"'{{{field}}}'",
            "write {{ for a brace",
        ) from None
    form = re.sub(r"^\d+:", "", form)  # "top_k:5:.3f" is a metric top_k:5
    try:
        return format(0 if name == "epoch" else 0.0, form)
    except ValueError:
        raise InputError("a format of a number in a path, such as {val_loss:.3f}", f"'{{{field}}}'", "") from None


def _field(field, values):
    """The value of a field: its name is the longest that fits, as metrics may have a colon in theirs."""
    names = [name for name in values if field == name or field.startswith(f"{name}:")]
    if not names:
        hint = "pass validation_data to fit" if "val_" in field else ""
        raise InputError(f"names in a path: {', '.join(values)}", f"'{{{field}}}'", hint)
    name = max(names, key=len)
    try:
        return format(values[name], field[len(name) + 1 :])
    except (TypeError, ValueError):
        raise InputError(f"a format for {name}, {values[name]!r}", f"'{{{field}}}'", "") from None


class ModelCheckpoint(_Monitor):
    """Saves the model after each epoch, on rank 0 of several. The file is replaced atomically.

    Args:
        path: may contain {epoch} and names of the logs: "best-{epoch}-{val_loss:.3f}.onnx". {{ is a brace.
        save_best_only: saves only if `monitor` has improved.
    """

    def __init__(self, path, monitor="val_loss", *, save_best_only=True, mode="auto"):
        super().__init__(monitor, mode)
        self.path, self.save_best_only = str(path), save_best_only
        _filled(self.path, _check_field)

    def on_epoch_end(self, epoch, logs):
        if (not self.save_best_only or self._improves(logs)) and self.model.is_first_rank:
            values = {"epoch": epoch, **logs}
            self.model.save(_filled(self.path, lambda field: _field(field, values)))


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch: `schedule(epoch, learning_rate)` returns it.

    Not for an optimizer with a schedule: setting the learning rate then raises InputError.
    """

    def __init__(self, schedule):
        self.schedule = schedule

    def on_epoch_begin(self, epoch):
        self.model.learning_rate = float(self.schedule(epoch, self.model.learning_rate))
