"""Ranks that are killed at any moment: the job ends, the checkpoint is whole, and the resumed run is the same bits. Of
every second run each rank has a part of the optimizer.

usage: kill_test.py MPIRUN PROGRAM MODELS TIMES [SEED]
"""

import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

MPIRUN, PROGRAM, MODELS, TIMES = sys.argv[1:5]
SEED = int(sys.argv[5]) if len(sys.argv) > 5 else 1
CASE = pathlib.Path(MODELS) / "zoo" / "mlp-torchscript"
RANKS = 3
TRAIN = [MPIRUN, "--oversubscribe", "-n", str(RANKS), PROGRAM, "train", CASE / "model.onnx", "--data",
         f"{CASE / 'x.npy'},{CASE / 'y.npy'}", "--steps", "400", "--batch", "5", "--optimizer", "adam", "--threads", "1",
         "--checkpoint-every", "5"]  # fmt: skip
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "GOMP_SPINCOUNT": "1000"}  # fmt: skip


def start(*flags):
    return subprocess.Popen([*map(str, TRAIN), *map(str, flags)], env=ENVIRONMENT, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, (process.returncode, out, err)


def ranks_of(process):
    found = subprocess.run(["pgrep", "-P", str(process.pid), "-x", "halfstep"], capture_output=True, text=True)
    return sorted(map(int, found.stdout.split()))


def kill_one(checkpoint, course, model, *flags):
    """Kills a rank: which, when and how long the others took; None where the run had ended."""
    victim, moment = course.randrange(RANKS), course.uniform(0.2, 1.1) * SECONDS
    process = start("--checkpoint", checkpoint, "-o", model, *flags)
    time.sleep(moment)
    ranks = ranks_of(process)
    try:
        os.kill(ranks[victim], signal.SIGKILL)
    except (IndexError, ProcessLookupError):  # not there yet, or not any more
        process.communicate(timeout=300)
        return None
    killed = time.monotonic()
    process.communicate(timeout=30)
    assert process.returncode != 0 or model.exists()
    return victim, moment, time.monotonic() - killed


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    began = time.monotonic()
    finish(start("-o", folder / "whole.onnx", "--checkpoint", folder / "whole"))
    SECONDS = time.monotonic() - began
    wanted = (folder / "whole.onnx").read_bytes()
    course = random.Random(SEED)
    killed, resumed, longest = 0, 0, 0.0
    for i in range(int(TIMES)):
        checkpoint, model = folder / f"checkpoint{i}", folder / f"{i}.onnx"
        flags = ["--sharded-optimizer"] if i % 2 else []
        kill = kill_one(checkpoint, course, model, *flags)
        if kill:
            killed += 1
            longest = max(longest, kill[2])
        if not model.exists():  # the run did not come so far
            has_saved = (checkpoint / "checkpoint.safetensors").exists()
            resumed += has_saved
            again = ["--resume", checkpoint] if has_saved else []
            finish(start("--checkpoint", checkpoint, *again, "-o", model, *flags))
        assert model.read_bytes() == wanted, f"kill {i} of seed {SEED}: {kill}"
    print(f"{killed} of {TIMES} runs lost a rank, {resumed} were resumed; the others ended within {longest:.1f} s")
    assert killed > 0 and resumed > 0
