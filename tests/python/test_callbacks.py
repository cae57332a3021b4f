"""Callbacks, interrupts and what is printed during fit."""

import io
import signal
import types

import numpy
import pytest

import halfstep
from conftest import compiled


class Recorder(halfstep.Callback):
    def __init__(self):
        self.calls = []

    def on_train_begin(self):
        self.calls.append("begin")

    def on_epoch_begin(self, epoch):
        self.calls.append(f"epoch {epoch}")

    def on_step(self, step, report):
        self.calls.append(f"step {step}")
        assert report.updated

    def on_epoch_end(self, epoch, logs):
        self.calls.append(f"end {epoch}")

    def on_train_end(self):
        self.calls.append("over")


def test_callbacks_are_called_in_order(mlp):
    recorder, seen = Recorder(), []
    callbacks = [recorder, lambda epoch, logs: seen.append(logs["loss"])]
    compiled(mlp).fit(mlp.x, mlp.y, epochs=2, batch_size=16, callbacks=callbacks)
    assert recorder.calls == [
        "begin", "epoch 0", "step 0", "step 1", "end 0", "epoch 1", "step 0", "step 1", "end 1", "over",
    ]  # fmt: skip
    assert len(seen) == 2


def test_a_callback_ends_training(mlp):
    class Stop(halfstep.Callback):
        def on_step(self, step, report):
            if step == 1:
                self.model.stop_training = "enough"

    history = compiled(mlp).fit(mlp.x, mlp.y, epochs=5, batch_size=8, callbacks=[Stop()])
    assert history.steps == 2 and history.stopped == "enough"


def test_early_stopping_restores_the_best(mlp):
    model = compiled(mlp, optimizer=halfstep.SGD(0.1))
    wrong = (mlp.y + 1) % 10
    stopping = halfstep.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    history = model.fit(mlp.x, mlp.y, epochs=20, validation_data=(mlp.x, wrong), callbacks=[stopping])
    losses = history.history["val_loss"]
    assert len(losses) < 20 and "val_loss" in history.stopped
    assert model.evaluate(mlp.x, wrong)["loss"] == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.parametrize(
    "monitor, mode",
    [
        ("loss", "min"), ("val_loss", "min"), ("boxes_loss", "min"), ("val_mse", "min"), ("boxes_mae", "min"),
        ("accuracy", "max"), ("val_top_k:5", "max"), ("val_loss_f1:2", "max"), ("mae_auc", "max"), ("mean_iou", "max"),
    ],
)  # fmt: skip
def test_what_is_better_follows_from_the_table(monitor, mode):
    assert halfstep.EarlyStopping(monitor).mode == mode


@pytest.mark.parametrize("patience, epochs", [(0, 3), (1, 3), (2, 4), (3, 5)])
def test_patience_is_the_number_of_epochs_without_improvement(patience, epochs):
    """As in C++ (EarlyStopping in callbacks_test.cpp) and Keras."""
    stopping = halfstep.EarlyStopping("loss", patience=patience)
    stopping.model = types.SimpleNamespace(stop_training=False)
    stopping.on_train_begin()
    for epoch, loss in enumerate([3, 2, 2.5, 2.4, 2.3, 2.2, 2.1]):
        stopping.on_epoch_end(epoch, {"loss": loss})
        if stopping.model.stop_training:
            break
    assert epoch + 1 == epochs and stopping.best_epoch == 1


def test_each_fit_begins_anew(mlp):
    model = compiled(mlp, optimizer=halfstep.SGD(0.1))
    stopping = halfstep.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    model.fit(mlp.x, mlp.y, epochs=20, validation_data=(mlp.x, (mlp.y + 1) % 10), callbacks=[stopping])
    assert stopping.waited == 1 and stopping.best_epoch == 0
    best, first = stopping.best, len(model.history.epoch)
    history = model.fit(mlp.x, mlp.y, epochs=1, validation_data=(mlp.x, (mlp.y + 2) % 10), callbacks=[stopping])
    assert not history.stopped and stopping.waited == 0 and stopping.best_epoch == first
    assert stopping.best == history.history["val_loss"][0] != best


def test_metrics_are_those_of_compile(mlp):
    names = ["accuracy"]
    model = compiled(mlp, metrics=names)
    names.append("no metric")
    assert set(model.fit(mlp.x, mlp.y).history) == {"loss", "accuracy", "learning_rate"}


def test_what_is_restored_is_the_model_alone(mlp):
    schedule = halfstep.LinearDecay(decay_steps=20)
    model = compiled(mlp, optimizer=halfstep.Adam(1e-2, schedule=schedule))
    stopping = halfstep.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    model.fit(mlp.x, mlp.y, epochs=20, batch_size=8, validation_data=(mlp.x, (mlp.y + 1) % 10), callbacks=[stopping])
    assert stopping.best_epoch + 1 < len(model.history.epoch) and model.step.updates == model.history.steps > 4


def test_a_fit_that_failed_restores_nothing_of_an_earlier_one(mlp):
    class Fails(halfstep.Callback):
        def on_train_begin(self):
            raise RuntimeError("no")

    model = compiled(mlp)
    stopping = halfstep.EarlyStopping("loss", restore_best_weights=True)
    model.fit(mlp.x, mlp.y, callbacks=[stopping])
    model.fit(mlp.x, mlp.y, epochs=2)
    before = model.step.flat_parameters()
    with pytest.raises(RuntimeError, match="no"):
        model.fit(mlp.x, mlp.y, callbacks=[Fails(), stopping])
    numpy.testing.assert_array_equal(model.step.flat_parameters(), before)


