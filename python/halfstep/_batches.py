"""Batches from arrays and from iterables of batches, as dictionaries for a training step."""

import math

import numpy

from . import _core
from ._warnings import warn_once
from .errors import InputError
from .losses import Loss


class Names:
    """Names of the arrays of a batch.

    Args:
        inputs, outputs: (name, type, shape) of each of the model's. losses: a list of Loss; None: from the first batch.

    Attributes:
        inputs: names of the model's inputs.
        losses: as given, with the names of their outputs and labels.
        terms: the same; if the first batch determines the loss, one with its labels.
    """

    def __init__(self, inputs, outputs, losses):
        self.inputs = [name for name, _, _ in inputs]
        first, labels = outputs[0][0], "labels"
        while labels in self.inputs:
            labels += "_"
        self.losses = losses and [
            one.changed(output=one.output or first, labels=one.labels or labels) for one in losses
        ]
        self.terms = self.losses or [Loss("softmax_cross_entropy", output=first, labels=labels)]
        self.weights = {one.sample_weights for one in self.terms} - {""}
        self._labels = {one.output: one.labels for one in self.terms if one.takes_labels}
        self._labels_by_name = {**self._labels, **{one.labels: one.labels for one in self.terms if one.takes_labels}}

    def of_inputs(self, x):
        """{name: array} for the argument x."""
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
                f"arrays for the model's inputs {', '.join(self.inputs)}", "one array", "pass a dictionary by name"
            )
        return {self.inputs[0]: x}

    def of_labels(self, y):
        if y is None:
            if any(one.takes_labels for one in self.losses or ()):
                raise InputError("labels y", "None", "the loss needs them")
            return {}
        by_output, names = self._labels, self._labels_by_name
        if isinstance(y, dict):
            unknown = [name for name in y if name not in names]
            if unknown:
                raise InputError(f"labels by {', '.join(sorted(names))}", f"'{unknown[0]}'", "check the names")
            labels = {names[name]: array for name, array in y.items()}
        elif isinstance(y, (list, tuple)) and y and hasattr(y[0], "shape"):
            if len(y) != len(by_output):
                raise InputError(f"{len(by_output)} arrays of labels", str(len(y)), "pass one for each loss")
            labels = dict(zip(by_output.values(), y))
        elif len(set(by_output.values())) == 1:
            labels = {next(iter(by_output.values())): y}
        else:
            raise InputError(f"labels for {', '.join(by_output)}", "one array", "pass a dictionary by output")
        missing = [label for label in by_output.values() if label not in labels]
        if missing:
            raise InputError(f"labels '{missing[0]}'", "none", "name them after the output")
        return labels

    @staticmethod
    def of_weights(weights):
        if weights is None:
            return {}
        if isinstance(weights, dict):
            return {f"sample_weights.{output}": array for output, array in weights.items()}
        return {"sample_weights": weights}

    def is_weights(self, name):
        """Whether an array of a batch, no input, is sample weights."""
        return str(name).startswith("sample_weights") or name in self.weights

    def inputs_in(self, item):
        """{name: array} of the inputs in an item of an iterable, without its labels and weights."""
        if isinstance(item, dict):
            return self.of_inputs({name: array for name, array in item.items() if name in self.inputs})
        if isinstance(item, (list, tuple)) and 1 <= len(item) <= 3:
            item = item[0]
        return self.of_inputs(item)

    def batch(self, item):
        """A batch from an item of an iterable: x, (x, y), (x, y, weights), or {name: array} with the labels."""
        if isinstance(item, dict):
            x, y, weights = {}, {}, {}
            for name, array in item.items():
                part = x if name in self.inputs else weights if self.is_weights(name) else y
                part[name] = array
            return {**self.of_inputs(x), **self.of_labels(y or None), **weights}
        if isinstance(item, (list, tuple)) and 1 <= len(item) <= 3:
            x, y, weights = (*item, None, None)[:3]
            return {**self.of_inputs(x), **self.of_labels(y), **self.of_weights(weights)}
        return {**self.of_inputs(item), **self.of_labels(None)}


def is_array(x):
    """Whether x is rows (one or several arrays) rather than an iterable of batches."""
    if isinstance(x, dict):
        return True
    if isinstance(x, (list, tuple)):
        return bool(x) and hasattr(x[0], "shape")
    return hasattr(x, "shape")


def is_row_source(x):
    """Whether x returns rows by index, like a torch Dataset; an object with __iter__ returns batches."""
    by_index = hasattr(x, "__len__") and hasattr(x, "__getitem__")
    return by_index and not hasattr(x, "__iter__") and not is_array(x)


def is_batches(x):
    """Whether x is an iterable of batches, or a function that returns one, and not a list of numbers."""
    if isinstance(x, (list, tuple)):
        first = x[0] if x else ()
        return isinstance(first, (tuple, dict)) or (isinstance(first, list) and any(map(is_array, first)))
    if isinstance(x, (str, bytes, bytearray)):
        return False
    return callable(x) or hasattr(x, "__iter__")


def split_rows(data, at):
    """The first `at` rows of arrays, and the others; of a dictionary or a list of them likewise."""
    if data is None:
        return None, None
    if isinstance(data, dict):
        return {name: array[:at] for name, array in data.items()}, {name: array[at:] for name, array in data.items()}
    if isinstance(data, (list, tuple)) and is_array(data):
        return [array[:at] for array in data], [array[at:] for array in data]
    return data[:at], data[at:]


