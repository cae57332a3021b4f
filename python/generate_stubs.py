"""Writes stubs of the modules whose classes are made from the library's tables: optimizers and schedules.

usage: generate_stubs.py SOURCES EXTENSION_FOLDER OUTPUT_FOLDER
"""

import importlib
import inspect
import pathlib
import sys
import types

HEADS = {
    "optimizers": '''from typing import Any, Iterable, Mapping

from .schedules import Schedule

class ParameterGroup:
    pattern: str
    lr_factor: float
    frozen_updates: int
    numbers: dict[str, float]
    def __init__(
        self, pattern: str, lr_factor: float = 1.0, frozen_updates: int = 0, numbers: dict[str, float] = ...
    ) -> None: ...

class Optimizer:
    learning_rate: float
    schedule: Schedule | None
    groups: list[ParameterGroup]
    numbers: dict[str, float]
    @property
    def name(self) -> str: ...
    @property
    def accumulate(self) -> int: ...

CLASSES: dict[str, type[Optimizer]]

def as_optimizer(optimizer: Any) -> Optimizer: ...
''',
    "schedules": '''from typing import Any

class Schedule:
    form: str
    def at(self, updates: int, learning_rate: float) -> float: ...
    def bound(self, learning_rate: float) -> Any: ...

def as_schedule(schedule: Any) -> Schedule | None: ...
''',
}
TYPES = {
    "schedule": "Schedule | str | None",
    "groups": "Iterable[ParameterGroup | Mapping[str, Any]]",
    "milestones": "list[int]",
}


def parameter(p):
    annotation = TYPES.get(p.name) or getattr(p.annotation, "__name__", "Any")
    if p.default is inspect.Parameter.empty:
        return f"{p.name}: {annotation}"
    return f"{p.name}: {annotation}{' | None' if p.default is None and 'None' not in annotation else ''} = {p.default!r}"


def stub_of(made, base):
    parts, starred = ["self"], False
    parameters = inspect.signature(made).parameters.values()
    by_position = any(p.kind is p.VAR_POSITIONAL for p in parameters)  # then what is required may be among them
    for p in parameters:
        if p.kind is p.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        if p.kind is p.VAR_POSITIONAL:
            parts.append(f"*{p.name}: Any")
            starred = True
            continue
        parts.append(parameter(p) + (" = ..." if by_position and p.default is p.empty else ""))
    arguments = "".join(f"        {part},\n" for part in parts)
    doc = inspect.getdoc(made).replace("\n", "\n    ").replace("    \n", "\n")
    return f'\nclass {made.__name__}({base}):\n    """{doc}"""\n\n    def __init__(\n{arguments}    ) -> None: ...\n'


def main(sources, extension, output):
    package = types.ModuleType("halfstep")  # without __init__, which asks for the installed version
    package.__path__ = [sources, extension]
    sys.modules["halfstep"] = package
    for name, head in HEADS.items():
        module = importlib.import_module(f"halfstep.{name}")
        base = "Optimizer" if name == "optimizers" else "Schedule"
        made = [getattr(module, key) for key in module.__all__ if key not in ("Optimizer", "ParameterGroup", "Schedule")]
        text = head + "".join(stub_of(one, base) for one in made)
        text += f"\n__all__ = {module.__all__!r}\n"
        pathlib.Path(output, f"{name}.pyi").write_text(text)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    main(*sys.argv[1:])
