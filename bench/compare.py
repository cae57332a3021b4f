"""Training steps of halfstep against eager PyTorch: same models, batches, optimizer, precision and threads.

Runs of the two alternate, so that a slowdown of the machine affects both. The result of a run is the median of its
steps after warm-up; the table shows the median of the runs and their range.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
WARM_UP = 50

# name, title in the table, model, batch, steps per run
CASES = (
    ("mlp", "MNIST MLP, batch 32, Adam", "models/mnist_mlp.onnx", 32, 1500),
    ("lenet", "LeNet, batch 64, Adam", "models/mnist_lenet.onnx", 64, 400),
)


def run(command, threads):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\nended with status {done.returncode}:\n{done.stderr}")
    return done.stdout


def torch_step(name, steps, threads):
    script = ROOT / "bench" / "torch_step.py"
    numbers = ["--threads", str(threads), "--steps", str(steps), "--warm-up", str(WARM_UP)]
    command = [sys.executable, script, name, *numbers]
    return json.loads(run(command, threads))["median_ms"]


def halfstep_step(program, model, batch, steps, threads):
    """Median of the "ms" of a training log: a step with its batch, from the rows of the data to the updated state."""
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "log.jsonl"
        run([program, "train", ROOT / model, "--data", ROOT / "models" / "mnist", "--precision", "fp32",
             "--executor", "onednn", "--optimizer", "adam", "--lr", "1e-3", "--batch", str(batch),
             "--steps", str(WARM_UP + steps), "--threads", str(threads), "--log", log], threads)  # fmt: skip
        records = [json.loads(line) for line in log.read_text().splitlines()]
        times = [record["ms"] for record in records if "ms" in record]
    return statistics.median(times[WARM_UP:])


def show(values):
    return f"{statistics.median(values):.3f} ms ({min(values):.3f} to {max(values):.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--halfstep", default=ROOT / "build" / "release" / "bin" / "halfstep", help="the program")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=int, help="runs of each of the two (default: 5; 3 with --models and --networks)")
    parser.add_argument("--models", nargs="*", metavar="NAME",
                        help="compare these models of --zoo instead (default: all)")  # fmt: skip
    parser.add_argument("--networks", nargs="*", metavar="NAME",
                        help="compare these networks of networks.py (default: all)")  # fmt: skip
    parser.add_argument("--precisions", nargs="+", default=["fp32"], choices=["fp32", "bf16", "fp16"],
                        help="a row each")  # fmt: skip
    parser.add_argument("--batch", type=int, nargs="+", metavar="N",
                        help="batch sizes of --networks, a row each (default: one for each network)")  # fmt: skip
    parser.add_argument("--executor", default="onednn",
                        help="executor of --networks; with cudnn PyTorch also runs on the GPU")  # fmt: skip
    parser.add_argument("--peers", nargs="*", default=["eager"], choices=["eager", "compile"],
                        help="ways to run PyTorch, a column each")  # fmt: skip
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / ".bench" / "networks",
                        help="folder of their models")  # fmt: skip
    parser.add_argument("--write", action="store_true", help="write bench/RESULTS.md from --networks")
    parser.add_argument("--zoo", type=pathlib.Path, default=ROOT / "models" / "zoo")
    parser.add_argument("--seconds", type=float, default=1, help="duration of a run, with --models and --networks")
    arguments = parser.parse_args()
    if arguments.models is not None:
        from compare_models import compare_models  # which imports this file

        return compare_models(arguments.halfstep, arguments.zoo, arguments.models, arguments.threads,
                              arguments.runs or 3, arguments.seconds)  # fmt: skip

    if arguments.networks is not None:
        from compare_networks import compare_networks

        arguments.runs = arguments.runs or 3
        return compare_networks(arguments)

    runs = arguments.runs or 5
    print(f"{runs} alternating runs, {arguments.threads} threads, fp32; median (fastest to slowest run)\n")
    print("| training step | halfstep | PyTorch eager | ratio |\n| --- | --- | --- | --- |")
    for name, title, model, batch, steps in CASES:
        ours, theirs = [], []
        for _ in range(runs):
            theirs.append(torch_step(name, steps, arguments.threads))
            ours.append(halfstep_step(arguments.halfstep, model, batch, steps, arguments.threads))
        ratio = statistics.median(ours) / statistics.median(theirs)
        print(f"| {title} | {show(ours)} | {show(theirs)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
