"""Training steps of every exported model in models/zoo: halfstep on the oneDNN executor against eager PyTorch.

All exports of a network are compared with the same PyTorch module, built from the export that keeps operators whole
(WHOLE); so nodes added by other exporters cost PyTorch nothing. Keras models are compared with their own PyTorch module.
"""

import json
import pathlib
import statistics
import sys
import tempfile

import numpy

from compare import ROOT, run, show

WHOLE = {
    "autoencoder": "autoencoder-dynamo-optimized",
    "deit": "deit-dynamo-optimized",
    "gpt_neo": "gpt_neo-dynamo",
    "lenet": "lenet-torchscript",
    "mlp": "mlp-torchscript",
    "mobilenetv2": "mobilenetv2-torchscript",
    "resnet": "resnet-torchscript",
    "rnn": "rnn-torchscript",
    "roberta": "roberta-dynamo-optimized",
    "squeezenet": "squeezenet-torchscript",
}
FIRST_LOSS = 1e-3  # maximum relative difference if both train the same model


def train(program, case, expected, threads, steps, *more):
    """Runs halfstep once on the case's batch; returns its log."""
    rows = len(numpy.load(case / "x.npy", mmap_mode="r"))
    hyperparameters = []
    for name in ("lr", "momentum", "weight_decay"):
        if name in expected:
            hyperparameters += [f"--{name.replace('_', '-')}", str(expected[name])]
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "log.jsonl"
        run([program, "train", case / "model.onnx", "--data", f"{case / 'x.npy'},{case / 'y.npy'}", "--no-shuffle",
             "--loss", expected["loss"], "--optimizer", expected["optimizer"], *hyperparameters, "--batch", str(rows),
             "--steps", str(steps), "--precision", "fp32", "--executor", "onednn", "--threads", str(threads),
             "--log", log, *more], threads)  # fmt: skip
        records = [json.loads(line) for line in log.read_text().splitlines()]
        return [record for record in records if "ms" in record]


def torch_run(graph, case, threads, seconds):
    script = ROOT / "bench" / "torch_model_step.py"
    command = [sys.executable, script, graph, case, "--threads", str(threads), "--seconds", str(seconds)]
    return json.loads(run(command, threads))


class Case:
    """Compares one model, with the graph for PyTorch."""

    def __init__(self, folder, program, threads, graphs):
        self.folder, self.program, self.threads = folder, program, threads
        self.expected = json.loads((folder / "expected.json").read_text())
        whole = WHOLE.get(folder.name.split("-")[0]) if not folder.name.endswith("keras") else folder.name
        self.torch_folder = folder.parent / (whole or folder.name)
        self.graph = graphs / self.torch_folder.name
        if not self.graph.exists():
            expected = json.loads((self.torch_folder / "expected.json").read_text())
            train(program, self.torch_folder, expected, threads, 1, "--dump-passes", self.graph)
        (self.graph_file,) = self.graph.glob("*_canonicalize.onnx")

    def halfstep(self, steps):
        log = train(self.program, self.folder, self.expected, self.threads, steps)
        times = [step["ms"] for step in log]
        return statistics.median(times[len(times) // 3 :]), log[0]["loss"]

    def torch(self, seconds):
        found = torch_run(self.graph_file, self.torch_folder, self.threads, seconds)
        return found["median_ms"], found["first_loss"]


def compare_case(case, runs, seconds):
    ours, theirs = [], []
    steps = 15
    for _ in range(runs):
        time, their_loss = case.torch(seconds)
        theirs.append(time)
        time, our_loss = case.halfstep(steps)
        ours.append(time)
        steps = int(min(max(15, seconds * 1e3 / time), 5000))
    if abs(our_loss - their_loss) > FIRST_LOSS * abs(their_loss):
        sys.exit(f"{case.folder.name}: first loss {our_loss}, PyTorch's {their_loss}: not the same model")
    return ours, theirs


def compare_models(program, models, names, threads, runs, seconds):
    print(f"{runs} alternating runs, {threads} threads, fp32; median (fastest to slowest run)\n")
    print("| training step | halfstep | PyTorch eager | ratio |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as graphs:
        for folder in sorted(path.parent for path in models.glob("*/expected.json")):
            if names and folder.name not in names:
                continue
            case = Case(folder, program, threads, pathlib.Path(graphs))
            ours, theirs = compare_case(case, runs, seconds)
            ratio = statistics.median(ours) / statistics.median(theirs)
            print(f"| {folder.name} | {show(ours)} | {show(theirs)} | {ratio:.2f} |", flush=True)
