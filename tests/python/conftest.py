"""Models and data that the tests share."""

import json
import pathlib

import numpy
import onnx.parser
import pytest

import halfstep

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ZOO = ROOT / "models" / "zoo"


class Case:
    """A model of the zoo with the batch and the losses of the framework that exported it."""

    def __init__(self, name):
        self.path = ZOO / name / "model.onnx"
        self.x, self.y = numpy.load(ZOO / name / "x.npy"), numpy.load(ZOO / name / "y.npy")
        self.expected = json.loads((ZOO / name / "expected.json").read_text())

    @property
    def losses(self):
        return self.expected["losses"]


@pytest.fixture(scope="session")
def mlp():
    return Case("mlp-torchscript")


@pytest.fixture
def case():
    return Case


# x f32[N,4] → scores f32[N,3], value f32[N,1], of one hidden layer.
TWO_OUTPUTS = """
<ir_version: 10, opset_import: ["": 20]>
two (float[N,4] x) => (float[N,3] scores, float[N,1] value)
<float[4,5] w = {0.1,-0.2,0.3,0.4,-0.5, 0.2,0.1,-0.3,0.2,0.4, -0.1,0.5,0.2,-0.4,0.3, 0.3,0.2,-0.1,0.1,-0.2},
 float[5,3] u = {0.2,-0.1,0.3, 0.1,0.4,-0.2, -0.3,0.2,0.1, 0.4,-0.3,0.2, 0.1,0.1,-0.4},
 float[5,1] v = {0.3,-0.2,0.1,0.4,-0.1}>
{
  h = MatMul(x, w)
  a = Tanh(h)
  scores = MatMul(a, u)
  value = MatMul(a, v)
}
"""


@pytest.fixture(scope="session")
def two_outputs():
    return onnx.parser.parse_model(TWO_OUTPUTS)


@pytest.fixture
def two_data():
    random = numpy.random.default_rng(7)
    x = random.standard_normal((24, 4), numpy.float32)
    return x, {"scores": random.integers(0, 3, 24), "value": random.standard_normal((24, 1), numpy.float32)}


def compiled(case, **options):
    model = halfstep.load(case.path)
    loss = "sparse_categorical_crossentropy"
    options = {"optimizer": halfstep.Adam(1e-3), "loss": loss, "precision": "fp32", **options}
    model.compile(**options)
    return model
