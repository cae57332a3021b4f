"""A model with an interface like that of Keras: compile, fit, evaluate, predict, save."""

import functools
import inspect
import itertools
import os

import numpy

from ._batches import Names, is_array
from ._data import Data
from ._prediction import predict
from ._progress import Progress
from ._running import BadUpdates, Running, begun
from ._sources import loaded, refuse_copy
from ._steps import EPOCHS, FROZEN, Steps, epochs_of
from .callbacks import as_callbacks, watching_steps
from .errors import InputError
from .history import History
from .losses import as_losses
from .metrics import metric_texts
from .optimizers import as_optimizer
from .session import Session
from .training_step import TrainingStep

__all__ = ["Model", "load"]


def load(model, *, folder=""):
    """Reads a model.

    Args:
        model: a path, bytes of an .onnx file, or an onnx.ModelProto.
        folder: folder with the external data of `model`, if given as bytes.

    Returns a Model. Raises InputError for an invalid ONNX model and unsupported operators.
    """
    return Model(loaded(model, os.fspath(folder)))


def _signature_of_compile(function):
    """With the options that are passed on to TrainingStep."""
    own = inspect.signature(function).parameters
    of_step = inspect.signature(TrainingStep.__init__).parameters
    options = [p for name, p in of_step.items() if p.kind is p.KEYWORD_ONLY or name == "precision"]
    options = [p.replace(kind=p.KEYWORD_ONLY) for p in options if p.name not in own and p.name != "loss_model"]
    return inspect.Signature([p for p in own.values() if p.kind is not p.VAR_KEYWORD] + options)


