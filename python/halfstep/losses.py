"""Losses: the rows of halfstep's table, by their names and by those of Keras and PyTorch."""

import operator

from . import _core
from ._names import find, plain
from .errors import InputError

__all__ = ["Loss"]

TABLE = {row["name"]: row for row in _core.loss_table()}
OWN_LOSS = "output"  # the model computes its loss
IGNORED_LABEL = -100

# Names in Keras and PyTorch of the losses in the rows.
ALIASES = {
    "softmax_cross_entropy": (
        "sparse_categorical_crossentropy",
        "categorical_crossentropy",
        "cross_entropy",
        "CrossEntropyLoss",
    ),
    "negative_log_likelihood": ("nll_loss", "NLLLoss"),
    "kl_divergence": ("kullback_leibler_divergence", "kld"),
    "focal": ("categorical_focal_crossentropy",),
    "binary_cross_entropy": ("binary_crossentropy", "BCELoss", "bce"),
    "binary_cross_entropy_logits": (
        "binary_cross_entropy_with_logits",
        "binary_crossentropy_from_logits",
        "BCEWithLogitsLoss",
    ),
    "binary_focal": ("sigmoid_focal_loss",),
    "mean_squared_error": ("mse", "mse_loss", "MSELoss"),
    "l1": ("mean_absolute_error", "mae", "l1_loss", "L1Loss"),
    "huber": ("huber_loss", "HuberLoss"),
    "log_cosh": ("logcosh",),
    "poisson_nll": ("poisson_nll_loss", "PoissonNLLLoss"),
    "cosine_similarity": ("cosine_embedding_loss", "CosineEmbeddingLoss"),
    OWN_LOSS: ("own", "model_output"),
}
# Names of losses that are other functions there than the nearest row here.
OTHERS = {
    "binary_focal_crossentropy": "binary_focal takes logits, and weights class 1 by focal_alpha=0.25",
    "kl_div": "kl_divergence is that of reduction='batchmean'; 'mean' there also divides by the number of classes",
}
OTHERS["KLDivLoss"] = OTHERS["kl_div"]
_OTHERS = {plain(name): hint for name, hint in OTHERS.items()}
_KNOWN = {plain(name): name for name in TABLE}
_KNOWN.update({plain(alias): name for name, aliases in ALIASES.items() for alias in aliases})


def row_named(name):
    """The row in the table of losses."""
    if not isinstance(name, str):
        raise InputError("the name of a loss", type(name).__name__, "halfstep.Loss creates one with options")
    if plain(name) in _OTHERS:
        raise InputError("the name of a loss that halfstep has", f"'{name}'", _OTHERS[plain(name)])
    return TABLE[find(name, _KNOWN, "a loss")]


