"""Outputs for rows in batches."""

import numpy

from ._batches import row_count
from .errors import InputError


def predict(run, data, x, batch_size):
    """The outputs of run({input: array}) for all rows: an array, or {output: array} if there are several."""
    parts = []
    for batch in data.for_prediction(x, batch_size):
        count = row_count(batch, data.names)
        missing = max(0, (data.fixed or 0) - count)
        if missing:
            batch = {name: numpy.concatenate([a, numpy.repeat(a[-1:], missing, 0)]) for name, a in batch.items()}
        parts.append((run(batch), count, count + missing))
    if not parts:
        raise InputError("batches to predict", "none", "an iterator ends once")
    joined = {}
    for name in parts[0][0]:
        arrays = [_first_rows(name, outputs[name], *counts, len(parts)) for outputs, *counts in parts]
        joined[name] = arrays[0] if len(arrays) == 1 else numpy.concatenate(arrays)
    return next(iter(joined.values())) if len(joined) == 1 else joined


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