def test_what_is_better_of_other_numbers_is_asked():
    with pytest.raises(halfstep.InputError, match="mode='min'"):
        halfstep.EarlyStopping("learning_rate")
    assert halfstep.EarlyStopping("learning_rate", mode="max").mode == "max"


def test_checkpoints_of_the_best(mlp, tmp_path):
    model = compiled(mlp)
    keep = halfstep.ModelCheckpoint(tmp_path / "best-{epoch}.onnx", "accuracy")
    assert keep.mode == "max"
    history = model.fit(mlp.x, mlp.y, epochs=4, callbacks=[keep])
    accuracies, best = history.history["accuracy"], []
    for epoch, accuracy in enumerate(accuracies):
        if accuracy > max(accuracies[:epoch], default=-1):
            best.append(f"best-{epoch}.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == best


@pytest.mark.parametrize(
    "pattern, name",
    [
        ("m-{epoch}.onnx", "m-0.onnx"),
        ("{epoch:03}-{accuracy:.0f}.onnx", "000-0.onnx"),
        ("{top_k:5:.0f}.onnx", "0.onnx"),
        ("{{run}}.onnx", "{run}.onnx"),
    ],
)
def test_names_of_checkpoints(mlp, tmp_path, pattern, name):
    class Zeros(halfstep.ModelCheckpoint):
        def on_epoch_end(self, epoch, logs):
            super().on_epoch_end(epoch, {key: 0.0 for key in logs})

    model = compiled(mlp, metrics=["accuracy", "top_k:5"])
    model.fit(mlp.x, mlp.y, callbacks=[Zeros(tmp_path / pattern, save_best_only=False)])
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "pattern",
    ["{run}.onnx", "{}.onnx", "{epoch.onnx", "epoch}.onnx", "{epoch.real}.onnx", "{val_loss:q}.onnx", "{epoch:.1q}"],
)
def test_names_of_checkpoints_are_checked_before_training(pattern):
    with pytest.raises(halfstep.InputError):
        halfstep.ModelCheckpoint(pattern)


def test_a_checkpoint_named_by_what_is_not_measured(mlp, tmp_path):
    keep = halfstep.ModelCheckpoint(tmp_path / "{val_loss}.onnx", "loss")
    with pytest.raises(halfstep.InputError, match="validation_data"):
        compiled(mlp).fit(mlp.x, mlp.y, callbacks=keep)


def test_one_callback_needs_no_list(mlp):
    recorder, seen = Recorder(), []
    compiled(mlp).fit(mlp.x, mlp.y, callbacks=recorder)
    compiled(mlp).fit(mlp.x, mlp.y, callbacks=lambda epoch, logs: seen.append(epoch))
    assert recorder.calls[-1] == "over" and seen == [0]
    for wrong in (3, "EarlyStopping", halfstep.EarlyStopping):
        with pytest.raises(halfstep.InputError, match="callbacks"):
            compiled(mlp).fit(mlp.x, mlp.y, callbacks=wrong)


def test_a_scheduler_of_epochs(mlp):
    model = compiled(mlp)
    scheduler = halfstep.LearningRateScheduler(lambda epoch, rate: rate / 2)
    history = model.fit(mlp.x, mlp.y, epochs=3, callbacks=[scheduler])
    assert history.history["learning_rate"] == pytest.approx([5e-4, 2.5e-4, 1.25e-4])


def test_ctrl_c_ends_fit_between_steps(mlp):
    class Interrupt(Recorder):
        def on_step(self, step, report):
            super().on_step(step, report)
            if step == 2:
                signal.raise_signal(signal.SIGINT)

    model, recorder = compiled(mlp), Interrupt()
    with pytest.raises(KeyboardInterrupt):
        model.fit(mlp.x, mlp.y, epochs=5, batch_size=8, callbacks=[recorder])
    assert recorder.calls[-1] == "over" and model.step.updates == 3
    model.fit(mlp.x, mlp.y, epochs=1)  # it can go on
    assert model.step.updates == 4


def test_nothing_is_printed_but_on_a_terminal(mlp, capfd):
    compiled(mlp).fit(mlp.x, mlp.y)
    assert capfd.readouterr() == ("", "")
    compiled(mlp).fit(mlp.x, mlp.y, verbose=2)
    assert capfd.readouterr().err.startswith("epoch 1/1  loss 2.29")


def test_tables_are_left_out_of_lines(mlp, capfd):
    model = compiled(mlp, metrics=["accuracy", "confusion"])
    history = model.fit(mlp.x, mlp.y, verbose=2)
    assert "accuracy" in capfd.readouterr().err and "accuracy" in repr(history) and "confusion" not in repr(history)
    assert "confusion" in history.history


@pytest.mark.parametrize("verbose", ["auto", 1, 2])
def test_without_a_stream_for_messages(mlp, monkeypatch, capfd, verbose):
    model = compiled(mlp)
    monkeypatch.setattr("sys.stderr", None)
    model.fit(mlp.x, mlp.y, verbose=verbose)
    assert capfd.readouterr() == ("", "")


def test_a_bar_on_a_terminal(mlp, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    compiled(mlp).fit(mlp.x, mlp.y, batch_size=8)
    assert "\r" in terminal.getvalue() and "epoch 1/1  loss" in terminal.getvalue()
