"""What `halfstep train --tensorboard` writes, read by TensorBoard itself: tensorboard_test.py PROGRAM MODELS."""

import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

program, models = sys.argv[1], pathlib.Path(sys.argv[2])


def train(folder, *arguments):
    subprocess.run(
        [program, "train", models / "mnist_mlp.onnx", "--data", "x.npy,y.npy", "--val-data", "x.npy,y.npy", "--batch",
         "10", "--precision", "fp32", "--tensorboard", "events", "--log", "log.jsonl", "--checkpoint", "checkpoint",
         *arguments],
        cwd=folder, check=True, stdout=subprocess.DEVNULL)


def read(folder):
    events = EventAccumulator(str(folder / "events"), size_guidance={"scalars": 0, "histograms": 0})
    events.Reload()
    return events


def points(events, tag):
    return [(event.step, event.value) for event in events.Scalars(tag)]


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    numpy.save(folder / "x.npy", numpy.random.default_rng(0).random((40, 784), dtype=numpy.float32))
    numpy.save(folder / "y.npy", numpy.arange(40) % 10)
    train(folder, "--epochs", "2", "--tensorboard-histograms", "4")
    events = read(folder)
    tags = events.Tags()
    assert {"step/loss", "step/learning_rate", "step/grad_norm", "train/loss", "train/accuracy", "validation/loss",
            "validation/accuracy"} == set(tags["scalars"]), tags
    records = [json.loads(line) for line in open(folder / "log.jsonl")]
    steps = [record for record in records if "loss" in record]
    epochs = [record for record in records if "train" in record]
    assert [step for step, _ in points(events, "step/loss")] == list(range(1, 9))
    for (_, value), record in zip(points(events, "step/loss"), steps):
        assert math.isclose(value, record["loss"], rel_tol=1e-6)
    for (step, value), record in zip(points(events, "validation/accuracy"), epochs):
        assert step == record["step"] and math.isclose(value, record["validation"]["accuracy"], rel_tol=1e-6)
    assert len(tags["histograms"]) == 4, tags
    for tag in tags["histograms"]:
        histograms = events.Histograms(tag)
        assert [event.step for event in histograms] == [4, 8]
        histogram = histograms[0].histogram_value
        assert histogram.num == sum(histogram.bucket) > 0
    # A resumed run repeats nothing: its file goes on where the checkpoint lies.
    train(folder, "--epochs", "3", "--resume", "checkpoint")
    assert len(list((folder / "events").iterdir())) == 2
    assert [step for step, _ in points(read(folder), "step/loss")] == list(range(1, 13))
