"""Model arguments: a path, the bytes of a file, an onnx.ModelProto, or a loaded model."""

import os

from . import _core
from .errors import InputError


def bytes_or_path(model):
    """(bytes, None) or (None, path)."""
    if isinstance(model, (bytes, bytearray, memoryview)):
        return bytes(model), None
    if isinstance(model, (str, os.PathLike)):
        return None, os.fspath(model)
    if hasattr(model, "SerializeToString"):
        return model.SerializeToString(), None
    raise InputError(
        "a model: a path, bytes of an .onnx file, or an onnx.ModelProto",
        type(model).__name__,
        "halfstep.load reads one",
    )


def loaded(model, folder=""):
    """The _core.LoadedModel. `folder` has the external data of bytes."""
    if isinstance(model, _core.LoadedModel):
        return model
    own = getattr(model, "_loaded", None)
    if isinstance(own, _core.LoadedModel):
        return own
    data, path = bytes_or_path(model)
    return _core.LoadedModel.open(path) if data is None else _core.LoadedModel.from_bytes(data, folder)


def file_of(model):
    """The _core.ModelFile, for conversion."""
    if isinstance(model, _core.ModelFile):
        return model
    data, path = bytes_or_path(model)
    return _core.ModelFile.open(path) if data is None else _core.ModelFile.from_bytes(data)