class Model:
    """An ONNX model for training, evaluation and inference, created by halfstep.load.

    Axis 0 of arrays is the batch axis. It is not thread-safe: one thread at a time may use it.

    Attributes:
        inputs, outputs: (name, type, shape) of each; an unknown extent is None.
        history: the History of the last call of fit.
        stop_training: set by callbacks to end fit after the current step; a string gives the reason.
    """

    def __init__(self, model):
        self._loaded = model
        self.inputs, self.outputs = model.inputs, model.outputs
        self.history = None
        self.stop_training = False
        self._steps = self._session = self._data = None
        self._epochs, self._fits, self._raises = 0, False, False

    # Configuration.

    def compile(self, optimizer=None, loss=None, metrics=None, *, loss_weights=None, **options):
        """Configures training. Keeps the current parameters, also of frozen layers, and statistics; the optimizer and
        the count of epochs start anew.

        Args:
            optimizer: such as halfstep.Adam(1e-3, schedule=...), or its name.
            loss: a name, a halfstep.Loss, {output: loss}, or a list. None: from the labels and the model.
            metrics: names, or {output: names}. None: the default metrics of the labels; []: none.
            seed: seed of shuffling, dropout and random operators: the same seed gives the same result.
            ranks: of halfstep.distributed.init(): `fit` and `evaluate` distribute rows to the processes, which all call
                the same functions with the same data. Validation uses the running statistics of rank 0, and after `fit`
                all ranks have them.
            others: as in halfstep.TrainingStep.

        Raises InputError if the model has nothing to train, for unknown names, and for options out of range.
        """
        self._require_no_fit("compile")
        metrics = metric_texts(metrics)
        if "loss_model" in options:
            raise InputError("a loss by its name", "loss_model", "use halfstep.TrainingStep for a loss model")
        optimizer = as_optimizer(optimizer)
        names = Names(self.inputs, self.outputs, as_losses(loss, loss_weights, self.outputs))
        known = [one.output for one in names.terms]
        unknown = [name for name in metrics if name not in known] if isinstance(metrics, dict) else []
        if unknown:
            expected = f"metrics by outputs with a loss: {', '.join(known)}"
            raise InputError(expected, f"'{unknown[0]}'", "check the names")
        self._steps = Steps(self._loaded, names.losses, optimizer, options, before=self._steps)
        self._names, self._metrics = names, metrics
        schedule = optimizer.schedule
        self._schedule = schedule.bound(optimizer.learning_rate) if schedule else None
        self._epochs = 0
        fixed = None if options.get("batch_axes") else self._fixed_batch
        self._data = Data(names, fixed, options.get("ranks"), options.get("seed", 0))

    compile.__signature__ = _signature_of_compile(compile)

    @property
    def step(self):
        """The TrainingStep. Raises InputError before compile."""
        if self._steps is None:
            raise InputError("a compiled model", "one that is not compiled", "call model.compile(...) first")
        return self._steps.trained.step

    @property
    def is_first_rank(self):
        """Whether this is rank 0, or a process that trains by itself."""
        return self._ranks is None or self._ranks.rank == 0

    @property
    def leaves_ranks(self):
        """Whether an exception ends fit on this rank of several: the others are anywhere, and nothing is collective."""
        return self._ranks is not None and self._raises

    @property
    def learning_rate(self):
        """Learning rate of the next update. Can be set if the optimizer has no schedule."""
        step = self.step
        return step.learning_rate if self._schedule is None else self._schedule.at(step.updates)

    @learning_rate.setter
    def learning_rate(self, value):
        if self.step is not None and self._schedule is not None:
            raise InputError("an optimizer without a schedule for setting its learning rate", "one with a schedule", "")
        self.step.learning_rate = value

    # Training.

    def fit(
        self,
        x,
        y=None,
        *,
        epochs=1,
        batch_size=None,
        validation_data=None,
        callbacks=None,
        shuffle=True,
        sample_weight=None,
        class_weight=None,
        steps_per_epoch=None,
        validation_split=0.0,
        initial_epoch=None,
        verbose="auto",
    ):
        """Trains for a number of epochs.

        Args:
            x: an array of rows, {input: array}, a source of rows by index (with __len__ and __getitem__, like a torch
                Dataset), or a source of batches: a list, a torch DataLoader, a tf.data.Dataset, a generator, or a
                function that returns an iterator. A row or a batch is (x, y), (x, y, weights) or a dictionary, in which
                "sample_weights" are weights: all have them or none has. Each rank has its own batches; an epoch ends
                for all when the first rank has none left, with a warning.
            y: labels, or {output: labels} for several losses.
            batch_size: of all ranks together. Default: 32, or the batch size of a model that can take no other (on each
                rank). The last batch has the remaining rows; those of such a model are left out, with a warning.
            validation_data: a tuple (x, y) or (x, y, weights), or a source of rows or batches.
            callbacks: halfstep.Callback objects, or functions of an epoch and its logs.
            sample_weight: an array with shape [rows] or that of the labels, or {output: array}.
            class_weight: {class: weight}, others 1, or a sequence. Means, of validation data too, are weighted by it.
            steps_per_epoch: number of batches per epoch, for a source of batches.
            validation_split: share of the rows of arrays, the last ones before shuffling, that are validation data.
            initial_epoch: number of the first epoch; `epochs` is then the number after the last one, as in Keras.
                Default: it continues over calls of fit; `state` has it. It determines the order of shuffled rows.
            verbose: "auto": on a terminal a bar and a line for each epoch, elsewhere nothing; 0, 1, 2 as in Keras.

        Returns the History, also available as `history`. Ctrl-C raises KeyboardInterrupt after the current step; the
        model keeps the progress made so far. Raises Error after 50 consecutive updates (plus those that reduce the loss
        scale) that were skipped or had a non-finite loss; InputError for data that does not fit.
        """
        self._require_no_fit("fit")
        first, last = self._epochs_of_fit(epochs, initial_epoch)
        if verbose not in ("auto", 0, 1, 2):
            raise InputError("verbose: 'auto', 0, 1 or 2", repr(verbose), "")
        self.step
        if validation_split:
            if validation_data is not None:
                raise InputError("validation_split or validation_data", "both", "")
            (x, y, sample_weight), validation_data = self._data.split(x, y, sample_weight, validation_split)
        epoch_batches = self._data.for_training(x, y, sample_weight, batch_size, shuffle, steps_per_epoch)
        if not epoch_batches.has_weights:
            self._steps.weigh(tuple(sorted(Names.of_weights(sample_weight))), class_weight)
        callbacks = as_callbacks(callbacks, self)
        history = self.history = History()
        if not self.is_first_rank:
            verbose = 0
        progress = Progress(verbose, last)
        bad = BadUpdates(self.step)
        self.stop_training, self._fits, self._raises = False, True, True
        try:
            with begun(callbacks):
                for epoch in range(first, last):
                    skipped = bad.skipped
                    progress.begin(epoch, epoch_batches.steps)
                    logs = self._epoch(epoch, epoch_batches, class_weight, callbacks, progress, bad, history)
                    if validation_data is not None:
                        values = self._validate(validation_data, batch_size, class_weight)
                        logs.update({f"val_{name}": value for name, value in values.items()})
                    logs["learning_rate"] = self.step.learning_rate
                    history.add(epoch, logs)
                    self._epochs = epoch + 1
                    progress.end(logs, bad.skipped - skipped)
                    for callback in callbacks:
                        callback.on_epoch_end(epoch, logs)
                    if self._stops():
                        history.stopped = str(self.stop_training)
                        break
                self._raises = False
        finally:
            self._fits = False
            progress.clear()
            history.skipped = bad.skipped
        self.step.share_statistics()
        return history

    def _epochs_of_fit(self, epochs, initial_epoch):
        """The first epoch of a call of fit, and that after the last one."""
        first = self._epochs if initial_epoch is None else initial_epoch
        for name, number in {"epochs": epochs, "initial_epoch": first}.items():
            if not isinstance(number, (int, numpy.integer)) or number < 0:
                raise InputError(f"{name} of at least 0", repr(number), "")
        last = first + epochs if initial_epoch is None else epochs
        if last < first:
            hint = "as in Keras it counts the epochs before"
            raise InputError(f"epochs of at least initial_epoch, {first}", str(epochs), hint)
        return int(first), int(last)

    def _require_no_fit(self, what):
        if self._fits:
            hint = f"{what} replaces or trains what fit trains: call it before or afterwards"
            raise InputError(f"no call of {what} within fit", "a call while another runs", hint)

    def _epoch(self, epoch, epoch_batches, class_weight, callbacks, progress, bad, history):
        for callback in callbacks:
            callback.on_epoch_begin(epoch)
        batches = iter(epoch_batches(epoch))
        first = next(batches, None)
        if first is None:
            each = "" if self._ranks is None else " on each rank"
            hint = "an iterator ends once: pass a list, a DataLoader, or a function that returns an iterator"
            raise InputError(f"batches for epoch {epoch + 1}{each}", "none", hint)
        if epoch_batches.has_weights:
            self._steps.weigh(self._data.weights_in(first), class_weight)
        step, schedule, watching = self.step, self._schedule, watching_steps(callbacks)
        running = Running(step, self._terms(self._steps.trained), self._metrics, training=True)
        done = 0
        for batch in itertools.chain([first], batches):
            if schedule is not None:
                step.learning_rate = schedule.at(step.updates)
            report = running.add(batch)
            history.steps += 1
            bad.add(report)
            for callback in watching:
                callback.on_step(done, report)
            done += 1
            progress.step(done, running)
            if self._stops():
                break
        return running.logs(self._ranks)

    def _terms(self, weighted):
        return weighted.losses or self._names.terms

    def _stops(self):
        """Whether a callback of any rank asks to stop."""
        if self._any(bool(self.stop_training)) and not self.stop_training:
            self.stop_training = "another rank stops"
        return self.stop_training

    def _any(self, holds):
        """Whether it holds on any rank."""
        return holds if self._ranks is None else self._ranks.any(holds)

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None):
        """Runs one step on one batch. Returns a StepReport."""
        self.step
        names = tuple(sorted(Names.of_weights(sample_weight)))
        if self._fits and not self._steps.trained.has(names, class_weight):
            self._require_no_fit("train_on_batch with other weights")
        self._steps.weigh(names, class_weight)
        if self._schedule is not None:
            self.step.learning_rate = self._schedule.at(self.step.updates)
        arrays = {**self._names.of_inputs(x), **self._names.of_labels(y)}
        return self.step.run({**arrays, **Names.of_weights(sample_weight)})

    # Evaluation.

    def evaluate(self, x, y=None, *, batch_size=None, sample_weight=None, class_weight=None):
        """Loss and metrics in inference form, as {"loss": ..., metric: ...}.

        All arguments are as in fit; the weights of an earlier fit have no effect. Raises InputError for data that does
        not fit.
        """
        self.step.share_statistics()
        weighted, batches = self._data.for_evaluation(
            x, y, sample_weight, batch_size, lambda names: self._steps.for_evaluation(names, class_weight)
        )
        running = Running(weighted.step, self._terms(weighted), self._metrics, training=False)
        for batch in batches:
            running.add(batch)
        return running.logs(self._ranks)

    def _validate(self, data, batch_size, class_weight):
        pair = isinstance(data, tuple) or (isinstance(data, list) and is_array(data))
        if pair and 1 <= len(data) <= 3:
            x, y, weights = (*data, None, None)[:3]
            return self.evaluate(x, y, batch_size=batch_size, sample_weight=weights, class_weight=class_weight)
        return self.evaluate(data, batch_size=batch_size, class_weight=class_weight)

    # Running.

    def predict(self, x, *, batch_size=None):
        """The model's outputs for rows x, in inference form: an array, or {output: array} if there are several.

        x is as in fit; labels and weights of rows and batches are not used. If the model's batch size is fixed, the
        last batch is padded with copies of its last row, and their outputs are dropped.
        """
        if self._steps is not None:
            return predict(self.step.predict, self._data, x, batch_size)
        self._session = self._session or Session(self._loaded)
        data = Data(Names(self.inputs, self.outputs, None), self._fixed_batch, None, 0)
        return predict(self._session.run, data, x, batch_size)

    # Parameters and state.

    def parameters(self):
        """Copies of the parameters by name, in f32."""
        return self.step.parameters()

    def set_parameters(self, values):
        """Replaces some or all of them. Raises InputError for unknown names and different shapes."""
        self.step.set_parameters(values)

    def state(self):
        """Everything that fit changes, by name: numpy.savez(path, **model.state()) saves it.

        It is that of the step, the number of epochs, and parameters that were learned and then frozen.
        """
        return {**self._compiled().state(), EPOCHS: numpy.int64(self._epochs)}

    def load_state(self, state):
        """Restores a state of the same model, compiled in the same way; training continues with bitwise equal results.

        A state of a TrainingStep has no number of epochs: that remains as it is.
        """
        values = dict(state)
        epochs = epochs_of(values)
        values.pop(EPOCHS, None)
        frozen = {name.removeprefix(FROZEN): values.pop(name) for name in list(values) if name.startswith(FROZEN)}
        steps, frozen = self._compiled(), None if epochs is None else frozen
        if self._fits and not steps.has_frozen(frozen):
            self._require_no_fit("load_state with other frozen parameters")
        steps.load_state(values, frozen)
        self._epochs = self._epochs if epochs is None else epochs

    def save(self, path, *, form="inference", external_data="auto"):
        """Writes the trained model. Afterwards `path` has either the whole new model or its previous contents.

        Args:
            form: "inference", or "training": BatchNormalization and Dropout as in the source.
            external_data: whether tensors are stored in a second file: "auto", "always" or "never".

        Raises Error if it cannot be written.
        """
        self.step.save(os.fspath(path), form=form, external_data=external_data)

    def to_bytes(self):
        """The contents of the trained model's .onnx file, at most 2 GB."""
        return self._loaded.to_bytes({**self._compiled().frozen, **self.step.parameters(), **self.step.statistics()})

    def __repr__(self):
        compiled = "" if self._steps is None else f", step={self.step!r}"
        return f"Model(inputs={self.inputs}, outputs={self.outputs}{compiled})"

    __reduce_ex__ = refuse_copy

    # Internals.

    def _compiled(self):
        """The Steps. Raises InputError before compile."""
        self.step
        return self._steps

    @property
    def _ranks(self):
        """The Ranks that train together, or None."""
        return self._data and self._data.ranks

    @functools.cached_property
    def _fixed_batch(self):
        try:
            return self._loaded.fixed_batch()
        except InputError:  # its inputs have different batch sizes
            return None
