"""A model with an interface like that of Keras: compile, fit, evaluate, predict, save."""

import inspect
import os
import warnings

import numpy

from . import _core
from ._batches import Names, Rows, RowSource, is_array, is_row_source, row_count
from ._progress import Progress
from ._running import BadUpdates, Running
from ._sources import loaded
from .callbacks import as_callbacks, watching_steps
from .errors import InputError
from .history import History
from .losses import as_losses
from .metrics import metric_names
from .optimizers import as_optimizer
from .session import Session
from .training_step import TrainingStep

__all__ = ["Model", "load"]

BATCH_SIZE = 32


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
        self._step = self._session = self._ranks = None
        self._epochs = 0

    # Configuration.

    def compile(self, optimizer=None, loss=None, metrics=None, *, loss_weights=None, **options):
        """Configures training. Keeps the current parameters and statistics; the optimizer starts anew.

        Args:
            optimizer: such as halfstep.Adam(1e-3, schedule=...), or its name.
            loss: a name, a halfstep.Loss, {output: loss}, or a list. None: from the labels and the model.
            metrics: names, or {output: names}. None: the default metrics of the labels; []: none.
            seed: seed of shuffling, dropout and random operators: the same seed gives the same result.
            ranks: of halfstep.distributed.init(): `fit` and `evaluate` share out the rows to the processes. All call the
                same functions with the same data.
            others: as in halfstep.TrainingStep.

        Raises InputError if the model has nothing to train, for unknown names, and for options out of range.
        """
        if isinstance(metrics, dict):
            for names in metrics.values():
                metric_names(names)
        else:
            metric_names(metrics)
        if "loss_model" in options:
            raise InputError("a loss by its name", "loss_model", "use halfstep.TrainingStep for a loss model")
        optimizer = as_optimizer(optimizer)
        losses = as_losses(loss, loss_weights, self.outputs)
        names = Names(self.inputs, self.outputs, losses)
        if losses is not None:
            names.losses = losses = [one if one.labels else one.changed(labels=names.default_labels) for one in losses]
        step = TrainingStep(self._loaded, losses, optimizer, **options)
        if self._step is not None:
            step.load_state({**self._step.parameters(), **self._step.statistics()})
        self._step, self._options, self._optimizer = step, options, optimizer
        self._names, self._losses, self._metrics = names, losses, metrics
        self._weighting, self._evaluation = (None, None), None
        schedule = optimizer.schedule
        self._schedule = schedule.bound(optimizer.learning_rate) if schedule else None
        self._seed, self._epochs = options.get("seed", 0), 0
        self._ranks = options.get("ranks")
        self._fixed = None if options.get("batch_axes") else self._fixed_batch()

    compile.__signature__ = _signature_of_compile(compile)

    @property
    def step(self):
        """The TrainingStep. Raises InputError before compile."""
        if self._step is None:
            raise InputError("a compiled model", "one that is not compiled", "call model.compile(...) first")
        return self._step

    @property
    def is_first_rank(self):
        """Whether this is rank 0, or a process that trains by itself."""
        return self._ranks is None or self._ranks.rank == 0

    @property
    def learning_rate(self):
        """Learning rate of the next update. Can be set if the optimizer has no schedule."""
        return self.step.learning_rate

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
        verbose="auto",
    ):
        """Trains for a number of epochs.

        Args:
            x: an array of rows, {input: array}, a source of rows by index (with __len__ and __getitem__, like a torch
                Dataset), or a source of batches: a list, a torch DataLoader, a tf.data.Dataset, a generator, or a
                function that returns an iterator. A row or a batch is (x, y), (x, y, weights) or a dictionary.
            y: labels, or {output: labels} for several losses.
            batch_size: of all ranks together. Default: 32, or the fixed batch size of the model (on each rank). The last batch has the remaining rows; for a
                fixed batch size they are left out, with a warning.
            validation_data: (x, y), (x, y, weights), or a source of rows or batches.
            callbacks: halfstep.Callback objects, or functions of an epoch and its logs.
            sample_weight: an array with shape [rows] or that of the labels, or {output: array}.
            class_weight: {class: weight}, others 1, or a sequence. Means, also over validation data, are weighted by it.
            steps_per_epoch: number of batches per epoch, for a source of batches.
            verbose: "auto": on a terminal a bar and a line for each epoch, elsewhere nothing; 0, 1, 2 as in Keras.

        Returns the History, also available as `history`. Ctrl-C raises KeyboardInterrupt after the current step; the model
        keeps the progress made so far. Raises Error after 50 consecutive updates (plus those that reduce the loss scale)
        that were skipped or had a non-finite loss; InputError for data that does not fit.
        """
        if not isinstance(epochs, (int, numpy.integer)) or epochs < 0:
            raise InputError("a number of epochs of at least 0", repr(epochs), "")
        if verbose not in ("auto", 0, 1, 2):
            raise InputError("verbose: 'auto', 0, 1 or 2", repr(verbose), "")
        self._weigh(sample_weight, class_weight)
        epoch_batches = self._training_batches(x, y, sample_weight, batch_size, shuffle, steps_per_epoch)
        callbacks = as_callbacks(callbacks, self)
        history = self.history = History()
        if not self.is_first_rank:
            verbose = 0
        progress = Progress(verbose, self._epochs + epochs)
        bad = BadUpdates(self.step)
        self.stop_training = False
        try:
            for callback in callbacks:
                callback.on_train_begin()
            for epoch in range(self._epochs, self._epochs + epochs):
                skipped = bad.skipped
                progress.begin(epoch, epoch_batches.steps)
                logs = self._epoch(epoch, epoch_batches(epoch), callbacks, progress, bad, history)
                if validation_data is not None:
                    logs.update({f"val_{name}": value for name, value in self._validate(validation_data, batch_size).items()})
                logs["learning_rate"] = self.step.learning_rate
                history.add(epoch, logs)
                self._epochs = epoch + 1
                progress.end(logs, bad.skipped - skipped)
                for callback in callbacks:
                    callback.on_epoch_end(epoch, logs)
                if self._stops():
                    history.stopped = str(self.stop_training)
                    break
        finally:
            progress.clear()
            history.skipped = bad.skipped
            for callback in callbacks:
                callback.on_train_end()
        return history

    def _epoch(self, epoch, batches, callbacks, progress, bad, history):
        for callback in callbacks:
            callback.on_epoch_begin(epoch)
        step, schedule, watching = self.step, self._schedule, watching_steps(callbacks)
        running = Running(step, self._names, self._metrics, training=True)
        done = 0
        for batch in batches:
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
        if done == 0:
            raise InputError(
                f"batches for epoch {epoch + 1}",
                "none",
                "an iterator ends once: pass a list, a DataLoader, or a function that returns an iterator",
            )
        return running.logs(self._ranks)

    def _stops(self):
        """Whether a callback of any rank asks to stop."""
        if self._ranks is not None and self._ranks.any(bool(self.stop_training)) and not self.stop_training:
            self.stop_training = "another rank stops"
        return self.stop_training

    def train_on_batch(self, x, y=None, sample_weight=None):
        """Runs one step on one batch. Returns a StepReport."""
        self._weigh(sample_weight, self._weighting[1])
        if self._schedule is not None:
            self.step.learning_rate = self._schedule.at(self.step.updates)
        return self.step.run({**self._names.of_inputs(x), **self._names.of_labels(y), **Names.of_weights(sample_weight)})

    # Evaluation.

    def evaluate(self, x, y=None, *, batch_size=None, sample_weight=None):
        """Loss and metrics in inference form, as {"loss": ..., metric: ...}.

        x, y and sample_weight are as in fit. Raises InputError for data that does not fit.
        """
        step = self.step
        if sample_weight is None:
            return self._evaluate(x, y, batch_size, None)
        training = step, self._names.losses, self._weighting
        self._weigh_evaluation(sample_weight)
        try:
            return self._evaluate(x, y, batch_size, sample_weight)
        finally:
            if self._step is not training[0]:
                self._evaluation = self._step, self._names.losses, self._weighting
            self._step, self._names.losses, self._weighting = training

    def _evaluate(self, x, y, batch_size, sample_weight):
        if is_array(x):
            arrays = {**self._arrays(x, y), **Names.of_weights(sample_weight)}
            batches = self._dealt(self._rows(self._with_weights(arrays), batch_size)).batches()
        elif is_row_source(x):
            batches = map(self._with_weights, self._dealt(self._source(x, batch_size)).batches())
        else:
            batches = (self._with_weights(self._names.batch(item)) for item in (x() if callable(x) else x))
        running = Running(self.step, self._names, self._metrics, training=False)
        done = 0
        for batch in batches:
            running.add(batch)
            done += 1
        if done == 0:
            raise InputError("batches to evaluate", "none", "an iterator ends once")
        return running.logs(self._ranks)

    def _dealt(self, rows):
        """The rows of an evaluation, of which each rank computes some."""
        if self._ranks is None:
            return rows
        if self._fixed is None:
            return rows.deal(self._ranks, trains=False)
        if len(rows) < self._ranks.size:
            raise InputError(f"at least {self._ranks.size} batches, one for each rank", str(len(rows)), "")
        return rows.take_turns(self._ranks)

    def _with_weights(self, arrays):
        """With the sample weights that the loss needs; missing ones are 1."""
        missing = [one.sample_weights for one in self._names.losses or () if one.sample_weights not in ("", *arrays)]
        return {**arrays, **{name: numpy.ones(row_count(arrays, self._names), numpy.float32) for name in missing}}

    def _validate(self, data, batch_size):
        if isinstance(data, (tuple, list)) and 1 <= len(data) <= 3 and is_array(data[0]):
            x, y, weights = (*data, None, None)[:3]
            return self.evaluate(x, y, batch_size=batch_size, sample_weight=weights)
        return self.evaluate(data, batch_size=batch_size)

    # Running.

    def predict(self, x, *, batch_size=None):
        """The model's outputs for rows x, in inference form: an array, or {output: array} if there are several.

        If the model's batch size is fixed, the last batch is padded with copies of its last row, and their outputs are
        dropped.
        """
        if self._step is not None:
            names, fixed, run = self._names, self._fixed, self._step.predict
        else:
            self._session = self._session or Session(self._loaded)
            names, fixed, run = Names(self.inputs, self.outputs, None), self._fixed_batch(), self._session.run
        rows = Rows(names.of_inputs(x), batch_size or fixed or BATCH_SIZE)
        parts = []
        for batch in rows.dictionaries():
            count = row_count(batch, names)
            missing = (fixed or 0) - count
            if missing > 0:
                batch = {name: numpy.concatenate([a, numpy.repeat(a[-1:], missing, 0)]) for name, a in batch.items()}
            outputs = run(batch)
            parts.append({name: _first_rows(name, a, count, count + max(missing, 0), len(rows)) for name, a in outputs.items()})
        joined = {name: parts[0][name] if len(parts) == 1 else numpy.concatenate([p[name] for p in parts]) for name in parts[0]}
        return next(iter(joined.values())) if len(joined) == 1 else joined

    # Parameters and state.

    def parameters(self):
        """Copies of the parameters by name, in f32."""
        return self.step.parameters()

    def set_parameters(self, values):
        """Replaces some or all of them. Raises InputError for unknown names and different shapes."""
        self.step.set_parameters(values)

    def state(self):
        """Everything that a step changes, by name: numpy.savez(path, **model.state()) saves it."""
        return self.step.state()

    def load_state(self, state):
        """Restores a state of the same model, compiled in the same way; training continues with bitwise equal results."""
        self.step.load_state(dict(state))

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
        return self._loaded.to_bytes({**self.step.parameters(), **self.step.statistics()})

    def __repr__(self):
        return f"Model(inputs={self.inputs}, outputs={self.outputs})"

    # Internals.

    def _fixed_batch(self):
        try:
            return self._loaded.fixed_batch()
        except InputError:  # its inputs have different batch sizes
            return None

    def _weigh(self, sample_weight, class_weight):
        """Replaces the step by one with these weights in the loss; keeps its state."""
        names = tuple(Names.of_weights(sample_weight))
        key = (names or None, class_weight)
        self.step
        if _same(key, self._weighting):
            return
        if self._losses is None:
            raise InputError("a named loss for weights", "none", "name it: model.compile(loss=...)")
        losses = []
        for loss in self._losses:
            own = f"sample_weights.{loss.output}"
            name = "sample_weights" if "sample_weights" in names else own if own in names else loss.sample_weights
            losses.append(loss.changed(sample_weights=name, class_weight=loss.class_weight if class_weight is None else class_weight))
        unknown = [n for n in names if n != "sample_weights" and n not in [one.sample_weights for one in losses]]
        if unknown:
            raise InputError("sample_weight by outputs with a loss", f"'{unknown[0].split('.', 1)[1]}'", "check the names")
        state = self.step.state()
        step = TrainingStep(self._loaded, losses, self._optimizer, **self._options)
        step.load_state(state)
        step.learning_rate = self._step.learning_rate
        self._step, self._names.losses, self._weighting = step, losses, key

    def _weigh_evaluation(self, sample_weight):
        """The same for one evaluation; the step of the last one is used again if it has these weights."""
        key = (tuple(Names.of_weights(sample_weight)) or None, self._weighting[1])
        if self._evaluation is None or _same(key, self._weighting) or not _same(key, self._evaluation[2]):
            return self._weigh(sample_weight, self._weighting[1])
        self._evaluation[0].load_state(self.step.state())
        self._step, self._names.losses, self._weighting = self._evaluation

    def _arrays(self, x, y):
        return {**self._names.of_inputs(x), **self._names.of_labels(y)}

    def _rows(self, arrays, batch_size, trains=False):
        return self._cut(lambda *how: Rows(arrays, *how), batch_size, trains)

    def _source(self, source, batch_size, trains=False):
        return self._cut(lambda *how: RowSource(source, self._names, *how), batch_size, trains)

    def _cut(self, make, batch_size, trains):
        """make(batch_size, keep_rest). A step of several ranks has as many batches of fixed size."""
        fixed = self._fixed
        if fixed is not None and batch_size not in (None, fixed):
            raise InputError(f"a batch_size of {fixed}, as fixed in the model", repr(batch_size), "omit it")
        together = self._ranks.size if trains and fixed is not None and self._ranks is not None else 1
        rows = make(together * fixed if fixed else (BATCH_SIZE if batch_size is None else batch_size), fixed is None)
        left_out = rows.count % rows.batch_size
        if fixed is not None and left_out:
            warnings.warn(f"the model's batch size is fixed at {fixed}: {left_out} rows are left out", stacklevel=5)
        return rows

    def _training_batches(self, x, y, sample_weight, batch_size, shuffle, steps_per_epoch):
        if is_array(x):
            if steps_per_epoch is not None:
                raise InputError("steps_per_epoch with batches", "with arrays", "omit it")
            rows = self._rows({**self._arrays(x, y), **Names.of_weights(sample_weight)}, batch_size, True)
            return _FromRows(rows.deal(self._ranks, trains=True), self._seed, shuffle)
        if y is not None or sample_weight is not None:
            raise InputError("rows or batches that contain labels and weights themselves", "y or sample_weight in addition", "")
        if is_row_source(x):
            if steps_per_epoch is not None:
                raise InputError("steps_per_epoch with batches", "with rows", "omit it")
            return _FromRows(self._source(x, batch_size, True).deal(self._ranks, trains=True), self._seed, shuffle)
        if not callable(x) and not hasattr(x, "__iter__"):
            raise InputError("arrays, rows by index, or an iterable of batches", type(x).__name__, "")
        return _FromIterable(x, self._names, steps_per_epoch)


