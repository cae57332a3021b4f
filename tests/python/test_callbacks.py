"""Callbacks, interrupts and what is printed during fit."""

import io
import signal

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
    compiled(mlp).fit(mlp.x, mlp.y, epochs=2, batch_size=16, callbacks=[recorder, lambda e, logs: seen.append(logs["loss"])])
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


def test_a_bar_on_a_terminal(mlp, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    compiled(mlp).fit(mlp.x, mlp.y, batch_size=8)
    assert "\r" in terminal.getvalue() and "epoch 1/1  loss" in terminal.getvalue()
