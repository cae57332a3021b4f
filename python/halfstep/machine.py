"""Contents of a model, executors of this machine, and checks of executors: as dictionaries."""

import json

import numpy

from . import _core
from ._sources import loaded
from .losses import as_losses
from .session import Session
from .training_step import TrainingStep

__all__ = ["check", "devices", "inspect", "profile"]


def _info(info):
    name, dtype, shape = info
    return {"name": name, "type": dtype, "shape": shape}


def inspect(model, *, trainable=True):
    """Describes a model.

    Returns {"inputs", "outputs": [{"name", "type", "shape"}], "operators": {name: count}, "initializers": {"tensors",
    "elements"}, "fixed_batch": rows or None} and, with `trainable`, "parameters": the trainable parameters, in the
    form of inputs, and "notices": choices made by heuristics. An unknown extent is None.

    Raises InputError for a model that cannot be read.
    """
    source = loaded(model)
    result = source.describe()
    result["inputs"] = [_info(info) for info in result["inputs"]]
    result["outputs"] = [_info(info) for info in result["outputs"]]
    result["fixed_batch"] = source.fixed_batch()
    if trainable:
        result["parameters"], result["notices"] = [], []
        try:
            with TrainingStep(source, precision="fp32", executor="reference") as step:
                result["parameters"] = [_info(info) for info in step.parameter_types]
                result["notices"] = step.notices
        except ValueError as error:  # a model without parameters is described, too
            result["notices"] = [str(error)]
    return result


def profile(
    model,
    data=None,
    *,
    training=False,
    batch=32,
    shapes=None,
    loss=None,
    precision=None,
    executor="auto",
    device=None,
    threads=0,
    steps=10,
    trace=None,
):
    """Measures the time per node of a step, and compares it with the limits of this machine.

    Args:
        data: arrays by name: the inputs and, with `training`, "labels"; None: example data with `batch` rows.
        training: a training step instead of inference.
        shapes: shapes of example inputs by name, if the model has unknown extents other than the batch.
        loss: loss of the training step; None: from the labels and the model.
        precision: None: "fp32", with `training` "auto".
        executor, device, threads: as in Session.
        steps: number of timed steps, first as a whole and then node by node.
        trace: path for a trace of the timed steps in the format of Perfetto and chrome://tracing.

    Returns the dictionary described in docs/json.md under `profile`: {"of", "precision", "batch", "executor", "peaks",
    "step_us", "step_mean_us", "least_us", "nodes", "operators", "scopes"}, each of the last three with "us", "share",
    "flops", "bytes", "least_us" and more.

    Raises InputError if shapes stay unknown, and for arrays that do not fit the model.
    """
    source = loaded(model)
    if data is None:
        losses = as_losses(loss, None, source.outputs)
        data = source.example(
            shapes={name: list(dims) for name, dims in (shapes or {}).items()},
            batch=batch,
            loss=losses[0].name if losses else None,
            labels=training,
        )
    options = {"executor": executor, "device": device, "threads": threads}
    options["precision"] = precision or ("auto" if training else "fp32")
    runner = TrainingStep(source, loss=loss, **options) if training else Session(source, **options)
    with runner:
        text, events = runner.profile(data, steps)
        used = {"of": "training step" if training else "inference", "precision": runner.precision}
    if trace is not None:
        with open(trace, "w", encoding="ascii") as file:
            file.write(events)
    shapes_used = (numpy.shape(data[name]) for name, _, _ in source.inputs)
    used["batch"] = next((shape[0] for shape in shapes_used if shape), None)
    return used | json.loads(text)


def devices():
    """The executors with their devices and features.

    Returns {"auto": name of the executor that "auto" selects, "executors": [...]}, each with "name", "available", and
    either "reason" (why not) or "device", "features", "memory_bytes", "native" ({class of operators: types}),
    "auto_precision" and "auto_reason". An executor with several devices has "devices", each with "id" and "uuid" (for
    `device`), "device", "features", "memory_bytes", "available" and "reason" if not.
    """
    return _core.devices()


def check(executor="auto", *, device=None, op="*", case="*", kind=None, dtype=None, random=2, seed=0):
    """Checks an executor on this machine against the reference executor. All checks take minutes.

    Args:
        device: as in Session.
        op, case: shell patterns over names of operators and cases.
        kind: only "program", "training", "gradient", "execution", "special" or "statistics".
        dtype: only "f32", "bf16", "f16" or "f64".
        random: number of random variations of each case. seed: seed of these.

    Returns {"executor", "passed", "failed", "not_applicable": counts, "checks": [{"op", "case", "kind", "type",
    "result", "message", "kernels"}]}.
    """
    selection = {"op": op, "case": case, "kind": kind, "dtype": dtype, "random": random, "seed": seed}
    checks = _core.check(executor=executor, device=device or "", **selection)
    counts = {result: 0 for result in ("passed", "failed", "not_applicable")}
    for one in checks:
        counts[one["result"].replace(" ", "_")] += 1
    return {"executor": executor, **counts, "checks": checks}
