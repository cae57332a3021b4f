"""The training step of a compiled model, and steps of the same values whose losses have other weights."""

import numpy

from .errors import InputError
from .training_step import TrainingStep

# In Model.state(), beside what the step itself has.
EPOCHS = "halfstep.epochs"
FROZEN = "halfstep.frozen."


class Weighted:
    """A step, and its losses with sample weights of these names in batches and these class weights."""

    def __init__(self, step, losses, names=(), class_weight=None):
        self.step, self.losses, self.names, self.class_weight = step, losses, names, class_weight

    def has(self, names, class_weight):
        return (names, _copy(class_weight)) == (self.names, self.class_weight)

    def serves(self, names, class_weight):
        """Whether it evaluates batches with these: sample weights that they lack are 1."""
        return set(names) <= set(self.names) and _copy(class_weight) == self.class_weight


class Steps:
    """The step that trains, and one for evaluations with other weights.

    Args:
        model: the _core.LoadedModel. losses: a list of Loss; None: one from the first batch.
        optimizer, options: of TrainingStep. before: the Steps whose values are kept, or None.

    Attributes:
        trained: the Weighted that trains.
        frozen: values that were learned, by name, and are not trained now: constants of the model.
    """

    def __init__(self, model, losses, optimizer, options, before=None):
        self._model, self._losses, self._optimizer, self._options = model, losses, optimizer, options
        self._source, self.frozen, self._evaluated = model, {}, None
        step = self._step(losses)
        if before is not None:
            parameters = {**before.frozen, **before.trained.step.parameters()}
            statistics = before.trained.step.statistics()
            states = {name for name, _, _ in step.parameter_types}
            if options.get("train_batchnorm", True):
                states |= set(statistics)
            known = {**parameters, **statistics}
            self._freeze({name: value for name, value in known.items() if name not in states})
            if self.frozen:
                step = self._step(losses)
            step.load_state({name: value for name, value in known.items() if name in states})
        self.trained = Weighted(step, losses)

    def weigh(self, names, class_weight):
        """Has `trained` take these weights."""
        if not self.trained.has(names, class_weight):
            self.trained = self._weighted(names, _copy(class_weight))

    def for_evaluation(self, names, class_weight):
        """The Weighted for an evaluation with these weights, with the values of the one that trains."""
        if self.trained.serves(names, class_weight):
            return self.trained
        if self._evaluated is not None and self._evaluated.serves(names, class_weight):
            self._evaluated.step.load_state(self.trained.step.state())
        else:
            self._evaluated = self._weighted(names, _copy(class_weight))
        return self._evaluated

    def state(self):
        frozen = {FROZEN + name: value for name, value in self.frozen.items()}
        return {**self.trained.step.state(), **frozen}

    def load_state(self, state, frozen):
        """`frozen`: those of the state; None: the present ones."""
        if self.has_frozen(frozen):
            return self.trained.step.load_state(state)
        before = self.frozen, self._source, self.trained
        try:
            self._freeze(frozen)
            step = self._step(before[2].losses)
            step.load_state(state)
        except BaseException:
            self.frozen, self._source, self.trained = before
            raise
        step.learning_rate = before[2].step.learning_rate
        self.trained = Weighted(step, before[2].losses, before[2].names, before[2].class_weight)
        self._evaluated = None

    def has_frozen(self, frozen):
        return frozen is None or (
            frozen.keys() == self.frozen.keys()
            and all(numpy.array_equal(value, self.frozen[name]) for name, value in frozen.items())
        )

    def _freeze(self, values):
        self.frozen = {name: numpy.array(value) for name, value in values.items()}
        self._source = self._model.with_values(self.frozen) if values else self._model

    def _step(self, losses):
        return TrainingStep(self._source, losses, self._optimizer, **self._options)

    def _weighted(self, names, class_weight):
        if self._losses is None:
            raise InputError("a named loss for weights", "none", "name it: model.compile(loss=...)")
        losses = []
        for loss in self._losses:
            own = f"sample_weights.{loss.output}"
            name = "sample_weights" if "sample_weights" in names else own if own in names else loss.sample_weights
            weights = loss.class_weight if class_weight is None else class_weight
            losses.append(loss.changed(sample_weights=name, class_weight=weights))
        unknown = [n for n in names if n not in [one.sample_weights for one in losses]]
        if unknown:
            outputs = ", ".join(loss.output for loss in losses)
            got = f"'{unknown[0].removeprefix('sample_weights.')}'"
            raise InputError(f"sample_weight by outputs with a loss: {outputs}", got, "check the names")
        step = self._step(losses)
        step.load_state(self.trained.step.state())
        step.learning_rate = self.trained.step.learning_rate
        return Weighted(step, losses, names, class_weight)


def _copy(class_weight):
    """The caller may change it."""
    if class_weight is None:
        return None
    return dict(class_weight) if isinstance(class_weight, dict) else [float(w) for w in class_weight]


def epochs_of(state):
    """The number of epochs in a state of a model; None for one of a step."""
    if EPOCHS not in state:
        return None
    value = numpy.asarray(state[EPOCHS])
    if value.size != 1 or value.dtype.kind not in "iu" or value.item() < 0:
        raise InputError(f"a number of epochs from 0 on for '{EPOCHS}'", repr(value), "load a whole state")
    return value.item()
