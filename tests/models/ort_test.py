"""Trained models do in ONNX Runtime what they do in halfstep: the same predictions on the MNIST test images.

usage: ort_test.py PROGRAM
"""

import gzip
import pathlib
import sys
import tempfile

import numpy
import onnxruntime

from halfstep_program import MODELS, run

MNIST = MODELS / "mnist"


def idx(name, header):
    with gzip.open(MNIST / name) as file:
        return numpy.frombuffer(file.read(), numpy.uint8, offset=header)


def ort_outputs(model, x):
    """The model's outputs by ONNX Runtime, in float32. Converts x to what the model takes."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (model_input,) = session.get_inputs()
    dtype = {"tensor(float)": numpy.float32, "tensor(float16)": numpy.float16}[model_input.type]
    return session.run(None, {model_input.name: x.astype(dtype)})[0].astype(numpy.float32)


def main(program):
    images = idx("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 784).astype(numpy.float32) / 255
    labels = idx("t10k-labels-idx1-ubyte.gz", 8)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        trained, half = folder / "trained.onnx", folder / "trained_fp16.onnx"
        run(program, "train", MODELS / "mnist_mlp.onnx", "--data", MNIST, "--precision", "auto", "--epochs", 1,
            "-o", trained, "--fp16-output", half)  # fmt: skip
        numpy.save(folder / "x.npy", images)
        run(program, "run", trained, "--input", folder / "x.npy", "--precision", "fp32", "-o", folder / "out.npz")
        with numpy.load(folder / "out.npz") as outputs:
            (ours,) = outputs.values()

        full_outputs, half_outputs = ort_outputs(trained, images), ort_outputs(half, images)
        numpy.testing.assert_allclose(full_outputs, ours, rtol=1e-4, atol=1e-4)
        full_top, half_top = full_outputs.argmax(1), half_outputs.argmax(1)
        same, same_half = (full_top == ours.argmax(1)).mean(), (half_top == full_top).mean()
        accuracy = (full_top == labels).mean()
        print(f"top-1 as halfstep's: {same:.2%}; fp16 as fp32: {same_half:.2%}; accuracy {accuracy:.2%}")
        assert same == 1, "ONNX Runtime predicts otherwise than halfstep"
        assert same_half >= 0.999, "the fp16 model predicts otherwise than the fp32 model"
        assert accuracy > 0.94, "one epoch of MNIST reaches more than that"
        assert half.stat().st_size < 0.55 * trained.stat().st_size, "the weights of the fp16 model are not in fp16"


if __name__ == "__main__":
    main(*sys.argv[1:])