class _Parts:
    """A number of rows, split into batches."""

    def __init__(self, count, batch_size, keep_rest):
        self.count = count
        if self.count == 0:
            raise InputError("at least one row", "none", "")
        if not isinstance(batch_size, (int, numpy.integer)) or isinstance(batch_size, bool) or batch_size < 1:
            raise InputError("a batch_size of at least 1", repr(batch_size), "")
        self.batch_size = int(batch_size)
        self.keep_rest = keep_rest
        if not keep_rest and self.count < batch_size:
            raise InputError(f"at least {batch_size} rows: the model's batch size is fixed", str(self.count), "")

        self._share, self._turns = None, (0, 1)

    def __len__(self):
        batches = self.count / self.batch_size
        return math.ceil(batches) if self.keep_rest else math.floor(batches)

    def deal(self, ranks, *, trains):
        """Has each batch shared out to ranks in its order; shares differ by a row at most. In training each has one."""
        if ranks is None:
            return self
        if min(self.batch_size, self.count) < ranks.size:
            few = min(self.batch_size, self.count)
            raise InputError(f"a batch of at least {ranks.size} rows, one for each rank", str(few), "")
        self._share = ranks.rank, ranks.size
        rest = self.count % self.batch_size
        if trains and self.keep_rest and 0 < rest < ranks.size:
            warn_once(ranks, f"the last {rest} rows are fewer than ranks, and are left out")
            self.keep_rest = False
        return self

    def take_turns(self, ranks):
        """Has whole batches dealt to ranks in turn."""
        if ranks is not None:
            self._turns = ranks.rank, ranks.size
        return self

    def _parts(self):
        first, every = self._turns
        for i in range(first, len(self), every):
            begin, end = i * self.batch_size, min((i + 1) * self.batch_size, self.count)
            if self._share is None:
                yield begin, end
                continue
            rank, size = self._share
            first, last = (begin - (begin - end) * part // size for part in (rank, rank + 1))
            if first < last:
                yield first, last


class Rows(_Parts):
    """Arrays by name with rows along the first axis, split into batches."""

    def __init__(self, arrays, batch_size, keep_rest=True):
        self.arrays = {name: _indexable(array, name) for name, array in arrays.items()}
        counts = {name: len(array) for name, array in self.arrays.items()}
        if len(set(counts.values())) != 1:
            raise InputError("arrays with the same number of rows", f"{counts}", "check that they belong together")
        super().__init__(next(iter(counts.values())), batch_size, keep_rest)

    def batches(self, order=None):
        """For a training step, in order of the rows or of these indices. Each is valid until the next one."""
        if not all(map(_is_plain, self.arrays.values())):
            yield from self.dictionaries(order)
            return
        rows = _core.Rows(self.arrays)
        rows.set_order(order)
        for begin, end in self._parts():
            yield rows.batch(begin, end)

    def dictionaries(self, order=None):
        """The same as {name: array}."""
        for begin, end in self._parts():
            rows = slice(begin, end) if order is None else order[begin:end]
            yield {name: array[rows] for name, array in self.arrays.items()}


def _value(value):
    """An element of a row as an array; Python numbers become f32 or i64."""
    array = numpy.asarray(value)
    return array if hasattr(value, "dtype") or array.dtype != numpy.float64 else array.astype(numpy.float32)


class RowSource(_Parts):
    """Rows read one by one: source[i] is an item without the batch axis, of which read(item) is {name: array}."""

    def __init__(self, source, read, batch_size, keep_rest=True):
        super().__init__(len(source), batch_size, keep_rest)
        self.source, self.read = source, read

    def batches(self, order=None):
        """As {name: array}, in order of the rows or of these indices."""
        for begin, end in self._parts():
            rows = [int(row) for row in (range(begin, end) if order is None else order[begin:end])]
            read = [{name: _value(value) for name, value in self._row(row).items()} for row in rows]
            for row, arrays in zip(rows, read):
                self._check_like(read[0], rows[0], arrays, row)
            yield {name: numpy.stack([arrays[name] for arrays in read]) for name in read[0]}

    def _row(self, row):
        item = self.source[row]
        return self.read(tuple(item) if isinstance(item, list) else item)

    @staticmethod
    def _check_like(first, first_row, arrays, row):
        types, wanted = ({name: f"{a.dtype}{list(a.shape)}" for name, a in one.items()} for one in (arrays, first))
        if types != wanted:
            raise InputError(f"a row {row} of the types of row {first_row}: {wanted}", f"{types}", "check the rows")


def _indexable(array, name):
    """An object that supports NumPy indexing."""
    if hasattr(array, "__array__") or isinstance(array, (list, tuple)):
        array = numpy.asarray(array)
    if not hasattr(array, "shape") or array.ndim == 0:
        raise InputError(f"an array of rows for '{name}'", type(array).__name__, "pass a NumPy array")
    return array


def _is_plain(array):
    """Whether the rows of an array are contiguous, aligned and in native byte order."""
    if not isinstance(array, numpy.ndarray):
        return False
    return array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative


def row_count(batch, names):
    """Number of rows of a batch."""
    first = batch[names.inputs[0]]
    return len(first) if hasattr(first, "__len__") else 1
