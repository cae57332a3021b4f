"""usage: examples_test.py programs|plugin EXAMPLES HALFSTEP MODELS

Runs the programs of examples/ as they were built in the folder EXAMPLES, and the installed program HALFSTEP with the
example plug-in.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import onnx
import onnx.parser
import onnxruntime

case, examples, halfstep, models = sys.argv[1], *map(Path, sys.argv[2:])
environment = os.environ | {"HALFSTEP_PLUGIN_PATH": str(examples / "plugin")}


def run(*command, expected=0):
    outcome = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment)
    assert outcome.returncode == expected, f"{command} gave {outcome.returncode}\n{outcome.stdout}{outcome.stderr}"
    return outcome.stdout + outcome.stderr


def ort_output(model, x):
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def programs(folder):
    mlp, trained, half = models / "mnist_mlp.onnx", folder / "trained.onnx", folder / "half.onnx"
    text = run(examples / "train", mlp, models / "mnist", trained, 101)
    losses = [float(loss) for loss in re.findall(r"loss ([0-9.]+)", text)]
    assert len(losses) >= 2 and losses[1] < losses[0], text

    shape = [d.dim_value or 3 for d in onnx.load(mlp).graph.input[0].type.tensor_type.shape.dim]
    x = numpy.random.default_rng(1).random(shape, numpy.float32)
    numpy.save(folder / "x.npy", x)
    run(examples / "run", trained, folder / "x.npy", folder / "y.npy")
    numpy.testing.assert_allclose(numpy.load(folder / "y.npy"), ort_output(trained, x), rtol=1e-4, atol=1e-4)

    text = run(examples / "convert", trained, half)
    assert re.search(r"[1-9]\d* nodes in fp16", text), text
    assert half.stat().st_size < 0.6 * trained.stat().st_size

    # Labels that follow from the rows, so that there is something to learn.
    labels = numpy.random.default_rng(2).integers(0, 10, 640)
    rows = numpy.random.default_rng(3).random((640, *shape[1:]), numpy.float32)
    for row, label in zip(rows.reshape(640, -1), labels):
        row[50 * label : 50 * label + 50] += 2
    numpy.save(folder / "rows.npy", rows)
    numpy.save(folder / "labels.npy", labels)
    text = run(examples / "step", mlp, folder / "rows.npy", folder / "labels.npy", folder / "stepped.onnx")
    losses = [float(loss) for loss in re.findall(r"loss ([0-9.]+)", text)]
    assert len(losses) == 2 and losses[1] < losses[0], text
    assert ort_output(folder / "stepped.onnx", x).shape == (shape[0], 10)

    for command in (["custom_loss", mlp, folder / "rows.npy", folder / "labels.npy"], ["rows"], ["two_heads"]):
        text = run(examples / command[0], *command[1:])
        losses = [float(loss) for loss in re.findall(r"loss ([0-9.]+)", text)]
        assert len(losses) >= 2 and losses[-1] < 0.99 * losses[0], text
    assert "accuracy of the scores 1" in text, text

    for program in ("train", "run", "convert"):
        assert "usage: " in run(examples / program, expected=2)
        assert "expected " in run(examples / program, folder / "missing.onnx", folder / "x.npy", *([folder / "out"] if program != "convert" else []), expected=1)


SWISH = """<ir_version: 10, opset_import: ["": 20, "com.example": 1]>
m (float[N, 4] x) => (float[N, 1] y) {
  h = MatMul(x, w1)
  a = com.example.Swish<beta = 1.5>(h)
  y = MatMul(a, w2)
}"""


def swish_model(path):
    model = onnx.parser.parse_model(SWISH)
    random = numpy.random.default_rng(2)
    weights = {"w1": (4, 8), "w2": (8, 1)}
    for name, shape in weights.items():
        values = random.standard_normal(shape).astype(numpy.float32) / 2
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, path)
    return [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]


def plugin(folder):
    found = json.loads(run(halfstep, "devices", "--json"))
    example = next(executor for executor in found["executors"] if executor["name"] == "example")
    assert example["available"], example
    assert found["auto"] != "example"
    for operator in ("com.example.Swish", "Relu", "Gemm"):
        text = run(halfstep, "check", "--executor", "example", "--op", operator)
        assert " 0 failed" in text, text
    text = run(examples / "plugin" / "conformance", "--gtest_filter=*com_example_Swish:*program")
    assert "com_example_Swish" in text and "[  PASSED  ] 2 tests" in text, text

    model, trained = folder / "swish.onnx", folder / "trained.onnx"
    w1, w2 = swish_model(model)
    x = numpy.random.default_rng(3).standard_normal((64, 4)).astype(numpy.float32)
    numpy.save(folder / "x.npy", x)
    numpy.save(folder / "y.npy", numpy.sin(x.sum(1, keepdims=True)))
    h = (x @ w1).astype(numpy.float64)
    expected = (h / (1 + numpy.exp(-1.5 * h))) @ w2
    for executor in ("example", "onednn", "reference"):
        run(halfstep, "run", model, "--input", folder / "x.npy", "-o", folder / "out.npz", "--executor", executor)
        [out] = numpy.load(folder / "out.npz").values()
        numpy.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    data = f"{folder / 'x.npy'},{folder / 'y.npy'}"
    run(halfstep, "train", model, "--data", data, "--executor", "example", "--epochs", 20, "-o", trained)
    before, after = (
        json.loads(run(halfstep, "evaluate", file, "--data", data, "--executor", "example", "--json"))["loss"]
        for file in (model, trained)
    )
    assert after < before, (before, after)
    # Without the plug-in the operator is not known.
    del environment["HALFSTEP_PLUGIN_PATH"]
    assert "com.example.Swish" in run(halfstep, "run", model, "--input", folder / "x.npy", "-o", folder / "out.npz", expected=2)
    # By its file it needs no folder to be named.
    library = examples / "plugin" / "libhalfstep-example.so"
    run(halfstep, "run", model, "--input", folder / "x.npy", "-o", folder / "out.npz", "--plugin", library)


with tempfile.TemporaryDirectory() as name:
    {"programs": programs, "plugin": plugin}[case](Path(name))
