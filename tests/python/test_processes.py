"""Threads, forked processes, and what other Python threads do meanwhile."""

import os
import signal
import sys
import threading

import numpy
import pytest

import halfstep
from conftest import compiled


def of_child(compute):
    """Whether compute() is true in a forked process. One that hangs is killed."""
    child = os.fork()
    if child == 0:
        signal.alarm(120)
        try:
            os._exit(0 if compute() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_forked_processes_compute(mlp):
    session = halfstep.Session(mlp.path, threads=2)
    expected = session.run(mlp.x)["output"]
    model = compiled(mlp, threads=2)
    model.fit(mlp.x, mlp.y)
    assert of_child(lambda: numpy.array_equal(session.run(mlp.x)["output"], expected))
    assert of_child(lambda: model.fit(mlp.x, mlp.y, epochs=2).steps == 2)
    assert of_child(lambda: of_child(lambda: numpy.array_equal(session.run(mlp.x)["output"], expected)))
    assert numpy.array_equal(session.run(mlp.x)["output"], expected)
    assert model.fit(mlp.x, mlp.y).steps == 1


CALLS = {
    "plan": lambda step, batch: step.plan(batch),
    "state": lambda step, batch: step.state(),
    "flat_parameters": lambda step, batch: step.flat_parameters(),
    "load_state": lambda step, batch: step.load_state(step.state()),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_other_threads_run_while_one_computes(mlp, call):
    """Without a switch interval only a call that releases the interpreter lets the other thread start."""
    step = halfstep.TrainingStep(mlp.path, "cross_entropy", precision="fp32", executor="reference")
    batch = {"input": mlp.x, "labels": mlp.y}
    ran, go = [], threading.Event()
    interval = sys.getswitchinterval()
    thread = threading.Thread(target=lambda: (go.wait(), ran.append(True)))
    thread.start()
    try:
        sys.setswitchinterval(1e6)
        go.set()
        for _ in range(5000):
            call(step, batch)
            if ran:
                break
        assert ran
    finally:
        sys.setswitchinterval(interval)
        thread.join()


def test_seeds_have_64_bits(mlp):
    model = compiled(mlp, seed=2**64 - 1)
    assert model.fit(mlp.x, mlp.y, batch_size=8).steps == 4
    assert halfstep.TrainingStep(mlp.path, seed=numpy.uint64(2**63)).updates == 0
