"""Batches from arrays and from what gives batches itself, as dictionaries that a training step takes."""

import math

import numpy

from .errors import InputError


class Names:
    """What a batch's arrays are called.

    Attributes:
        inputs: of the model. labels: {output or "": name}. weights: the same of sample weights.
    """

    def __init__(self, inputs, losses):
        self.inputs = list(inputs)
        self.losses = losses
        free = "labels"
        while free in self.inputs:
            free += "_"
        self.default_labels = free

    def of_inputs(self, x):
        """{name: array} of what is given as x."""
        if isinstance(x, dict):
            missing = [name for name in self.inputs if name not in x]
            unknown = [name for name in x if name not in self.inputs]
            if missing or unknown:
                raise InputError(
                    f"an array for each input of the model: {', '.join(self.inputs)}",
                    f"none for '{missing[0]}'" if missing else f"'{unknown[0]}'",
                    "check the names",
                )
            return dict(x)
        if isinstance(x, (list, tuple)) and x and hasattr(x[0], "shape"):
            if len(x) != len(self.inputs):
                raise InputError(f"{len(self.inputs)} inputs: {', '.join(self.inputs)}", str(len(x)), "")
            return dict(zip(self.inputs, x))
        if len(self.inputs) != 1:
            raise InputError(
                f"arrays for the model's inputs {', '.join(self.inputs)}", "one array", "give a dictionary by name"
            )
        return {self.inputs[0]: x}

    def of_labels(self, y):
        if y is None:
            if any(one.takes_labels for one in self.losses or ()):
                raise InputError("labels y", "None", "the loss takes them")
            return {}
        by_output = {one.output or "": one.labels or self.default_labels for one in self.losses or () if one.takes_labels}
        if self.losses is None:
            by_output = {"": self.default_labels}
        if isinstance(y, dict):
            names = {**by_output, **{label: label for label in by_output.values()}}
            unknown = [name for name in y if name not in names]
            if unknown:
                raise InputError(f"labels by {', '.join(sorted(set(names) - {''}))}", f"'{unknown[0]}'", "check the names")
            labels = {names[name]: array for name, array in y.items()}
        elif isinstance(y, (list, tuple)) and y and hasattr(y[0], "shape"):
            if len(y) != len(by_output):
                raise InputError(f"{len(by_output)} arrays of labels", str(len(y)), "give one for each loss")
            labels = dict(zip(by_output.values(), y))
        elif len(set(by_output.values())) == 1:
            labels = {next(iter(by_output.values())): y}
        else:
            raise InputError(f"labels for {', '.join(by_output)}", "one array", "give a dictionary by output")
        missing = [label for label in by_output.values() if label not in labels]
        if missing:
            raise InputError(f"labels '{missing[0]}'", "none", "give them by the output's name")
        return labels

    @staticmethod
    def of_weights(weights):
        if weights is None:
            return {}
        if isinstance(weights, dict):
            return {f"sample_weights.{output}": array for output, array in weights.items()}
        return {"sample_weights": weights}

    def batch(self, item):
        """A batch from what an iterable gives: x, (x, y), (x, y, weights), or {name: array} with the labels."""
        if isinstance(item, dict):
            x, y, weights = {}, {}, {}
            for name, array in item.items():
                part = x if name in self.inputs else weights if str(name).startswith("sample_weights") else y
                part[name] = array
            return {**self.of_inputs(x), **self.of_labels(y or None), **weights}
        if isinstance(item, (list, tuple)) and 1 <= len(item) <= 3:
            x, y, weights = (*item, None, None)[:3]
            return {**self.of_inputs(x), **self.of_labels(y), **self.of_weights(weights)}
        return {**self.of_inputs(item), **self.of_labels(None)}


def is_array(x):
    """Whether x is rows (an array, or several) and no iterable of batches."""
    if isinstance(x, dict):
        return True
    if isinstance(x, (list, tuple)):
        return bool(x) and hasattr(x[0], "shape")
    return hasattr(x, "shape")


class Rows:
    """Arrays by name whose first axis is that of the rows, cut into batches."""

    def __init__(self, arrays, batch_size, keep_rest=True):
        self.arrays = {name: _indexable(array, name) for name, array in arrays.items()}
        counts = {name: len(array) for name, array in self.arrays.items()}
        if len(set(counts.values())) != 1:
            raise InputError("arrays with the same number of rows", f"{counts}", "check that they belong together")
        self.count = next(iter(counts.values()))
        if self.count == 0:
            raise InputError("at least one row", "none", "")
        if not isinstance(batch_size, (int, numpy.integer)) or isinstance(batch_size, bool) or batch_size < 1:
            raise InputError("a batch_size of at least 1", repr(batch_size), "")
        self.batch_size = int(batch_size)
        self.keep_rest = keep_rest
        if not keep_rest and self.count < batch_size:
            raise InputError(f"at least {batch_size} rows: the model's batch size is fixed", str(self.count), "")

    def __len__(self):
        batches = self.count / self.batch_size
        return math.ceil(batches) if self.keep_rest else math.floor(batches)

    def batches(self, order=None):
        """In order of the rows, or by these indices."""
        for i in range(len(self)):
            rows = slice(i * self.batch_size, min((i + 1) * self.batch_size, self.count))
            if order is not None:
                rows = order[rows]
            yield {name: array[rows] for name, array in self.arrays.items()}


def _indexable(array, name):
    """Something that NumPy's indices can be used on."""
    if hasattr(array, "__array__") or isinstance(array, (list, tuple)):
        array = numpy.asarray(array)
    if not hasattr(array, "shape") or array.ndim == 0:
        raise InputError(f"an array of rows for '{name}'", type(array).__name__, "give a NumPy array")
    return array


def row_count(batch, names):
    """Rows of a batch."""
    first = batch[names.inputs[0]]
    return len(first) if hasattr(first, "__len__") else 1


def label_weight(loss, batch, default_labels, rows):
    """What the mean over a batch weighs in the mean over several: what it was divided by."""
    labels = batch.get((loss.labels if loss else None) or default_labels)
    weights = batch.get(loss.sample_weights) if loss and loss.sample_weights else None
    class_weight = loss.class_weight if loss else None
    if loss is not None and loss.reduction == "sum":
        return 1.0
    if labels is None:
        return float(rows) if weights is None else float(numpy.sum(numpy.asarray(weights)))
    ignored = loss.ignore_label if loss else -100
    labels = numpy.asarray(labels)
    if weights is None and not class_weight:
        if ignored is None or labels.size == 0:
            return float(rows)
        return float(numpy.count_nonzero(labels != ignored)) * rows / labels.size
    counted = numpy.ones(labels.shape) if ignored is None else (labels != ignored).astype(numpy.float64)
    if class_weight and numpy.issubdtype(labels.dtype, numpy.integer):
        of_class = dict(enumerate(class_weight)) if not isinstance(class_weight, dict) else class_weight
        counted = counted * numpy.vectorize(lambda c: of_class.get(int(c), 1.0), otypes=[float])(labels)
    if weights is not None:
        weights = numpy.asarray(weights)
        counted = counted * weights.reshape(weights.shape + (1,) * (counted.ndim - weights.ndim))
    return float(counted.sum())
