"""Learning-rate schedules: a class for each row of halfstep's table."""

import inspect

from . import _core
from .errors import InputError

# Class → row of the table, and what tells rows of one name apart.
_NAMES = {
    "Constant": ("constant", ""),
    "ExponentialDecay": ("exponential", ""),
    "StepDecay": ("step", ""),
    "MultiStepDecay": ("step", "milestones"),
    "CosineDecay": ("cosine", ""),
    "LinearDecay": ("linear", ""),
    "PolynomialDecay": ("polynomial", ""),
    "OneCycle": ("one_cycle", ""),
}


class Schedule:
    """A learning rate that follows the number of updates. Skipped updates do not count."""

    def __init__(self, **numbers):
        signature = inspect.signature(type(self))
        try:
            given = signature.bind(**numbers).arguments
        except TypeError as error:
            raise InputError(f"the numbers of {type(self).__name__}{signature}", str(error), "") from None
        self.form = self._row["name"] + ":" + ",".join(f"{key}={_text(value)}" for key, value in given.items())
        if not given:
            self.form = self._row["name"]
        self.at(0, 1.0)  # checks

    def at(self, updates, learning_rate):
        """The learning rate of the update that follows `updates`, for a base of `learning_rate`."""
        return self.bound(learning_rate).at(updates)

    def bound(self, learning_rate):
        """The same for one base: an object with at(updates)."""
        return _core.Schedule(self.form, learning_rate)

    def __repr__(self):
        return f"{type(self).__name__}({self.form})"


class _FromText(Schedule):
    """A schedule as the command line writes it: "cosine:decay_steps=1000"."""

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
        from_ = "true or false" if key["kind"] == "flag" else f"from {key['lowest']:g} on"
        add(key["name"], key["kind"], default, from_)
    if row["list"]:
        add(row["list"], list, inspect.Parameter.empty, "increasing numbers of updates")
    if not row["warms_up"]:
        add("warmup_steps", "count", 0, "updates of a linear warm-up before it")
        add("warmup_start", "number", 0.0, "what fraction of the learning rate that starts with")
    doc = f"Gives the rates of {row['source']}.\n\nArgs:\n" + "\n".join(lines)
    made = type(name, (Schedule,), {"__doc__": doc, "__module__": __name__, "_row": row})
    made.__signature__ = inspect.Signature(sorted(parameters, key=lambda p: p.default is not inspect.Parameter.empty))
    return made


def _make_classes():
    for name, (row_name, listed) in _NAMES.items():
        row = next(r for r in _core.schedule_table() if r["name"] == row_name and r["list"] == listed)
        globals()[name] = _class(name, row)


_make_classes()
__all__ = ["Schedule", *_NAMES]
