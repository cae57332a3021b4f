"""The Python package on ranks, which mpirun starts, against a process by itself.

usage: python_test.py MPIRUN MODELS PLUGINS
PLUGINS is the folder of the plug-in for MPI. The ranks run this script with the argument "rank".
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

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


NORMALIZED = """<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 2] y)
  <float[2] g = {1, 1}, float[2] o = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, 1},
   float[2, 2] w = {0.5, -1, 0.25, 1}>
  { n = BatchNormalization(x, g, o, m, v) y = MatMul(n, w) }"""


def small(ranks, **options):
    """A model with BatchNormalization, and rows for it."""
    import halfstep
    import onnx.parser

    model = halfstep.load(onnx.parser.parse_model(NORMALIZED))
    options = {"precision": "fp32", **options}
    model.compile(halfstep.Adam(0.05), "cross_entropy", ["accuracy", "confusion"], threads=1, ranks=ranks, **options)
    x = (numpy.arange(40, dtype=numpy.float32).reshape(20, 2) * 7 % 11 - 5) / 4
    return model, x, numpy.arange(20) % 3 % 2


def validate(ranks):
    """Losses and tables of validations, whose statistics are those of rank 0, and then all statistics."""
    model, x, y = small(ranks)
    history = model.fit(x, y, epochs=2, batch_size=7, validation_data=(x, y), verbose=0).history
    weighted = model.evaluate(x, y, sample_weight=numpy.ones(20, numpy.float32))["loss"]
    statistics = model.step.statistics()
    return [
        history["val_loss"],
        weighted,
        [table.tolist() for table in history["confusion"] + history["val_confusion"]],
        [values.tolist() for name, values in sorted(statistics.items())],
    ]


def tables(ranks):
    """The confusion matrix of an evaluation."""
    model, x, y = small(ranks)
    return model.evaluate(x, y, batch_size=6)["confusion"].tolist()


def uneven(ranks, make):
    """The number of steps of two epochs, of batches of which the first rank has three and the others more."""
    model, x, y = small(ranks)
    count = 3 + 2 * ranks.rank
    return model.fit(make([(x[i : i + 3], y[i : i + 3]) for i in range(count)]), epochs=2, verbose=0).steps


def weighted(ranks):
    """Losses of batches with weights, which all ranks have, and of an evaluation of all of them."""
    model, x, y = small(ranks, train_batchnorm=False)
    weights = numpy.linspace(0.5, 2, 20).astype(numpy.float32)
    own = slice(None) if ranks is None else slice(ranks.rank, None, ranks.size)
    source = [(x[own], y[own], weights[own])]
    history = model.fit(source, epochs=2, shuffle=False, verbose=0)
    return history.history["loss"] + [model.evaluate(source)["loss"], model.evaluate([(x[own], y[own])])["loss"]]


def no_batch(ranks):
    """What each rank raises where one has nothing to evaluate."""
    import halfstep

    model, x, y = small(ranks)
    try:
        model.evaluate([(x, y)] if ranks.rank == 0 else [])
    except halfstep.InputError as error:
        return str(error)


def overflow(ranks, precision):
    """Whether steps update, and their loss scales, where rows of the last rank overflow in the first one."""
    model, x, y = small(ranks, precision=precision, loss_scale=1024.0)
    own = slice(ranks.rank, None, ranks.size)
    reports = []
    for i in range(3):
        batch = x[own].copy()
        if i == 0 and ranks.rank == ranks.size - 1:
            batch[0] = numpy.inf
        reports.append(model.train_on_batch(batch, y[own]))
    changed = model.step.flat_parameters()
    return [[r.updated, r.gradients_finite, r.loss_scale] for r in reports], bool(numpy.isfinite(changed).all())


def options_of_ranks(ranks, case):
    """Losses of steps, and the keys of a state, with a part of the optimizer and halves for gradients."""
    import halfstep

    x, y = numpy.load(case / "x.npy"), numpy.load(case / "y.npy")
    own = slice(ranks.rank, None, ranks.size)
    losses, states = [], []
    for options in ({}, {"sharded_optimizer": True}, {"sharded_optimizer": True, "gradient_precision": "bf16"}):
        with halfstep.TrainingStep(
            case / "model.onnx", "cross_entropy", "adam", "fp32", threads=1, ranks=ranks, **options
        ) as this:
            losses.append([this.run({"input": x[own], "labels": y[own]}).loss for _ in range(4)])
            states.append(sorted(name for name in this.state() if not name.startswith("gradient_residual.")))
    return losses, states


def near(a, b):
    return numpy.allclose(a, b, rtol=2e-6, atol=1e-7)


def rank(case, mode, folder):
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
    result = {
        "fit": numbers,
        "parameters": parameters,
        "steps": stop(ranks, case),
        "step": step(ranks, case),
        "validate": validate(ranks),
        "tables": tables(ranks),
        "uneven": [uneven(ranks, make) for make in (list, lambda batches: lambda: iter(batches))],
        "weighted": weighted(ranks),
        "no batch": no_batch(ranks),
        "overflow": [overflow(ranks, precision) for precision in ("fp16", "bf16")],
        "options": options_of_ranks(ranks, case),
    }
    (folder / f"{ranks.rank}.json").write_text(json.dumps(result))  # mpirun mixes what ranks print


def main(mpirun, models, plugins):
    case = pathlib.Path(models) / "zoo" / "mlp-torchscript"
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "HALFSTEP_PLUGIN_PATH": plugins}  # fmt: skip

    def run(ranks, mode, folder):
        command = [mpirun, "--oversubscribe", "-n", str(ranks), sys.executable, "-B", __file__, "rank", str(case), mode,
                   folder]  # fmt: skip
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    numbers, parameters = fit(None, case)
    for ranks in (2, 3):
        with tempfile.TemporaryDirectory() as folder:
            result = run(ranks, "train", folder)
            assert result.returncode == 0, result
            lines = [json.loads((pathlib.Path(folder) / f"{rank}.json").read_text()) for rank in range(ranks)]
        assert all(line == lines[0] for line in lines), lines
        assert near(lines[0]["fit"], numbers), (lines[0]["fit"], numbers)
        assert all(near(lines[0]["parameters"][name], values) for name, values in parameters.items())
        assert lines[0]["steps"] == 2, lines[0]
        assert near(lines[0]["step"], step(None, case)), lines[0]
        assert lines[0]["tables"] == tables(None), lines[0]
        assert lines[0]["uneven"] == [6, 6], lines[0]
        assert near(lines[0]["weighted"], weighted(None)), lines[0]["weighted"]
        assert result.stderr.count("ranks have different numbers of batches") == 1, result.stderr
        assert "batches to evaluate on each rank" in lines[0]["no batch"]
        skipped, good = [False, False, 1024], [True, True, 512]
        assert lines[0]["overflow"] == [[[skipped, good, good], True]] * 2, lines[0]["overflow"]
        losses, states = lines[0]["options"]
        assert losses[1] == losses[0] and states[1] == states[2] == states[0]
        assert losses[2] != losses[0] and numpy.allclose(losses[2], losses[0], rtol=1e-2)
    result = run(2, "throw", ".")
    assert result.returncode != 0 and "RuntimeError: bad data" in result.stderr, result


if sys.argv[1] == "rank":
    rank(pathlib.Path(sys.argv[2]), sys.argv[3], pathlib.Path(sys.argv[4]))
else:
    main(*sys.argv[1:])
