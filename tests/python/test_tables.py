"""Optimizers, losses, schedules and metrics are those of the library's tables."""

import inspect

import pytest

import halfstep
from halfstep import _core, losses, metrics, optimizers, schedules


def test_every_optimizer_has_a_class():
    for row in _core.optimizer_table():
        made = halfstep.optimizers.as_optimizer(row["name"])
        assert made.name == row["name"] and type(made) is getattr(halfstep, type(made).__name__)
        parameters = inspect.signature(type(made)).parameters
        for number in row["numbers"]:
            default = parameters[number["name"]].default
            assert default == number["default"], number["name"]
            assert f"{number['name']}: " in type(made).__doc__
            type(made)(**{number["name"]: default})
    assert len(optimizers.CLASSES) == len(_core.optimizer_table())


@pytest.mark.parametrize(
    "name, made",
    [("Adam", "Adam"), ("adamw", "AdamW"), ("SGD", "SGD"), ("RMSprop", "RMSprop"), ("rms_prop", "RMSprop")],
)
def test_optimizers_by_name(name, made):
    assert type(optimizers.as_optimizer(name)).__name__ == made


def test_other_frameworks_numbers():
    made = halfstep.Adam(lr=0.1, betas=(0.8, 0.9), eps=1e-6)
    assert made.learning_rate == 0.1
    assert made.numbers == {"beta1": 0.8, "beta2": 0.9, "epsilon": 1e-6}
    assert halfstep.Adam(beta_1=0.7).numbers == {"beta1": 0.7}


def test_every_schedule_has_a_class():
    known = {(row["name"], row["list"]) for row in _core.schedule_table()}
    assert set(schedules._NAMES.values()) == known


@pytest.mark.parametrize(
    "schedule, updates, rate",
    [
        (halfstep.Constant(), 100, 1.0),
        (halfstep.ExponentialDecay(decay_steps=10, decay_rate=0.5), 20, 0.25),
        (halfstep.ExponentialDecay(decay_steps=10, decay_rate=0.5, staircase=True), 15, 0.5),
        (halfstep.StepDecay(step_size=10), 25, 0.01),
        (halfstep.MultiStepDecay(milestones=[5, 8], gamma=0.5), 8, 0.25),
        (halfstep.CosineDecay(decay_steps=10), 5, 0.5),
        (halfstep.CosineDecay(decay_steps=10, warmup_steps=4), 2, 0.5),
        (halfstep.CosineDecayRestarts(0.5, 10, m_mul=0.5), 10, 0.25),
        (halfstep.InverseTimeDecay(0.5, 10, 1.0), 10, 0.25),
        (halfstep.LinearDecay(decay_steps=10, end_lr=0.5), 10, 0.5),
        (halfstep.PolynomialDecay(decay_steps=10, power=2.0), 5, 0.25),
        (halfstep.OneCycle(total_steps=10), 0, 0.04),
    ],
)
def test_rates(schedule, updates, rate):
    assert schedule.at(updates, 1.0) == pytest.approx(rate)


def test_aliases_are_of_rows():
    assert set(losses.ALIASES) <= set(losses.TABLE) and set(metrics.ALIASES) <= set(metrics.TABLE)
    for name, aliases in losses.ALIASES.items():
        for alias in aliases:
            assert halfstep.Loss(alias).name == name
    for name in losses.TABLE:
        assert halfstep.Loss(name).name == name


def test_numbers_of_losses():
    assert halfstep.Loss("huber", delta=0.5).numbers == {"huber_delta": 0.5}
    assert halfstep.Loss("focal", focal_gamma=1).numbers == {"focal_gamma": 1.0}


def test_metrics_by_name():
    assert metrics.metric_names(["acc", "sparse_top_k_categorical_accuracy:3"]) == "accuracy,top_k:3"
    assert metrics.metric_names(None) is None and metrics.metric_names([]) == ""
