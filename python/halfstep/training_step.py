"""Training step by step, with a custom training loop."""

import operator

from . import _core
from ._sources import described, loaded, refuse_copy
from .errors import InputError
from .losses import as_losses
from .optimizers import as_optimizer

__all__ = ["StepReport", "TrainingStep"]

StepReport = _core.StepReport


def _patterns(patterns):
    return [patterns] if isinstance(patterns, str) else list(patterns or ())


def _checked_seed(seed):
    if not hasattr(seed, "__index__") or not 0 <= operator.index(seed) < 2**64:
        raise InputError("a seed from 0 to 2**64 - 1", repr(seed), "")
    return operator.index(seed)


class TrainingStep(_core.TrainingStep):
    """Trains a model step by step.

    There are two ways to run a step: `run`, which is a single program and the fastest, or `forward_backward` once or
    several times to accumulate gradients, followed by `update`. In between gradients can be read and replaced.

    Batches are dictionaries: arrays by the names of the model's inputs and of the labels (default: "labels", see Loss),
    with the batch along axis 0. A program is compiled for each new set of shapes. The first program determines the
    memory layout for all, so call `run` first if the speed of steps matters.

    It is not thread-safe: concurrent use raises InputError.

    Args:
        model: a path, bytes of an .onnx file, an onnx.ModelProto, or a halfstep.Model.
        loss: a name, a Loss, {output: loss}, or a list of them. None: from the first batch's labels and the model.
        optimizer: an optimizer such as halfstep.Adam(1e-3), or its name. A schedule is not applied here: set
            `learning_rate`.
        precision: "auto", "fp32", "bf16" or "fp16". Parameters are always f32. With `tune`, "auto" is the fastest that
            is measured with the first batch that is trained; until then all follows that of the device.
        loss_weights: weights of several losses, by output or in order.
        loss_model: an ONNX model that computes the loss as its first output, instead of `loss`; its inputs are named
            like outputs of the model, or are labels.
        loss_scale: initial loss scale; None: 65536 for fp16, else off; 0: off.
        freeze, trainable: name patterns of parameters that are not trained, or of the only ones that are.
        train_batchnorm, train_dropout: False: as in inference.
        seed: seed of dropout and random operators.
        memory_budget: memory limit of training, a number of bytes or "500MB", "2GiB": activations are recomputed in the
            backward pass to meet it, with the same results. None: no limit.
        executor, device, threads, batch_axes, programs, fp32_math, tune, deterministic: as in Session.
        ranks: of halfstep.distributed.init(): each rank creates a step of the same model and options, and calls the
            same functions with its own rows, at least one. Loss, gradients and update are those of all rows; outputs
            and evaluation are those of a rank's own rows. None: a single process.
        sync_batchnorm: BatchNormalization uses statistics of the rows of all ranks.
        sharded_optimizer: each rank updates a part of the parameters and stores only their moments, with the same
            results. All ranks then call `state` together.
        gradient_precision: precision in which gradients are summed over ranks: "fp32", or "bf16" and "fp16" with error
            feedback.

    Raises InputError if the model has nothing to train, and for options out of range.
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
        device=None,
        threads=0,
        batch_axes=None,
        programs=16,
        memory_budget=None,
        fp32_math="strict",
        tune="off",
        deterministic=True,
        ranks=None,
        sync_batchnorm=False,
        sharded_optimizer=False,
        gradient_precision="fp32",
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
            seed=_checked_seed(seed),
            batch_axes=batch_axes or {},
            programs=programs,
            executor=executor,
            device=device or "",
            threads=threads,
            fp32_math=fp32_math,
            tune=tune,
            deterministic=deterministic,
            memory_budget="" if memory_budget is None else str(memory_budget),
            ranks=ranks,
            sync_batchnorm=sync_batchnorm,
            sharded_optimizer=sharded_optimizer,
            gradient_precision=gradient_precision,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return described(self, "executor", "precision", "learning_rate", "updates")

    __reduce_ex__ = refuse_copy
