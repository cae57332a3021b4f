"""usage: coexistence_test.py onnxruntime|torch PROBE MODELS

halfstep and another library that has an ONNX and a protobuf of its own in one process, whichever is loaded first and
however: both work, also after the other has.
"""
import ctypes
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy


def use_onnxruntime(module, model, x):
    session = module.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def use_torch(module, model, x):
    layer = module.nn.Linear(4, 3)
    loss = layer(module.ones(2, 4)).square().mean()
    loss.backward()
    assert module.isfinite(layer.weight.grad).all()
    return None  # it runs no ONNX model


def one_process(other, probe, models, first, mode):
    with tempfile.TemporaryDirectory() as name:
        source, trained = models / "mnist_mlp.onnx", Path(name) / "trained.onnx"
        x = numpy.random.default_rng(1).random((1, 784), numpy.float32)
        if first == "halfstep":
            library = ctypes.CDLL(str(probe), mode)
            assert library.probe_error() == 1
        module = importlib.import_module(other)
        use = {"onnxruntime": use_onnxruntime, "torch": use_torch}[other]
        use(module, source, x)
        library = ctypes.CDLL(str(probe), mode)
        assert library.probe_error() == 1
        assert library.probe_train(str(source).encode(), str(models / "mnist").encode(), str(trained).encode()) == 0
        expected = use(module, trained, x)
        y = numpy.zeros((1, 10), numpy.float32)
        pointer = ctypes.POINTER(ctypes.c_float)
        assert library.probe_run(str(trained).encode(), x.ctypes.data_as(pointer), y.ctypes.data_as(pointer)) == 0
        assert numpy.isfinite(y).all() and y.any()
        if expected is not None:
            numpy.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def main():
    other, probe, models = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if len(sys.argv) == 6:
        return one_process(other, probe, models, sys.argv[4], int(sys.argv[5]))
    for first in ("halfstep", other):
        for mode in (ctypes.RTLD_LOCAL, ctypes.RTLD_GLOBAL):
            command = [sys.executable, "-B", *sys.argv, first, str(mode)]
            outcome = subprocess.run(command, capture_output=True, text=True)
            assert outcome.returncode == 0, f"{first} first, mode {mode}: {outcome.returncode}\n{outcome.stdout}{outcome.stderr}"


main()
