"""Peak memory of training BERT-base, ResNet-50 and a wide MLP: halfstep against eager PyTorch, fp32, random weights.

usage: memory.py FOLDER [NAME...] [--halfstep PROGRAM] [--threads N] [--steps N]
needs: torch, transformers, onnx, onnxscript

Models and data are written to FOLDER when they are not there. What is measured is the largest resident set of the whole
process, from its start to its end; halfstep writes the trained model, too. This file imports nothing large: a child's
peak, as the system counts it, begins with the pages of the process that started it.
"""

import argparse
import os
import pathlib
import subprocess
import sys

MB = 1e6
HERE = pathlib.Path(__file__).resolve().parent
# optimizer and its flags, rows of a batch
CASES = {
    "mlp": (["adamw"], 64),
    "resnet50": (["sgd", "--momentum", "0.9"], 8),
    "bert": (["adamw"], 8),
}


def peak_of(command, threads):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, command))}\nended with status {status}:\n{output}")
    return usage.ru_maxrss * 1024


def halfstep_peak(name, folder, arguments, *more):
    optimizer, rows = CASES[name]
    return peak_of([arguments.halfstep, "train", folder / "model.onnx", "--data", f"{folder / 'x.npy'},{folder / 'y.npy'}",
                    "--no-shuffle", "--batch", str(rows), "--steps", str(arguments.steps), "--optimizer", *optimizer,
                    "--lr", "1e-4", "--loss", "softmax_cross_entropy", "--precision", "fp32", "--executor", "onednn",
                    "--threads", str(arguments.threads), "-o", folder / "trained.onnx", "--save-config", "none",
                    *more], arguments.threads)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; all")
    parser.add_argument("--halfstep", default=HERE.parent / "build" / "release" / "bin" / "halfstep", help="the program")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    models = [sys.executable, HERE / "memory_models.py"]
    print("| training step | halfstep | PyTorch eager | ratio |\n| --- | --- | --- | --- |")
    for name in arguments.names or list(CASES):
        folder = arguments.folder / name
        if not (folder / "y.npy").exists():
            peak_of([*models, "write", folder, name], arguments.threads)
        ours = halfstep_peak(name, folder, arguments)
        theirs = peak_of([*models, "train", name, str(arguments.steps)], arguments.threads)
        print(f"| {name} | {ours / MB:,.0f} MB | {theirs / MB:,.0f} MB | {ours / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()
