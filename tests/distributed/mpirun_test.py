"""Ranks that are processes, as mpirun starts them: the communicator, and halfstep train as users call it.

usage: mpirun_test.py MPIRUN CHECKS PROGRAM MODELS
CHECKS is the program of mpi_checks.cpp, MODELS the folder of models.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

MPIRUN, CHECKS, PROGRAM, MODELS = sys.argv[1:]
CASE = pathlib.Path(MODELS) / "zoo" / "lenet-torchscript"
TRAIN = ["train", CASE / "model.onnx", "--data", f"{CASE / 'x.npy'},{CASE / 'y.npy'}", "--val-data",
         f"{CASE / 'x.npy'},{CASE / 'y.npy'}", "--precision", "fp32", "--optimizer", "sgd", "--lr", "0.01",
         "--batch", "6"]  # fmt: skip
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "GOMP_SPINCOUNT": "1000"}  # fmt: skip


def start(*arguments, **options):
    return subprocess.Popen([MPIRUN, "--oversubscribe", *map(str, arguments)], env=ENVIRONMENT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # fmt: skip


def run(*arguments):
    """Exit code, standard output, standard error."""
    process = start(*arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def read_log(path):
    return [line for line in map(json.loads, path.read_text().splitlines()) if "loss" in line and "step" in line]


def check_communicator():
    for ranks in (2, 4):
        code, out, err = run("-n", ranks, CHECKS)
        assert code == 0 and out.count("is done") == ranks, (code, out, err)
    # The program starts and ends MPI, and is left it to use.
    code, out, err = run("-n", 2, CHECKS, "own")
    assert code == 0 and out.count("is done") == 2 and out.count("second: none") == 2, (code, out, err)
    # An exception that destroys the communicator of one rank ends the other, which waits.
    began = time.monotonic()
    code, out, err = run("-n", 2, CHECKS, "throw")
    assert code != 0 and "failed: " in out and time.monotonic() - began < 50, (code, out, err)
    code, out, err = run("-n", 2, CHECKS, "stall")
    assert code == 7 and "all ranks to go on within 0.5 s" in out, (code, out, err)


def check_training(folder):
    def train(name, *launch):
        log = folder / f"{name}.jsonl"
        arguments = [*TRAIN, "--epochs", "3", "--log", log, "-o", folder / f"{name}.onnx", "--checkpoint", folder / name]
        if launch:
            code, out, err = run(*launch, PROGRAM, *arguments)
        else:
            result = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)
            code, out, err = result.returncode, result.stdout, result.stderr
        assert code == 0, (out, err)
        return read_log(log), out, err

    alone, out, err = train("alone")
    assert "ranks " not in out
    for ranks in (2, 3):
        together, out, err = train(f"on{ranks}", "-n", ranks)
        assert len(together) == len(alone) == 9
        for found, wanted in zip(together, alone):
            assert abs(found["loss"] - wanted["loss"]) <= 1e-6 * abs(wanted["loss"]), (ranks, found, wanted)
        # One rank prints and writes.
        assert out.count(f"ranks      {ranks} by mpi") == 1 and out.count("trained model ") == 1, out
        assert "halfstep:" not in err or err.count("halfstep: ") == len(set(err.splitlines())), err
    # On with another number of ranks.
    code, out, err = run("-n", 2, PROGRAM, *TRAIN, "--epochs", 4, "--resume", folder / "on3", "-o", folder / "r.onnx")
    assert code == 0, (out, err)
    assert "resuming with" not in err, err


def check_refusals(folder):
    code, out, err = run("-n", 1, PROGRAM, *TRAIN, "--epochs", 1, "--seed", 1, ":",
                         "-n", 1, PROGRAM, *TRAIN, "--epochs", 1, "--seed", 2)  # fmt: skip
    assert code == 2, (code, out, err)
    assert err.count("halfstep: error: expected the same --seed on all ranks") == 1, err
    assert "1 on rank 0 and 2 on rank 1\n" in err, err
    missing = [*TRAIN[:5], f"{folder / 'missing.npy'},{CASE / 'y.npy'}", *TRAIN[6:]]
    for wrong in ([*TRAIN, "--no-such-flag"], missing):
        code, out, err = run("-n", 3, PROGRAM, *wrong)
        assert code == 2 and err.count("halfstep: error:") == 1, (code, err)
    # Data that only one of them lacks.
    code, out, err = run("-n", 1, PROGRAM, *TRAIN, ":", "-n", 1, PROGRAM, *missing)
    assert code == 2 and "on rank 1" in err and err.count("halfstep: error:") == 1, (code, err)
    # As a document, whichever rank it is.
    code, out, err = run("-n", 1, PROGRAM, *TRAIN, "--json", ":", "-n", 1, PROGRAM, *missing, "--json")
    assert code == 2 and "on rank 1" in json.loads(out)["error"]["got"], (code, out, err)
    # A flag that only one of them was given wrongly.
    code, out, err = run("-n", 1, PROGRAM, *TRAIN, ":", "-n", 1, PROGRAM, *TRAIN, "--no-such-flag")
    assert code != 0 and "--no-such-flag" in err, (code, err)
    # Each by itself.
    code, out, err = run("-n", 2, PROGRAM, *TRAIN, "--epochs", 1, "--distributed", "off")
    assert code == 0 and out.count("model  ") == 2, (out, err)


def children_of(process):
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in found]


def check_loss_of_a_rank(folder):
    """A rank that is killed, or hangs, ends the others, and what was saved is whole."""
    for victim, what in ((0, signal.SIGKILL), (1, signal.SIGKILL), (1, signal.SIGSTOP)):
        checkpoint = folder / f"{what.name}{victim}"
        process = start("-n", 2, PROGRAM, *TRAIN, "--steps", 1000000, "--checkpoint", checkpoint,
                        "--checkpoint-every", 1, "--distributed-timeout", 60 if what == signal.SIGKILL else 5)  # fmt: skip
        deadline = time.monotonic() + 120
        while not (checkpoint / "checkpoint.safetensors").exists():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.05)
        ranks = sorted(children_of(process))
        os.kill(ranks[victim], what)
        out, err = process.communicate(timeout=30)
        assert process.returncode != 0
        if what == signal.SIGSTOP:
            errors = [line for line in err.splitlines() if line.startswith("halfstep: error:")]
            assert len(errors) == 1 and "expected all ranks to go on within 5 s" in errors[0], err
            assert "on rank" not in errors[0], err  # the rank that tells it is not the one that hangs
        code, out, err = run("-n", 2, PROGRAM, *TRAIN, "--steps", 1, "--resume", checkpoint)
        assert code == 0 and "nothing is left to train" in out + err, (code, out, err)


with tempfile.TemporaryDirectory() as name:
    check_communicator()
    check_training(pathlib.Path(name))
    check_refusals(pathlib.Path(name))
    check_loss_of_a_rank(pathlib.Path(name))
