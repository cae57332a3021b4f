"""The MNIST digits of the repository, for the examples."""

import gzip
import pathlib

import numpy

MODELS = pathlib.Path(__file__).resolve().parent.parent.parent / "models"


def _read(name, header):
    return numpy.frombuffer(gzip.open(MODELS / "mnist" / f"{name}-ubyte.gz").read(), numpy.uint8, offset=header)


def digits(part, count):
    """(f32[count, 784] from 0 to 1, i64[count]) of "train" or "t10k"."""
    x = _read(f"{part}-images-idx3", 16).reshape(-1, 784)[:count].astype("float32") / 255
    return x, _read(f"{part}-labels-idx1", 8)[:count].astype("int64")
