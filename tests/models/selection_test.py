"""What is trained where the file does not say: learnable scalars, buffers, weights in Constant nodes, the one bias of
Keras' recurrent layers. The folders of tests/models/selection hold PyTorch's losses on the same graphs in double
precision (`losses`, by SGD), the parameters that it trained, and what the program has to say.

usage: selection_test.py PROGRAM EXECUTOR
"""

import json
import math
import pathlib
import sys
import tempfile

import numpy
import onnx
from onnx import numpy_helper

from halfstep_program import read_log, run

CASES = pathlib.Path(__file__).parent / "selection"
TOLERANCE = 2e-5  # relative


def tensors(path):
    """Initializers and Constant nodes, by name."""
    graph = onnx.load(path).graph
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def train(program, executor, case, expected, folder, *flags, steps=6):
    log, trained = pathlib.Path(folder) / "log.jsonl", pathlib.Path(folder) / "trained.onnx"
    said = run(program, "train", case / "model.onnx", "--data", f"{case / 'x.npy'},{case / 'y.npy'}",
               "--optimizer", "sgd", "--lr", expected["lr"], "--steps", steps, "--batch", 4,
               "--no-shuffle", "--precision", "fp32",
               "--executor", executor, "--log", log, "-o", trained, *flags)  # fmt: skip
    onnx.checker.check_model(onnx.load(trained), full_check=True)
    return [float(record["loss"]) for record in read_log(log)], tensors(trained), said


def check_case(program, executor, case):
    expected = json.loads((case / "expected.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        losses, after, said = train(program, executor, case, expected, folder)
    before = tensors(case / "model.onnx")
    assert len(losses) == len(expected["losses"]), losses
    for found, wanted in zip(losses, expected["losses"]):
        assert math.isclose(found, wanted, rel_tol=TOLERANCE), f"{case.name}: {losses}, not {expected['losses']}"
    changed = {name for name in before if not numpy.array_equal(before[name], after[name])}
    assert changed == set(expected["trained"]) | set(expected.get("moved", [])), f"{case.name}: {changed}"
    for name in expected.get("half", []):
        half = before[name].shape[1] // 2
        assert not after[name][:, half:].any(), f"{case.name}: the second half of '{name}' has changed"
    for part in expected["said"]:
        assert part in said, f"{case.name}: '{part}' is not in\n{said}"
    assert expected["said"] or "guessed" not in said, said


def check_resume(program, executor):
    """A run that is interrupted after three steps ends as one that is not: with weights in Constant nodes, and with
    only the first half of B in the checkpoint."""
    for name in ("paddle", "lstm-keras"):
        case = CASES / name
        expected = json.loads((case / "expected.json").read_text())
        with tempfile.TemporaryDirectory() as folder:
            _, whole, _ = train(program, executor, case, expected, folder)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = pathlib.Path(folder) / "checkpoint"
            train(program, executor, case, expected, folder, "--checkpoint", checkpoint, steps=3)
            _, resumed, _ = train(program, executor, case, expected, folder, "--resume", checkpoint)
        for key in expected["trained"]:
            assert numpy.array_equal(whole[key], resumed[key]), f"{name}: '{key}' is another after --resume"


def check_half(program, executor):
    """The trained model in fp16 has its trained Constant nodes in fp16."""
    case = CASES / "paddle"
    expected = json.loads((case / "expected.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        half = pathlib.Path(folder) / "half.onnx"
        _, trained, _ = train(program, executor, case, expected, folder, "--fp16-output", half)
        found = tensors(half)
    for name in ("conv2d_0.w_0", "linear_0.w_0"):
        assert found[name].dtype == numpy.float16, found[name].dtype
        assert numpy.allclose(found[name], trained[name], rtol=1e-3, atol=1e-6), name


def check_flags(program, executor):
    """What was guessed can be changed, and is then no guess; freezing what is not trained anyway is no error."""
    case = CASES / "buffers"
    expected = json.loads((case / "expected.json").read_text())
    before = tensors(case / "model.onnx")
    with tempfile.TemporaryDirectory() as folder:
        _, after, said = train(program, executor, case, expected, folder, "--trainable", "*,pe")
        assert not numpy.array_equal(before["pe"], after["pe"]) and "'pe'" not in said, said
        losses, _, said = train(program, executor, case, expected, folder, "--freeze", "mean,s*,pe,temp")
        assert losses and "guessed" not in said, said
    case = CASES / "lstm-keras"
    expected = json.loads((case / "expected.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        _, after, _ = train(program, executor, case, expected, folder, "--trainable", "*,B")
        half = after["B"].shape[1] // 2
        assert after["B"][:, half:].any(), "--trainable B trains all of it"


def main(program, executor):
    for case in sorted(CASES.iterdir()):
        check_case(program, executor, case)
    check_resume(program, executor)
    check_half(program, executor)
    check_flags(program, executor)


if __name__ == "__main__":
    main(*sys.argv[1:])