class _FromRows:
    """Batches of each epoch, in an order determined by seed and epoch."""

    def __init__(self, rows, seed, shuffle):
        self.rows, self.seed, self.shuffle, self.steps = rows, seed, shuffle, len(rows)

    def __call__(self, epoch):
        order = numpy.random.default_rng([self.seed, epoch]).permutation(self.rows.count) if self.shuffle else None
        return self.rows.batches(order)


class _FromIterable:
    """Batches of an iterable or a function."""

    def __init__(self, batches, names, steps):
        if steps is not None and (not isinstance(steps, int) or steps < 1):
            raise InputError("steps_per_epoch of at least 1", repr(steps), "")
        self.batches, self.names, self.limit = batches, names, steps
        self.steps = steps or (len(batches) if hasattr(batches, "__len__") else None)
        self.open = None

    def _iterator(self):
        return iter(self.batches() if callable(self.batches) else self.batches)

    def __call__(self, epoch):
        if self.limit is None:
            yield from map(self.names.batch, self._iterator())
            return
        for _ in range(self.limit):
            item = next(self.open, _END) if self.open is not None else _END
            if item is _END:
                self.open = self._iterator()
                item = next(self.open, _END)
            if item is _END:
                return
            yield self.names.batch(item)


_END = object()


def _same(a, b):
    return a[0] == b[0] and (a[1] is b[1] or repr(a[1]) == repr(b[1]))


def _first_rows(name, array, count, rows, batches):
    if array.ndim > 0 and array.shape[0] == rows:
        return array[:count]
    if batches == 1 and count == rows:
        return array
    raise InputError(
        f"an output with {rows} rows, the batch size",
        f"'{name}' of shape {array.shape}",
        "predict one batch at a time, or use halfstep.Session",
    )
