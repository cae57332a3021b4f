"""A run that is killed and resumed ends with the parameters of a run that was not, bit for bit.

usage: resume_test.py PROGRAM PRECISION
"""

import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from halfstep_program import MODELS, read_safetensors, run

EPOCHS = 3
BATCH = 64  # does not divide the 60,000 rows: the last batch of an epoch is smaller


def arguments(precision, folder):
    return ("train", MODELS / "mnist_mlp.onnx", "--data", MODELS / "mnist", "--precision", precision, "--batch", BATCH,
            "--epochs", EPOCHS, "--seed", 7, "--lr-schedule", "cosine:decay_steps=3000,warmup_steps=100",
            "--checkpoint", folder, "--checkpoint-every", 100)  # fmt: skip


def kill_after_checkpoint(program, precision, folder):
    """Starts a run, and kills it a moment after its second checkpoint."""
    command = [str(argument) for argument in (program, *arguments(precision, folder))]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        previous = folder / "checkpoint.prev.safetensors"
        while not previous.exists():
            assert process.poll() is None, f"ended before a second checkpoint: {process.stderr.read().decode()}"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "the run was over before it could be killed"


def main(program, precision):
    with tempfile.TemporaryDirectory() as name:
        whole, killed = pathlib.Path(name) / "whole", pathlib.Path(name) / "killed"
        run(program, *arguments(precision, whole), "-o", pathlib.Path(name) / "whole.onnx")
        kill_after_checkpoint(program, precision, killed)
        run(program, *arguments(precision, killed), "--resume", killed, "-o", pathlib.Path(name) / "killed.onnx")

        first, second = (read_safetensors(folder / "checkpoint.safetensors") for folder in (whole, killed))
        assert first.keys() == second.keys(), f"other tensors: {first.keys() ^ second.keys()}"
        different = [tensor for tensor in first if first[tensor] != second[tensor]]
        print(f"{len(first)} tensors, {len(different)} different")
        assert not different, f"different after resuming: {different}"
        models = [(pathlib.Path(name) / f"{run_name}.onnx").read_bytes() for run_name in ("whole", "killed")]
        assert models[0] == models[1], "the trained models differ"


if __name__ == "__main__":
    main(*sys.argv[1:])
