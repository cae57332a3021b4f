"""What fit and evaluate are given, as batches: of the rows of all ranks each takes its share."""

import itertools

import numpy

from ._batches import Names, Rows, RowSource, is_array, is_batches, is_row_source, row_count, split_rows
from ._warnings import warn_once
from .errors import InputError

BATCH_SIZE = 32


class Data:
    """How a compiled model takes x, y and sample_weight.

    Args:
        names: the Names of its arrays. fixed: the batch size that is fixed in the model, or None.
        ranks: the Ranks that share the rows, or None. seed: of shuffling.
    """

    def __init__(self, names, fixed, ranks, seed):
        self.names, self.fixed, self.ranks, self.seed = names, fixed, ranks, seed

    def for_training(self, x, y, sample_weight, batch_size, shuffle, steps_per_epoch):
        """A function of an epoch that returns its batches; `steps` is their number, or None."""
        if is_array(x):
            if steps_per_epoch is not None:
                raise InputError("steps_per_epoch with batches", "with arrays", "omit it")
            rows = self._rows({**self._arrays(x, y), **Names.of_weights(sample_weight)}, batch_size, True)
            return _FromRows(rows.deal(self.ranks, trains=True), self.seed, shuffle)
        self._check_source(x, y, sample_weight)
        if is_row_source(x):
            if steps_per_epoch is not None:
                raise InputError("steps_per_epoch with batches", "with rows", "omit it")
            rows = self._source(x, batch_size, True).deal(self.ranks, trains=True)
            return _FromRows(rows, self.seed, shuffle, has_weights=True)
        return _FromIterable(x, self.names, steps_per_epoch, self.ranks)

    def for_evaluation(self, x, y, sample_weight, batch_size, weigh):
        """(weighted, batches of this process): weigh(names) is the Weighted for batches with these sample weights."""
        if is_array(x):
            weights = Names.of_weights(sample_weight)
            arrays = {**self._arrays(x, y), **weights}
            weighted = weigh(tuple(sorted(weights)))
            return weighted, self._dealt(self._rows(self._filled(arrays, weighted), batch_size)).batches()
        self._check_source(x, y, sample_weight)
        if is_row_source(x):
            batches = self._dealt(self._source(x, batch_size)).batches()
        else:
            batches = map(self.names.batch, x() if callable(x) else x)
        batches = iter(batches)
        first = next(batches, None)
        if self._any(first is None):
            each = "" if self.ranks is None else " on each rank"
            raise InputError(f"batches to evaluate{each}", "none", "an iterator ends once")
        weighted = weigh(self.weights_in(first))
        return weighted, (self._filled(batch, weighted) for batch in itertools.chain([first], batches))

    def for_prediction(self, x, batch_size):
        """Batches of the inputs."""
        size = (self.fixed or BATCH_SIZE) if batch_size is None else batch_size
        if is_row_source(x):
            rows = RowSource(x, self.names.inputs_in, size)
        elif not is_array(x) and is_batches(x):
            return map(self.names.inputs_in, x() if callable(x) else x)
        else:
            rows = Rows(self.names.of_inputs(x), size)
        if self.fixed is not None and rows.batch_size > self.fixed:
            raise InputError(f"a batch_size of {self.fixed}, as fixed in the model", repr(batch_size), "omit it")
        return rows.batches() if is_row_source(x) else rows.dictionaries()

    def weights_in(self, batch):
        """Names of the sample weights in a batch of rows or batches, but for those that the losses name themselves."""
        own = {*self.names.inputs, *self.names.weights}
        names = tuple(sorted(name for name in batch if name not in own and self.names.is_weights(name)))
        return names if self._any(bool(names)) == bool(names) else ("sample_weights",)

    def split(self, x, y, sample_weight, share):
        """(x, y, sample_weight) of the first rows, and of the last ones, of which there are `share` of all."""
        if not isinstance(share, (float, numpy.floating)) or not 0 < share < 1:
            raise InputError("a validation_split between 0 and 1", repr(share), "")
        if not is_array(x):
            raise InputError("arrays for validation_split", type(x).__name__, "pass validation_data")
        count = Rows({**self._arrays(x, y), **Names.of_weights(sample_weight)}, 1).count
        first = int(count * (1 - share))
        if first in (0, count):
            raise InputError("rows on both sides of validation_split", f"{first} and {count - first}", "")
        return zip(*(split_rows(data, first) for data in (x, y, sample_weight)))

    @staticmethod
    def _check_source(x, y, sample_weight):
        if not is_row_source(x) and not is_batches(x):
            got = f"a list of {type(x[0]).__name__}" if isinstance(x, (list, tuple)) else type(x).__name__
            hint = "convert lists of numbers: numpy.asarray(x, numpy.float32)"
            raise InputError("NumPy arrays, rows by index, or an iterable of batches", got, hint)
        if y is not None or sample_weight is not None:
            expected = "rows or batches that contain labels and weights themselves"
            raise InputError(expected, "y or sample_weight in addition", "")

    def _any(self, holds):
        return holds if self.ranks is None else self.ranks.any(holds)

    def _dealt(self, rows):
        """The rows of an evaluation, of which each rank computes some."""
        if self.ranks is None:
            return rows
        if self.fixed is None:
            return rows.deal(self.ranks, trains=False)
        if len(rows) < self.ranks.size:
            raise InputError(f"at least {self.ranks.size} batches, one for each rank", str(len(rows)), "")
        return rows.take_turns(self.ranks)

    def _filled(self, arrays, weighted):
        """With the sample weights that the losses need; missing ones are 1."""
        missing = [one.sample_weights for one in weighted.losses or () if one.sample_weights not in ("", *arrays)]
        return {**arrays, **{name: numpy.ones(row_count(arrays, self.names), numpy.float32) for name in missing}}

    def _arrays(self, x, y):
        return {**self.names.of_inputs(x), **self.names.of_labels(y)}

    def _rows(self, arrays, batch_size, trains=False):
        return self._cut(lambda *how: Rows(arrays, *how), batch_size, trains)

    def _source(self, source, batch_size, trains=False):
        return self._cut(lambda *how: RowSource(source, self.names.batch, *how), batch_size, trains)

    def _cut(self, make, batch_size, trains):
        """make(batch_size, keep_rest). A step of several ranks has as many batches of fixed size."""
        fixed = self.fixed
        if fixed is not None and batch_size not in (None, fixed):
            raise InputError(f"a batch_size of {fixed}, as fixed in the model", repr(batch_size), "omit it")
        together = self.ranks.size if trains and fixed is not None and self.ranks is not None else 1
        rows = make(together * fixed if fixed else (BATCH_SIZE if batch_size is None else batch_size), fixed is None)
        left_out = rows.count % rows.batch_size
        if fixed is not None and left_out:
            warn_once(self.ranks, f"the model's batch size is fixed at {fixed}: {left_out} rows are left out")
        return rows


