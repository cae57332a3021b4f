"""The Python package on ranks, which mpirun starts, against a process by itself.

usage: python_test.py MPIRUN MODELS PLUGINS
PLUGINS is the folder of the plug-in for MPI. The ranks run this script with the argument "rank".
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy


def fit(ranks, case):
    """Losses and metrics of two epochs, of the evaluation, and the parameters."""
    import halfstep

    x, y = numpy.load(case / "x.npy"), numpy.load(case / "y.npy")
    model = halfstep.load(case / "model.onnx")
    model.compile(halfstep.SGD(0.05), "cross_entropy", ["accuracy"], precision="fp32", threads=1, ranks=ranks)
    history = model.fit(x, y, epochs=2, batch_size=7, validation_data=(x, y), verbose=0)
    numbers = [value for name in sorted(history.history) for value in history.history[name]]
    numbers += list(model.evaluate(x, y).values())
    return numbers, {name: values.ravel()[:5].tolist() for name, values in model.parameters().items()}


def stop(ranks, case):
    """The number of steps of a run that a callback of rank 1 ends."""
    import halfstep

    class Stop(halfstep.Callback):
        def on_step(self, step, report):
            if step == 1 and halfstep.distributed.rank() == 1:
                self.model.stop_training = "enough"

    x, y = numpy.load(case / "x.npy"), numpy.load(case / "y.npy")
    model = halfstep.load(case / "model.onnx")
    model.compile("sgd", "cross_entropy", precision="fp32", threads=1, ranks=ranks)
    return model.fit(x, y, epochs=5, batch_size=3, callbacks=[Stop()], verbose=0).steps


def step(ranks, case):
    """Losses of steps with rows of the caller's."""
    import halfstep

    x, y = numpy.load(case / "x.npy"), numpy.load(case / "y.npy")
    own = slice(None) if ranks is None else slice(ranks.rank, None, ranks.size)
    model = halfstep.load(case / "model.onnx")
    with halfstep.TrainingStep(model, "cross_entropy", "sgd", "fp32", threads=1, ranks=ranks) as this:
        batch = {model.inputs[0][0]: x[own], "labels": y[own]}
        return [this.run(batch).loss for _ in range(3)]


def near(a, b):
    return numpy.allclose(a, b, rtol=2e-6, atol=1e-7)


def rank(case, mode):
    import halfstep

    ranks = halfstep.distributed.init(timeout=60)
    assert ranks is halfstep.distributed.init() and ranks.size == halfstep.distributed.size()
    assert ranks.rank == halfstep.distributed.rank() and ranks.any(ranks.rank == 1)
    if mode == "throw":
        ranks.barrier()
        if ranks.rank == 1:
            raise RuntimeError("bad data")
        ranks.barrier()
        ranks.barrier()
    numbers, parameters = fit(ranks, case)
    result = {"fit": numbers, "parameters": parameters, "steps": stop(ranks, case), "step": step(ranks, case)}
    sys.stdout.write(json.dumps(result) + "\n")


def main(mpirun, models, plugins):
    case = pathlib.Path(models) / "zoo" / "mlp-torchscript"
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "HALFSTEP_PLUGIN_PATH": plugins}  # fmt: skip

    def run(ranks, mode):
        command = [mpirun, "--oversubscribe", "-n", str(ranks), sys.executable, "-B", __file__, "rank", str(case), mode]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    numbers, parameters = fit(None, case)
    for ranks in (2, 3):
        result = run(ranks, "train")
        assert result.returncode == 0, result
        lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
        assert len(lines) == ranks and all(line == lines[0] for line in lines), result.stdout
        assert near(lines[0]["fit"], numbers), (lines[0]["fit"], numbers)
        assert all(near(lines[0]["parameters"][name], values) for name, values in parameters.items())
        assert lines[0]["steps"] == 2, lines[0]
        assert near(lines[0]["step"], step(None, case)), lines[0]
    result = run(2, "throw")
    assert result.returncode != 0 and "RuntimeError: bad data" in result.stderr, result


if sys.argv[1] == "rank":
    rank(pathlib.Path(sys.argv[2]), sys.argv[3])
else:
    main(*sys.argv[1:])
