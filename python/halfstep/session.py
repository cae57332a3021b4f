"""Inference sessions: a model with inputs and outputs by name."""

from . import _core
from ._sources import by_name, described, loaded, refuse_copy

__all__ = ["Session"]


class Session(_core.Session):
    """A model in inference form: BatchNormalization uses its running statistics, and there is no dropout.

    Accepts inputs of all shapes that the model accepts, and compiles a program for each new set of shapes. It is not
    thread-safe: concurrent use raises InputError. Different sessions are independent.

    Args:
        model: a path, bytes of an .onnx file, an onnx.ModelProto, or a halfstep.Model.
        executor: "auto", or one that halfstep.devices() lists.
        device: the GPU, "cuda:0", "cuda:1" and so on or a UUID, as halfstep.devices() lists them. None: the first, or
            of several ranks on a machine that of the rank's number there.
        precision: of the computation: "fp32", "bf16", "fp16" or "auto". Inputs and outputs keep their types.
        threads: CPU threads; 0: all that the process may use.
        batch_axes: the batch axis of inputs and outputs by name, if it is not the first.
        programs: number of cached programs, one per set of shapes.
        fp32_math: precision of matrix products and convolutions of f32 tensors: "strict", or "bf16" or
            "tf32", which round their operands if the device multiplies those faster.
        tune: choice of kernels for products and convolutions: "off" by rules, "fast" or "full" by measuring, which
            ~/.cache/halfstep keeps for later runs.
        deterministic: bit-identical results on every run; False: a GPU's convolutions may sum in any order.

    Raises InputError for models that cannot be read or run, and for unknown names.
    """

    def __init__(
        self,
        model,
        executor="auto",
        precision="fp32",
        *,
        device=None,
        threads=0,
        batch_axes=None,
        programs=16,
        fp32_math="strict",
        tune="off",
        deterministic=True,
    ):
        super().__init__(
            loaded(model),
            executor=executor,
            precision=precision,
            device=device or "",
            threads=threads,
            fp32_math=fp32_math,
            tune=tune,
            deterministic=deterministic,
            batch_axes=batch_axes or {},
            programs=programs,
        )

    def run(self, inputs):
        """The outputs by name, for a dictionary of all inputs by name, or an array if the model has one input.

        Raises InputError for missing and unknown names, and for types and shapes that do not fit the model.
        """
        return super().run(by_name(inputs, self))

    def __repr__(self):
        return described(self, "inputs", "outputs", "executor", "precision")

    __reduce_ex__ = refuse_copy

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