class _FromRows:
    """Batches of each epoch, in an order determined by seed and epoch. `has_weights`: they may have sample weights."""

    def __init__(self, rows, seed, shuffle, has_weights=False):
        self.rows, self.seed, self.shuffle, self.steps = rows, seed, shuffle, len(rows)
        self.has_weights = has_weights

    def __call__(self, epoch):
        order = numpy.random.default_rng([self.seed, epoch]).permutation(self.rows.count) if self.shuffle else None
        return self.rows.batches(order)


class _FromIterable:
    """Batches of an iterable or a function. Of several ranks each has its own, for as long as all have one."""

    def __init__(self, batches, names, steps, ranks):
        if steps is not None and (not isinstance(steps, (int, numpy.integer)) or steps < 1):
            raise InputError("steps_per_epoch of at least 1", repr(steps), "")
        self.batches, self.names, self.limit, self.ranks = batches, names, steps, ranks
        self.steps = steps or (len(batches) if hasattr(batches, "__len__") else None)
        self.open = None
        self.has_weights = True

    def __call__(self, epoch):
        items = self._items()
        return map(self.names.batch, items if self.ranks is None else together(items, self.ranks))

    def _iterator(self):
        return iter(self.batches() if callable(self.batches) else self.batches)

    def _items(self):
        if self.limit is None:
            yield from self._iterator()
            return
        for _ in range(self.limit):
            item = next(self.open, _END) if self.open is not None else _END
            if item is _END:
                self.open = self._iterator()
                item = next(self.open, _END)
            if item is _END:
                return
            yield item


_END = object()


def together(items, ranks):
    """Items for as long as every rank has one. What others have left then is not used, and rank 0 says so."""
    items = iter(items)
    while True:
        item = next(items, _END)
        if not ranks.any(item is _END):
            yield item
            continue
        if ranks.any(item is not _END):
            warn_once(ranks, "ranks have different numbers of batches: an epoch ends with the first that has none left")
        return
