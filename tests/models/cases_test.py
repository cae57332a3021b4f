"""Trains one model of models/zoo for ten steps and holds losses and gradient norms against those of the framework that
exported it. What is trained must be what the framework trained.

usage: cases_test.py PROGRAM CASE EXECUTOR {fp32,bf16,fp16}
"""

import json
import math
import pathlib
import sys
import tempfile

from halfstep_program import MODELS, npy_shape, read_log, run

FIRST_LOSS = 1e-5  # relative, fp32
TENTH_LOSS = 2e-3  # relative, fp32; at least SPREADS times what the framework strays from itself
SPREADS = 5
HALF_TENTH_LOSS = 0.05  # relative to fp32
HALF_SPREADS = 10
GRADIENT_NORM = 1e-3  # relative
CHAOTIC_GRADIENT_NORM = 1e-2  # the same for a case whose framework does not come within GRADIENT_NORM of itself
NEGLIGIBLE_NORM = 1e-5  # of the largest norm: rounding decides about what is smaller
FOLDED_TENTH_LOSS = 0.05  # relative, of a model whose exporter folded parameters: not quite what the framework trained

# A tied parameter has one of its names in the file, the framework counts it under another.
OTHER_NAME = {"m.lm_head.weight": "m.transformer.wte.weight"}
# Parameters that torch.onnx's optimizer dropped because they were zero: biases of Gemm.
DROPPED = {"autoencoder-dynamo-optimized": 0, "deit-dynamo-optimized": 1, "roberta-dynamo-optimized": 2}


def train(program, case, expected, executor, precision):
    """The log of ten steps on the case's batch."""
    rows = npy_shape(case / "x.npy")[0]
    hyperparameters = []
    for name in ("lr", "momentum", "weight_decay"):
        if name in expected:
            hyperparameters += [f"--{name.replace('_', '-')}", expected[name]]
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "log.jsonl"
        run(program, "train", case / "model.onnx", "--data", f"{case / 'x.npy'},{case / 'y.npy'}",
            "--loss", expected["loss"], "--optimizer", expected["optimizer"], *hyperparameters,
            "--no-shuffle", "--batch", rows, "--steps", 10, "--seed", 0, "--precision", precision,
            "--executor", executor, "--log", log, "--log-grad-norms",
            *(["--untie", "all"] if case.name in DROPPED else []))  # fmt: skip
        return read_log(log)


def spread(expected, step):
    """How far the framework strays from itself at a step, relative. Keras cases are as smooth as PyTorch's mlp: none."""
    return expected.get("spread", {}).get("losses", [0] * 10)[step]


def check_loss(log, expected, step, tolerance):
    found, wanted = float(log[step]["loss"]), expected["losses"][step]
    difference = abs(found - wanted) / abs(wanted)
    print(f"loss of step {step + 1}: {found:.7g}, the framework's {wanted:.7g}, relative difference {difference:.2g}")
    assert difference <= tolerance, f"loss of step {step + 1} is off by {difference:.3g}, allowed are {tolerance:.3g}"


def pair_norms(found, wanted):
    """(name, found, wanted) of each parameter. Keras' variables have other names in the file: those pair by size."""
    found = {OTHER_NAME.get(name, name): norm for name, norm in found.items()}
    if found.keys() == wanted.keys():
        return [(name, found[name], wanted[name]) for name in wanted]
    assert len(found) == len(wanted), f"{len(found)} parameters were trained, {len(wanted)} by the framework"
    assert not found.keys() & wanted.keys(), f"other parameters than the framework's: {found.keys() ^ wanted.keys()}"
    by_size = lambda norms: sorted(norms.items(), key=lambda item: item[1])
    return [(f[0], f[1], w[1]) for f, w in zip(by_size(found), by_size(wanted))]


def check_gradient_norms(log, expected):
    found = {name: float(norm) for name, norm in log[0]["grad_norms"].items()}
    pairs = pair_norms(found, expected["grad_norms"])
    strays = expected.get("spread", {}).get("grad_norms_max", 0) > GRADIENT_NORM
    tolerance = CHAOTIC_GRADIENT_NORM if strays else GRADIENT_NORM
    negligible = NEGLIGIBLE_NORM * max(expected["grad_norms"].values())
    wrong = [
        f"{name}: {found:.7g}, the framework's {wanted:.7g}"
        for name, found, wanted in pairs
        if not abs(found - wanted) <= max(tolerance * wanted, negligible)
    ]
    print(f"{len(pairs)} gradient norms, {len(wrong)} of them wrong")
    assert not wrong, "gradient norms of the first step:\n  " + "\n  ".join(wrong)


def check_folded(log, expected, dropped):
    """Names are not the framework's, but all that it trained and the exporter left is trained, and by its gradients."""
    found = sorted(float(norm) for norm in log[0]["grad_norms"].values())
    wanted = sorted(expected["grad_norms"].values())
    assert len(found) == len(wanted) - dropped, f"{len(found)} parameters were trained, {len(wanted) - dropped} are left"
    check_loss(log, expected, 0, FIRST_LOSS)
    check_loss(log, expected, 9, FOLDED_TENTH_LOSS)
    negligible = NEGLIGIBLE_NORM * wanted[-1]
    for norm in found:
        nearest = min(wanted, key=lambda other: abs(other - norm))
        assert abs(norm - nearest) <= max(GRADIENT_NORM * nearest, negligible), f"no parameter has the norm {norm:.7g}"
        wanted.remove(nearest)
    print(f"{len(found)} gradient norms, as the framework's")


def main(program, name, executor, precision):
    case = MODELS / "zoo" / name
    expected = json.loads((case / "expected.json").read_text())
    log = train(program, case, expected, executor, precision)
    assert len(log) == 10, f"{len(log)} steps were logged instead of 10"
    assert all(math.isfinite(float(record["loss"])) for record in log)
    if precision == "fp32" and name in DROPPED:
        check_folded(log, expected, DROPPED[name])
    elif precision == "fp32":
        check_loss(log, expected, 0, FIRST_LOSS)
        check_loss(log, expected, 9, max(TENTH_LOSS, SPREADS * spread(expected, 9)))
        check_gradient_norms(log, expected)
    else:
        check_loss(log, expected, 9, max(HALF_TENTH_LOSS, HALF_SPREADS * spread(expected, 9)))


if __name__ == "__main__":
    main(*sys.argv[1:])
