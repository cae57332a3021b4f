"""A model to run: outputs by name for inputs by name."""

from . import _core
from ._sources import loaded

__all__ = ["Session"]


class Session(_core.Session):
    """A model to run, in inference form: BatchNormalization by its running statistics, no dropout.

    Takes inputs of any shapes that the model takes, and compiles a program for each set of shapes when it first comes.
    One thread at a time may use it; another one that does gets an InputError. Several sessions are independent.

    Args:
        model: a path, bytes of an .onnx file, an onnx.ModelProto, or what halfstep.load gave.
        executor: "auto", or one that halfstep.devices() lists.
        precision: what is computed in: "fp32", "bf16", "fp16" or "auto". Inputs and outputs keep their types.
        threads: 0: as many as the process may use.
        batch_axes: the batch's axis of inputs and outputs by name, where it is not the first.
        programs: as many are kept, each for its shapes.
        fp32_math: how products and convolutions of f32 are computed: "strict", or "bf16", which rounds their operands
            where the device multiplies bf16 faster.

    Raises InputError for models that cannot be read or run, and names that there are not.
    """

    def __init__(self, model, executor="auto", precision="fp32", *, threads=0, batch_axes=None, programs=16, fp32_math="strict"):
        super().__init__(
            loaded(model),
            executor=executor,
            precision=precision,
            threads=threads,
            fp32_math=fp32_math,
            batch_axes=batch_axes or {},
            programs=programs,
        )

    def run(self, inputs):
        """The outputs by name, for a dictionary of all inputs by name, or an array where the model takes one.

        Raises InputError for missing and unknown names and for types and shapes that the model does not take.
        """
        if not isinstance(inputs, dict):
            names = [name for name, _, _ in self.inputs]
            inputs = {names[0]: inputs} if len(names) == 1 else inputs
        return super().run(inputs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
