"""Ranks that are processes, as mpirun starts them: the communicator, and halfstep train as users call it.

usage: mpirun_test.py PART MPIRUN CHECKS PROGRAM MODELS
PART is a function of this file without its "check_", CHECKS the program of mpi_checks.cpp, MODELS the folder of models.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

PART, MPIRUN, CHECKS, PROGRAM, MODELS = sys.argv[1:]
CASE = pathlib.Path(MODELS) / "zoo" / "lenet-torchscript"
TRAIN = ["train", CASE / "model.onnx", "--data", f"{CASE / 'x.npy'},{CASE / 'y.npy'}", "--val-data",
         f"{CASE / 'x.npy'},{CASE / 'y.npy'}", "--precision", "fp32", "--optimizer", "sgd", "--lr", "0.01",
         "--batch", "6"]  # fmt: skip
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "GOMP_SPINCOUNT": "1000"}  # fmt: skip


# Of the communicator in "leave" and "exit" of CHECKS: who has learnt that a rank has left has not waited for it.
LEAVING_LIMIT = 100


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


def check_communicator(folder):
    for ranks in (2, 4):
        code, out, err = run("-n", ranks, CHECKS)
        assert code == 0 and out.count("is done") == ranks, (code, out, err)
    # The program starts and ends MPI, and is left it to use.
    code, out, err = run("-n", 2, CHECKS, "own")
    assert code == 0 and out.count("is done") == 2 and out.count("second: none") == 2, (code, out, err)
    # An exception that destroys the communicator of one rank ends the other, which waits.
    for mode in ("throw", "between"):
        began = time.monotonic()
        code, out, err = run("-n", 2, CHECKS, mode)
        assert code != 0 and "failed: " in out and time.monotonic() - began < 60, (code, out, err)
    code, out, err = run("-n", 2, CHECKS, "stall")
    assert code == 7 and "all ranks to go on within 0.5 s" in out, (code, out, err)


def check_heartbeat(folder):
    """A rank answers while it computes, and does not where it is stopped."""
    code, out, err = run("-n", 2, CHECKS, "busy")
    assert code == 0 and out.count("is done") == 2, (code, out, err)
    for ranks in (2, 3):
        code, out, err = run("-n", ranks, CHECKS, "freeze")
        assert code == 7 and "a heartbeat from every rank within 2 s, got nothing from rank 1 (" in out, (code, out, err)
    # Where no rank waits its thread tells.
    code, out, err = run("-n", 2, CHECKS, "alone")
    assert code == 9 and "told: " in out and "nothing from rank 1 (" in out, (code, out, err)


def check_sleep(folder):
    """Where all are stopped for longer than the limit nobody is lost."""
    process = start("-n", 2, CHECKS, "sleep")
    for _ in range(2):
        assert "is there" in process.stdout.readline()
    ranks = children_of(process)
    for asked in (signal.SIGSTOP, signal.SIGCONT):
        for rank in ranks:
            os.kill(rank, asked)
        if asked == signal.SIGSTOP:
            assert len(ranks) == 2
            time.sleep(7)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and out.count("is done") == 2, (out, err)


def check_leaving(folder):
    """Who waits for a rank that has left learns it at once, and by name."""
    for ranks in (2, 3):
        for mode in ("leave", "exit"):
            began = time.monotonic()
            code, out, err = run("-n", ranks, CHECKS, mode)
            # mpirun's own code, where it sees the one that left before the others' code.
            assert code in (1, 7) and "expected all ranks to go on, got rank 1 (" in out, (mode, code, out, err)
            assert "), which has left" in out and time.monotonic() - began < LEAVING_LIMIT, (mode, code, out, err)
        for mode in ("after", "leak"):
            code, out, err = run("-n", ranks, CHECKS, mode)
            assert code == 0 and out.count("is done") == ranks, (mode, code, out, err)
    code, out, err = run("-n", 2, CHECKS, "late")
    assert out.count("is done") == 2, (code, out, err)
    code, out, err = run("-n", 2, CHECKS, "fork")
    assert code == 0 and out.count("is done") == 2, (code, out, err)


def check_errors_of_mpi(folder):
    code, out, err = run("-n", 2, CHECKS, "broken")
    assert code == 7 and "rank 1: expected MPI_Irecv to work, got MPI_ERR_OTHER" in out, (code, out, err)
    code, out, err = run("-n", 2, CHECKS, "held")
    assert code == 7 and out.count("memory is untouched") == 2 and "not held" not in out, (code, out, err)


def check_training(folder):
    def train(name, *launch, flags=()):
        log = folder / f"{name}.jsonl"
        arguments = [*TRAIN, "--epochs", "3", "--log", log, "-o", folder / f"{name}.onnx", "--checkpoint", folder / name,
                     *flags]  # fmt: skip
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
    # With a part of the optimizer on each rank: the three ranks' losses, to the bit. With half gradients: nearly.
    sharded, out, err = train("sharded", "-n", 3, flags=["--sharded-optimizer"])
    assert [line["loss"] for line in sharded] == [line["loss"] for line in together], sharded
    half, out, err = train("half", "-n", 2, flags=["--sharded-optimizer", "--gradient-precision", "bf16"])
    for found, wanted in zip(half, alone):
        assert abs(found["loss"] - wanted["loss"]) <= 1e-2 * abs(wanted["loss"]), (found, wanted)
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
    # Limits, by which a rank would be taken for lost by some alone.
    for flag, one, other in (("--heartbeat-timeout", 0, 20), ("--heartbeat-timeout", 20, 0),
                             ("--heartbeat-timeout", 60, 0.5), ("--distributed-timeout", 100, 300)):  # fmt: skip
        code, out, err = run("-n", 1, PROGRAM, *TRAIN, "--epochs", 1, flag, one, ":",
                             "-n", 1, PROGRAM, *TRAIN, "--epochs", 1, flag, other)  # fmt: skip
        assert code == 2 and err.count(f"halfstep: error: expected the same {flag} on all ranks") == 1, (code, out, err)
        assert f"got {one} s on rank 0 and {other} s on rank 1\n" in err, err
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
    # What another launcher leaves starts no MPI.
    torchrun = {**ENVIRONMENT, "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    result = subprocess.run([PROGRAM, *map(str, TRAIN)], env=torchrun, capture_output=True, text=True)
    assert result.returncode == 2 and "expected ranks that were started by mpirun or srun" in result.stderr, result
    assert "got torchrun (RANK=0, WORLD_SIZE=2)" in result.stderr and "--distributed off" in result.stderr, result


def children_of(process):
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in found]


def start_training(checkpoint, *flags):
    """A run of two ranks that has saved a checkpoint, and their processes in order."""
    process = start("-n", 2, PROGRAM, *TRAIN, "--steps", 1000000, "--checkpoint", checkpoint, "--checkpoint-every", 1,
                    *flags)  # fmt: skip
    deadline = time.monotonic() + 120
    while not (checkpoint / "checkpoint.safetensors").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    return process, sorted(children_of(process))


def check_whole(checkpoint):
    code, out, err = run("-n", 2, PROGRAM, *TRAIN, "--steps", 1, "--resume", checkpoint)
    # Nothing but the validation of an epoch may be left, where the run was stopped before it.
    assert code == 0 and ("nothing is left to train" in out + err or " 0 samples/s" in out), (code, out, err)


def check_loss_of_a_rank(folder):
    """A rank that is stopped ends the others, is named once, and what was saved is whole."""
    for victim in (0, 1):
        process, ranks = start_training(folder / f"stopped{victim}", "--heartbeat-timeout", 2)
        os.kill(ranks[victim], signal.SIGSTOP)
        out, err = process.communicate(timeout=300)
        assert process.returncode != 0
        # What mpirun itself says may come in between.
        assert err.count("halfstep: error: ") == err.count(f"got nothing from rank {victim} (") == 1, err
        check_whole(folder / f"stopped{victim}")


def check_loss_as_document(folder):
    process, ranks = start_training(folder / "document", "--heartbeat-timeout", 2, "--json")
    os.kill(ranks[1], signal.SIGSTOP)
    out, err = process.communicate(timeout=300)
    assert process.returncode != 0 and "nothing from rank 1 (" in json.loads(out)["error"]["got"], (out, err)


def check_divergence(folder):
    """All end together, with one message and one document."""
    diverging = ["1e30" if argument == "0.01" else argument for argument in TRAIN]
    code, out, err = run("-n", 2, PROGRAM, *diverging, "--epochs", 50, "--max-skipped", 2, "--json")
    assert code == 1 and err.count("halfstep: error: ") == 1, (code, out, err)
    assert "the first node that went non-finite" in json.loads(out)["error"]["got"], (out, err)


def check_interrupt(folder):
    """Ctrl-C that one process alone gets: all end with the same step, and the model is written."""
    for rank in (0, 1):
        model = folder / f"interrupted{rank}.onnx"
        process, ranks = start_training(folder / f"interrupted{rank}", "-o", model)
        os.kill(ranks[rank], signal.SIGINT)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 130 and "stopped after step " in out, (process.returncode, out, err)
        assert model.exists() and "error" not in err.split("mpirun")[0], err
        check_whole(folder / f"interrupted{rank}")


def check_devices(folder):
    code, out, err = run("-n", 2, PROGRAM, "devices")
    assert code == 0 and "2 ranks on 1 host\n" in out and out.count("--executor auto selects") == 1, (code, out, err)
    code, out, err = run("-n", 2, PROGRAM, "devices", "--json")
    assert code == 0 and len(json.loads(out)["ranks"]) == 2, (code, out, err)
    # What there is on this machine needs no plug-in that works.
    (folder / "libhalfstep-mpi.so").write_text("no library")
    alone = {**ENVIRONMENT, "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2", "HALFSTEP_PLUGIN_PATH": str(folder)}
    result = subprocess.run([PROGRAM, "devices"], env=alone, capture_output=True, text=True)
    assert result.returncode == 0 and "--executor auto selects" in result.stdout, result
    assert "only this machine is described, not where the 2 ranks of mpirun (Open MPI) are" in result.stderr, result


def check_measurements(folder):
    """Numbers are there, whatever they are on this machine."""
    code, out, err = run("-n", 2, PROGRAM, "bench-communication", CASE / "model.onnx", "--batch", 8, "--steps", 3,
                         "--bucket-size", 0.01, "--json")  # fmt: skip
    assert code == 0, (code, out, err)
    report = json.loads(out)
    assert report["ranks"] == 2 and len(report["buckets"]) > 1 and report["communication_ms"] > 0, report
    assert [row["ranks"] for row in report["scaling"]] == [2**i for i in range(11)], report
    assert ["measured_ms" in row for row in report["scaling"]][:3] == [True, True, False], report
    code, out, err = run("-n", 2, PROGRAM, "bench-communication", CASE / "model.onnx", "--batch", 8, "--steps", 1)
    assert code == 0 and "buckets of gradients" in out and "efficiency" in out, (code, out, err)
    code, out, err = run("-n", 1, PROGRAM, "bench-communication", CASE / "model.onnx")
    assert code == 2 and "expected at least two ranks" in err, (code, out, err)

    trace = folder / "trace.json"
    code, out, err = run("-n", 2, PROGRAM, "profile", CASE / "model.onnx", "--training", "--batch", 8, "--steps", 2,
                         "--bucket-size", 0.01, "--trace", trace)  # fmt: skip
    assert code == 0, (code, out, err)
    events = json.loads(trace.read_text())["traceEvents"]
    reductions = [event for event in events if event.get("cat") == "exchange"]
    started = [event for event in events if event["name"].endswith("StartAllReduce")]
    assert len(reductions) == len(started) > 2 and all(event["dur"] > 0 for event in reductions), events
    # Other nodes are computed while they are under way.
    nodes = [event for event in events if event.get("tid") == 1 and event.get("cat") not in (None, "step", "scope")]
    assert any(r["ts"] < node["ts"] < r["ts"] + r["dur"] for r in reductions for node in nodes
               if not node["name"].endswith("AllReduce")), events  # fmt: skip


def check_log(folder):
    log = folder / "times.jsonl"
    code, out, err = run("-n", 2, PROGRAM, *TRAIN, "--epochs", 2, "--log", log)
    assert code == 0, (out, err)
    epochs = [line for line in map(json.loads, log.read_text().splitlines()) if "train" in line]
    assert len(epochs) == 2, epochs
    for epoch in epochs:
        assert len(epoch["ranks"]["ms"]) == len(epoch["ranks"]["waited_ms"]) == 2 and min(epoch["ranks"]["ms"]) > 0, epoch


with tempfile.TemporaryDirectory() as name:
    globals()[f"check_{PART}"](pathlib.Path(name))
