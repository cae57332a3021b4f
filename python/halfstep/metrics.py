"""Metrics by their names and by those of Keras."""

from . import _core
from ._names import find, plain
from .errors import InputError

TABLE = {row["name"]: row for row in _core.metric_table()}
ALIASES = {
    "accuracy": ("acc", "sparse_categorical_accuracy", "categorical_accuracy", "binary_accuracy"),
    "top_k": ("top_k_accuracy", "top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy"),
    "mean_iou": ("mean_io_u", "iou"),
    "f1": ("f1_score",),
    "auc": ("roc_auc",),
    "mae": ("mean_absolute_error",),
    "mse": ("mean_squared_error",),
    "rmse": ("root_mean_squared_error",),
    "r2": ("r2_score",),
    "confusion": ("confusion_matrix",),
}
_KNOWN = {plain(name): name for name in TABLE}
_KNOWN.update({plain(alias): name for name, aliases in ALIASES.items() for alias in aliases})


def metric_names(metrics):
    """ "accuracy,top_k:5" from names with or without parameters; None for None: the default metrics of the labels."""
    if metrics is None:
        return None
    if isinstance(metrics, str):
        metrics = [m for m in metrics.split(",") if m.strip()]
    names = []
    for metric in metrics:
        if not isinstance(metric, str):
            raise InputError("names of metrics", type(metric).__name__, f"the metrics are {', '.join(TABLE)}")
        name, colon, number = metric.partition(":")
        names.append(find(name, _KNOWN, "a metric") + colon + number)
    text = ",".join(names)
    _core.check_metrics(text)
    return text


def metric_texts(metrics):
    """The same of {output: names}: {output: text}."""
    if isinstance(metrics, dict):
        return {output: metric_names(names) for output, names in metrics.items()}
    return metric_names(metrics)


def smaller_is_better(name):
    """For a value of a History, "val_scores_top_k:5": a loss, or a metric after "val_" and an output's name.

    Raises InputError for another name.
    """
    of = name.removeprefix("val_").partition(":")[0]
    if of == "loss" or of.endswith("_loss"):
        return True
    rows = [row for own, row in TABLE.items() if of == own or of.endswith(f"_{own}")]
    if not rows:
        raise InputError(
            f"a value to monitor with a known direction: loss, {', '.join(TABLE)}",
            f"'{name}'",
            "set mode='min' if smaller is better, or mode='max'",
        )
    return max(rows, key=lambda row: len(row["name"]))["smaller_is_better"]
