"""Training step by step, on batches of one's own."""

from . import _core
from ._sources import loaded
from .losses import as_losses
from .optimizers import as_optimizer

__all__ = ["StepReport", "TrainingStep"]

StepReport = _core.StepReport


def _patterns(patterns):
    return [patterns] if isinstance(patterns, str) else list(patterns or ())


class TrainingStep(_core.TrainingStep):
    """A model in training, step by step.

    Two ways to make a step: `run`, which is one program and the fastest, or `forward_backward` as often as gradients
    are to be added up, and then `update`. In between gradients can be read and replaced.

    Batches are dictionaries: arrays by the names of the model's inputs and of the labels ("labels", unless a Loss says
    otherwise), the batch along axis 0. A program is compiled for each set of shapes when it first comes; the first one
    decides about the layout of all, so where a step's speed matters make `run` the first call.

    One thread at a time may use it; another one that does gets an InputError.

    Args:
        model: a path, bytes of an .onnx file, an onnx.ModelProto, or what halfstep.load gave.
        loss: a name, a Loss, {output: loss}, or a list of them. None: as the first batch's labels and the model tell.
        optimizer: an optimizer such as halfstep.Adam(1e-3), or its name. Its schedule, if any, is not followed here:
            set `learning_rate`.
        precision: "auto", "fp32", "bf16" or "fp16". Parameters are f32 whatever it is.
        loss_weights: of several losses, by output or in their order.
        loss_model: an ONNX model that computes the loss, in place of `loss`: from inputs that are called like outputs
            of the model, and labels. Its first output is the loss.
        loss_scale: the first one; None: 65536 for fp16, off otherwise; 0: off.
        freeze, trainable: shell patterns over names of parameters that are not trained, or that alone are.
        train_batchnorm, train_dropout: False: as in inference.
        seed: of dropout and random operators.
        memory_budget: bytes that a step may take, a number or "500MB", "2GiB"; activations are computed again in the
            backward pass for that, with the same results. None: any.
        executor, threads, batch_axes, programs, fp32_math: as of Session.

    Raises InputError where the model has nothing to train, and for options out of range.
    """

    def __init__(
        self,
        model,
        loss=None,
        optimizer=None,
        precision="auto",
        *,
        loss_weights=None,
        loss_model=None,
        loss_scale=None,
        freeze=(),
        trainable=(),
        train_batchnorm=True,
        train_dropout=True,
        seed=0,
        executor="auto",
        threads=0,
        batch_axes=None,
        programs=16,
        memory_budget=None,
        fp32_math="strict",
    ):
        source = loaded(model)
        optimizer = as_optimizer(optimizer)
        losses = as_losses(loss, loss_weights, source.outputs)
        super().__init__(
            source,
            terms=None if losses is None else [one.term(source.outputs) for one in losses],
            loss_model=None if loss_model is None else loaded(loss_model),
            optimizer=optimizer.name,
            numbers=optimizer.numbers,
            groups=optimizer.group_options(),
            learning_rate=optimizer.learning_rate,
            precision=precision,
            loss_scale=loss_scale,
            freeze=_patterns(freeze),
            trainable=_patterns(trainable),
            train_batchnorm=train_batchnorm,
            train_dropout=train_dropout,
            seed=seed,
            batch_axes=batch_axes or {},
            programs=programs,
            executor=executor,
            threads=threads,
            fp32_math=fp32_math,
            memory_budget="" if memory_budget is None else str(memory_budget),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
