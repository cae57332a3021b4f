"""Optimizers: a class for each row of halfstep's table, with the row's numbers, defaults and ranges."""

import dataclasses
import inspect
import re

from . import _core
from ._names import find, plain
from .errors import InputError
from .schedules import as_schedule

_SPELLED = {"Sgd": "SGD", "RmsProp": "RMSprop"}  # as in Keras and PyTorch
# Names of hyperparameters in PyTorch and Keras.
_ALIASES = {
    "lr": "learning_rate",
    "eps": "epsilon",
    "beta_1": "beta1",
    "beta_2": "beta2",
    "global_clipnorm": "clip_norm",
    "gradient_accumulation_steps": "accumulate",
}
_UNSET = object()


@dataclasses.dataclass
class ParameterGroup:
    """A group of parameters with its own settings.

    A parameter belongs to the first group whose pattern matches its name.

    Attributes:
        pattern: a shell pattern over names of parameters, "encoder.*".
        lr_factor: factor of the learning rate; at least 0.
        frozen_updates: number of initial updates in which they are not changed.
        numbers: hyperparameters of the group: {"weight_decay": 0}.
    """

    pattern: str
    lr_factor: float = 1.0
    frozen_updates: int = 0
    numbers: dict = dataclasses.field(default_factory=dict)


class Optimizer:
    """Base class of optimizers. Subclasses are created from halfstep's table of optimizers."""

    def __init__(self, learning_rate=_UNSET, *, schedule=None, groups=(), **numbers):
        numbers = _named_once({"learning_rate": learning_rate, **numbers})
        learning_rate = numbers.pop("learning_rate", 1e-3)
        self.schedule = as_schedule(schedule)
        self.learning_rate = _number("learning_rate", learning_rate)
        if not 0 <= self.learning_rate <= 1e30:
            raise InputError("a learning rate of at least 0", repr(learning_rate), "")
        self.numbers = {key: _number(key, value) for key, value in numbers.items() if value is not None}
        own = [number["name"] for number in self._row["numbers"]]
        for key in self.numbers:
            if key not in own:
                raise InputError(f"a hyperparameter of {type(self).__name__}: {', '.join(own)}", f"'{key}'", "omit it")
        self.groups = [group if isinstance(group, ParameterGroup) else ParameterGroup(**group) for group in groups]
        _core.check_optimizer(self.name, self.numbers, self.group_options())

    @property
    def name(self):
        """Name in the table, used by checkpoints and the command line."""
        return self._row["name"]

    @property
    def accumulate(self):
        """Number of batches whose gradients are averaged for an update."""
        return int(self.numbers.get("accumulate", 1))

    def group_options(self):
        return [(g.pattern, float(g.lr_factor), int(g.frozen_updates), dict(g.numbers)) for g in self.groups]

    def __repr__(self):
        numbers = "".join(f", {key}={value:g}" for key, value in self.numbers.items())
        return f"{type(self).__name__}({self.learning_rate:g}{numbers})"


def _named_once(numbers):
    """Values by halfstep's names, without those that are not set."""
    betas = numbers.pop("betas", None)
    pairs = [(key, value) for key, value in numbers.items() if value is not _UNSET]
    if betas is not None:
        if not isinstance(betas, (list, tuple)) or len(betas) != 2:
            raise InputError("two numbers as betas", repr(betas), "")
        pairs += zip(("beta1", "beta2"), betas)
    result = {}
    for key, value in pairs:
        name = _ALIASES.get(key, key)
        if name in result:
            raise InputError(f"one value of {name}", f"two, with {key}", "leave one out")
        result[name] = value
    return result


def _number(name, value):
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"a number for {name}", repr(value), "") from None


def _class(row):
    stem = row["op"].removesuffix("Step")
    name = _SPELLED.get(stem, stem)
    P = inspect.Parameter
    parameters = [
        P("learning_rate", P.POSITIONAL_OR_KEYWORD, default=1e-3, annotation=float),
        P("schedule", P.KEYWORD_ONLY, default=None),
        P("groups", P.KEYWORD_ONLY, default=()),
    ]
    lines = [
        "    learning_rate: initial learning rate; for OneCycle the maximum.",
        "    schedule: a schedule of halfstep.schedules, or its text form: 'cosine:decay_steps=1000'.",
        "    groups: halfstep.ParameterGroup objects, for parameters with their own settings.",
    ]
    for number in row["numbers"]:
        kind = bool if number["is_switch"] else int if number["is_whole"] else float
        default = None if number["default"] is None else kind(number["default"])
        parameters.append(P(number["name"], P.KEYWORD_ONLY, default=default, annotation=kind))
        meaning = re.sub(r"--([a-z-]+)", lambda m: m[1].replace("-", "_"), number["meaning"])
        bounds = "" if number["is_switch"] else f"; {number['lowest']:g} to {number['highest']:g}"
        lines.append(f"    {number['name']}: {meaning}{bounds}.")
    doc = f"{row['source']}.\n\nArgs:\n" + "\n".join(lines) + "\n\nRaises InputError for values out of range."
    made = type(name, (Optimizer,), {"__doc__": doc, "__module__": __name__, "_row": row})
    made.__signature__ = inspect.Signature(parameters)
    return made


CLASSES = {made.__name__: made for made in map(_class, _core.optimizer_table())}
globals().update(CLASSES)
__all__ = ["Optimizer", "ParameterGroup", *CLASSES]


def as_optimizer(optimizer):
    """An Optimizer from one, its class, or a name."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer) and optimizer is not Optimizer:
        return optimizer()
    if optimizer is None:
        return next(iter(CLASSES.values()))()
    if isinstance(optimizer, str):
        return CLASSES[find(optimizer, {plain(name): name for name in CLASSES}, "an optimizer")]()
    raise InputError("an optimizer or its name", type(optimizer).__name__, "halfstep.Adam(1e-3) is one")