class Loss:
    """A loss of an output of a model.

    Args:
        name: a loss of halfstep's table, or its name in Keras or PyTorch, such as "sparse_categorical_crossentropy" or
            "CrossEntropyLoss". "output": the model computes its loss.
        output: the model's output for the loss; default: the first.
        labels: name of the labels in batches. Default: "labels", or the output's name if losses are given by output.
        weight: weight of this loss in the sum of several.
        class_axis: class axis of the output; negative: from the back; default: from the labels' shape, the model, or 1.
        ignore_label: points with this class index are ignored in the loss and its mean.
        class_weight: {class: weight}, others 1, or a sequence with a weight per class. The mean is weighted by them.
        sample_weights: name in batches of an array of weights, with shape [rows] or that of the labels.
        reduction: "mean" or "sum" over the batch.
        **numbers: parameters of the loss: label_smoothing, huber_delta, focal_gamma, focal_alpha.

    Raises InputError for a name or parameter that is not in the table.
    """

    def __init__(
        self,
        name,
        *,
        output="",
        labels=None,
        weight=1.0,
        class_axis=None,
        ignore_label=IGNORED_LABEL,
        class_weight=None,
        sample_weights="",
        reduction="mean",
        **numbers,
    ):
        self.row = row_named(name)
        self.name = self.row["name"]
        self.output, self.labels, self.weight = output, labels, float(weight)
        self.class_axis = class_axis
        if not self.row["ignores"] and ignore_label not in (IGNORED_LABEL, None):
            raise InputError(
                f"no ignore_label with {self.name}",
                repr(ignore_label),
                "only losses of class indices and binary labels support it",
            )
        self.ignore_label = ignore_label if self.row["ignores"] else None
        self.class_weight, self.sample_weights, self.reduction = class_weight, sample_weights, reduction
        own = {number["name"]: number["name"] for number in self.row["numbers"]}
        short = {key.split("_")[-1]: key for key in own if key != "label_smoothing"}  # "delta" for "huber_delta"
        self.numbers = {}
        for key, value in numbers.items():
            if key not in own and key not in short:
                raise InputError(
                    f"a parameter of loss {self.name}: {', '.join(own) or 'it has none'}", f"'{key}'", "omit it"
                )
            self.numbers[own.get(key) or short[key]] = float(value)
        self.term()  # checks

    def __repr__(self):
        return f"Loss({self.name!r})"

    def changed(self, **attributes):
        """A copy with other attributes."""
        copy = object.__new__(Loss)
        copy.__dict__ = {**self.__dict__, **attributes}
        return copy

    @property
    def takes_labels(self):
        return self.row["labels"] != "none"

    def term(self, outputs=()):
        """The _core.LossTerm, of a model with these outputs."""
        return _core.LossTerm(
            loss=self.name,
            output=self.output,
            labels=self.labels or "labels",
            weight=self.weight,
            class_axis=self.class_axis,
            ignore_label=self.ignore_label,
            numbers=self.numbers,
            class_weights=self._class_weights(outputs),
            sample_weights=self.sample_weights,
            labels_input="",
            reduction=self.reduction,
        )

    def _class_weights(self, outputs):
        weights = self.class_weight
        if weights is None or (isinstance(weights, dict) and not outputs):
            return []
        if not self.row["takes_class_weights"]:
            raise InputError(
                f"no class_weight with {self.name}",
                "some",
                "only losses over classes and with binary labels support it",
            )
        if not isinstance(weights, dict):
            return [float(w) for w in weights]
        count = self._class_count(outputs)
        if any(not hasattr(c, "__index__") or not 0 <= operator.index(c) < count for c in weights):
            raise InputError(f"class_weight by classes from 0 to {count - 1}", repr(list(weights)), "")
        return [float(weights.get(c, 1.0)) for c in range(count)]

    def _class_count(self, outputs):
        if self.row["labels"] == "binary":
            return 2
        shape = next((shape for name, _, shape in outputs if name == self.output or not self.output), None)
        axis = self.class_axis if self.class_axis is not None else (1 if shape and len(shape) == 2 else None)
        count = None if shape is None or axis is None else shape[axis]
        if count is None:
            raise InputError("class_weight as a list with a weight per class", "a dictionary", "list them all")
        return count


def as_losses(loss, loss_weights, outputs):
    """The losses of a model with these outputs as a list of Loss; None if the first batch determines them."""
    if loss is None:
        if loss_weights is not None:
            raise InputError("losses for loss_weights", "none", "")
        return None
    if isinstance(loss, dict):
        names = [name for name, _, _ in outputs]
        unknown = [name for name in loss if name not in names]
        if unknown or not loss:
            got = f"'{unknown[0]}'" if unknown else "none"
            raise InputError(f"losses by the model's outputs: {', '.join(names)}", got, "")
        losses = [as_loss(one).changed(output=name) for name, one in loss.items()]
        losses = [one if one.labels else one.changed(labels=one.output) for one in losses]
    elif isinstance(loss, (list, tuple)):
        losses = [as_loss(one) for one in loss]
        if not losses:
            raise InputError("at least one loss", "none", "")
    else:
        losses = [as_loss(loss)]
    return [one.changed(weight=one.weight * w) for one, w in zip(losses, _weights(losses, loss_weights))]


def as_loss(loss):
    return loss if isinstance(loss, Loss) else Loss(loss)


def _weights(losses, loss_weights):
    if loss_weights is None:
        return [1.0] * len(losses)
    if isinstance(loss_weights, dict):
        outputs = [one.output for one in losses]
        unknown = [name for name in loss_weights if name not in outputs]
        if unknown:
            raise InputError(f"loss_weights by outputs with a loss: {', '.join(outputs)}", f"'{unknown[0]}'", "")
        return [float(loss_weights.get(one.output, 1.0)) for one in losses]
    if len(loss_weights) != len(losses):
        raise InputError(f"{len(losses)} loss_weights", str(len(loss_weights)), "pass one for each loss")
    return [float(w) for w in loss_weights]
