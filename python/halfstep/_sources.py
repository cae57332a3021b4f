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


def by_name(inputs, model, what="inputs"):
    """`inputs` as a dictionary from names to arrays; `model` has one input where it is an array."""
    if isinstance(inputs, dict):
        return inputs
    names = [name for name, _, _ in model.inputs]
    if len(names) != 1 or inputs is None:
        raise InputError(
            f"{what} as a dictionary from names to arrays: {', '.join(names)}",
            type(inputs).__name__,
            "write {'NAME': array}",
        )
    return {names[0]: inputs}


def refuse_copy(self, protocol=None):
    """__reduce_ex__ of objects that hold programs: pickle and copy call it."""
    raise InputError(
        "a model that is saved, to copy it or to send it to another process",
        type(self).__name__,
        "use the path or to_bytes() of a model there, and state() for what training changes",
    )


def described(opened, *names):
    """For __repr__ of objects that hold programs: these attributes, which a closed one, and one in use, cannot tell."""
    kind = type(opened).__name__
    if opened.closed:
        return f"{kind}(closed)"
    try:
        values = ", ".join(f"{name}={getattr(opened, name)!r}" for name in names)
    except InputError:  # another thread uses it
        return f"{kind}(in use)"
    return f"{kind}({values})"


def file_of(model):
    """The _core.ModelFile, for conversion."""
    if isinstance(model, _core.ModelFile):
        return model
    data, path = bytes_or_path(model)
    return _core.ModelFile.open(path) if data is None else _core.ModelFile.from_bytes(data)
