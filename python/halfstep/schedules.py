"""Learning-rate schedules: a class for each row of halfstep's table."""

import inspect

from . import _core
from .errors import InputError

# Class → name of the row in the table, and its list key, which distinguishes rows of the same name.
_NAMES = {
    "Constant": ("constant", ""),
    "ExponentialDecay": ("exponential", ""),
    "StepDecay": ("step", ""),
    "MultiStepDecay": ("step", "milestones"),
    "CosineDecay": ("cosine", ""),
    "CosineDecayRestarts": ("cosine_restarts", ""),
    "InverseTimeDecay": ("inverse_time", ""),
    "LinearDecay": ("linear", ""),
    "PolynomialDecay": ("polynomial", ""),
    "OneCycle": ("one_cycle", ""),
}


class Schedule:
    """A learning rate as a function of the number of updates. Skipped updates do not count.

    The base rate is the optimizer's learning rate unless `initial_learning_rate` is given: ExponentialDecay(1e-3, 1000,
    0.9), as in Keras, is ExponentialDecay(initial_learning_rate=1e-3, decay_steps=1000, decay_rate=0.9).
    """

    initial_learning_rate = None

    def __init__(self, initial_learning_rate=None, *values, **numbers):
        signature = inspect.signature(type(self))
        keys = [key["name"] for key in self._row["keys"]] + ([self._row["list"]] if self._row["list"] else [])
        try:
            if len(values) > len(keys):
                raise TypeError(f"{len(values) + 1} values")
            twice = [key for key in keys[: len(values)] if key in numbers]
            if twice:
                raise TypeError(f"'{twice[0]}' twice")
            given = signature.bind(**dict(zip(keys, values)), **numbers).arguments
            if initial_learning_rate is not None:
                self.initial_learning_rate = float(initial_learning_rate)
        except (TypeError, ValueError) as error:
            raise InputError(f"arguments of {type(self).__name__}{signature}", str(error), "") from None
        self.form = self._row["name"] + ":" + ",".join(f"{key}={_text(value)}" for key, value in given.items())
        if not given:
            self.form = self._row["name"]
        self.at(0, 1.0)  # checks

    def at(self, updates, learning_rate):
        """The learning rate after `updates` updates, for the base rate `learning_rate`."""
        return self.bound(learning_rate).at(updates)

    def bound(self, learning_rate):
        """The schedule for this base rate: an object with at(updates)."""
        own = self.initial_learning_rate
        return _core.Schedule(self.form, learning_rate if own is None else own)

    def __repr__(self):
        return f"{type(self).__name__}({self.form})"


class _FromText(Schedule):
    """A schedule in the text form of the command line: "cosine:decay_steps=1000"."""

    def __init__(self, form):
        self.form = form
        self.at(0, 1.0)


def as_schedule(schedule):
    if schedule is None or isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, str):
        return _FromText(schedule)
    raise InputError("a schedule", type(schedule).__name__, "halfstep.CosineDecay(decay_steps=1000) is one")


def _text(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "/".join(str(v) for v in value)
    return repr(value) if isinstance(value, float) else str(value)


def _class(name, row):
    parameters, lines = [], []
    kinds = {"count": int, "flag": bool, "number": float}

    def add(key, kind, default, meaning):
        parameters.append(
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kinds.get(kind, kind))
        )
        lines.append(f"    {key}: {meaning}")

    for key in row["keys"]:
        default = inspect.Parameter.empty if key["default"] is None else kinds[key["kind"]](key["default"])
        from_ = "true or false" if key["kind"] == "flag" else f"at least {key['lowest']:g}"
        add(key["name"], key["kind"], default, from_)
    if row["list"]:
        add(row["list"], list, inspect.Parameter.empty, "increasing numbers of updates")
    if not row["warms_up"]:
        add("warmup_steps", "count", 0, "updates of a linear warm-up before the schedule")
        add("warmup_start", "number", 0.0, "fraction of the learning rate at the start of the warm-up")
    own = "    initial_learning_rate: base rate; default: the optimizer's. The others may follow by position."
    doc = f"The schedule of {row['source']}.\n\nArgs:\n" + "\n".join([own, *lines])
    made = type(name, (Schedule,), {"__doc__": doc, "__module__": __name__, "_row": row})
    first = inspect.Parameter(
        "initial_learning_rate", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=float
    )
    rest = inspect.Parameter("values", inspect.Parameter.VAR_POSITIONAL)
    parameters.sort(key=lambda p: p.default is not inspect.Parameter.empty)
    made.__signature__ = inspect.Signature([first, rest, *parameters])
    return made


def _make_classes():
    for name, (row_name, listed) in _NAMES.items():
        row = next(r for r in _core.schedule_table() if r["name"] == row_name and r["list"] == listed)
        globals()[name] = _class(name, row)


_make_classes()
__all__ = ["Schedule", *_NAMES]
