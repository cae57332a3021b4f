"""Arrays in and out."""

import array

import ml_dtypes
import numpy
import onnx.parser
import pytest

import halfstep

MODEL = """
<ir_version: 10, opset_import: ["": 20]>
double (TYPE[N,3] x) => (TYPE[N,3] y) { y = Add(x, x) }
"""


def session(dtype):
    return halfstep.Session(onnx.parser.parse_model(MODEL.replace("TYPE", dtype)))


VALUES = numpy.arange(6).reshape(2, 3)


class Exported:
    """What gives DLPack and nothing else, as a tensor of another library."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


READ_ONLY = VALUES.astype(numpy.float32)
READ_ONLY.flags.writeable = False
UNALIGNED = numpy.frombuffer(b"\0" + VALUES.astype(numpy.float32).tobytes(), numpy.uint8)[1:].view(numpy.float32)


@pytest.mark.parametrize(
    "given",
    [
        VALUES.astype(numpy.float32),
        numpy.asfortranarray(VALUES.astype(numpy.float32)),
        numpy.repeat(VALUES, 2, axis=1).astype(numpy.float32)[:, ::2],
        VALUES.astype(numpy.float32)[::-1][::-1],
        VALUES.astype(">f4"),
        VALUES.astype(numpy.float64),
        VALUES.astype(numpy.float16),
        VALUES.astype(ml_dtypes.bfloat16),
        READ_ONLY,
        UNALIGNED.reshape(2, 3),
        memoryview(VALUES.astype(numpy.float32)),
        memoryview(array.array("f", range(6))).cast("B").cast("f", (2, 3)),
        Exported(VALUES.astype(numpy.float32)),
        [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
    ],
    ids=lambda given: f"{type(given).__name__} {getattr(given, 'dtype', '')}",
)
def test_what_a_float_input_takes(given):
    outputs = session("float").run({"x": given})
    assert outputs["y"].dtype == numpy.float32
    numpy.testing.assert_array_equal(outputs["y"], 2 * VALUES)


@pytest.mark.parametrize(
    "name, dtype",
    [
        ("float", numpy.float32),
        ("double", numpy.float64),
        ("float16", numpy.float16),
        ("bfloat16", ml_dtypes.bfloat16),
        ("int32", numpy.int32),
        ("int64", numpy.int64),
        ("uint8", numpy.uint8),
    ],
)
def test_types_go_round(name, dtype):
    outputs = session(name).run({"x": VALUES.astype(dtype)})
    assert outputs["y"].dtype == dtype
    numpy.testing.assert_array_equal(outputs["y"], (2 * VALUES).astype(dtype))


def test_outputs_are_the_callers():
    doubled = session("float")
    x = VALUES.astype(numpy.float32)
    first = doubled.run({"x": x})["y"]
    kept = first.copy()
    doubled.run({"x": x + 1})
    numpy.testing.assert_array_equal(first, kept)
    first[:] = 0  # writable
    del doubled
    assert (first == 0).all()


def test_an_array_does_for_one_input():
    assert session("float").run(VALUES.astype(numpy.float32))["y"].shape == (2, 3)


def test_no_rows():
    assert session("float").run({"x": numpy.zeros((0, 3), numpy.float32)})["y"].shape == (0, 3)


def test_a_scalar():
    scalar = onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 20]> s (float x) => (float y) { y = Neg(x) }')
    outputs = halfstep.Session(scalar).run({"x": numpy.float32(2)})
    assert outputs["y"].shape == () and outputs["y"] == -2
