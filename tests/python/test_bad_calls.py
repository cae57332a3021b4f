"""Wrong calls raise and say what was expected; none of them crashes, and what they were made on still works."""

import copy
import os
import pickle
import threading

import numpy
import onnx.parser
import pytest

import halfstep

X, Y = numpy.zeros((4, 784), numpy.float32), numpy.zeros(4, numpy.int64)


@pytest.fixture(scope="module")
def step(mlp):
    return halfstep.TrainingStep(mlp.path, "cross_entropy", precision="fp32")


@pytest.fixture(scope="module")
def session(mlp):
    return halfstep.Session(mlp.path)


@pytest.fixture(scope="module")
def model(mlp):
    made = halfstep.load(mlp.path)
    made.compile("adam", "cross_entropy", metrics=["accuracy"], precision="fp32")
    return made


def batch(**changes):
    made = {"input": X, "labels": Y, **changes}
    return {name: array for name, array in made.items() if array is not None}


STEP = {
    "no inputs": lambda s: s.run(batch(input=None)),
    "no labels": lambda s: s.run(batch(labels=None)),
    "an unknown name": lambda s: s.run(batch(other=X)),
    "another number of columns": lambda s: s.run(batch(input=X[:, :3])),
    "one axis": lambda s: s.run(batch(input=X[0])),
    "other rows than labels": lambda s: s.run(batch(labels=Y[:3])),
    "integers for floats": lambda s: s.run(batch(input=X.astype(numpy.int32))),
    "floats for classes": lambda s: s.run(batch(labels=Y.astype(numpy.float32))),
    "complex numbers": lambda s: s.run(batch(input=X.astype(numpy.complex64))),
    "long doubles": lambda s: s.run(batch(input=X.astype(numpy.longdouble))),
    "text": lambda s: s.run(batch(input=numpy.array([["a"] * 784] * 4))),
    "objects": lambda s: s.run(batch(input=X.astype(object))),
    "None": lambda s: s.run({"input": None, "labels": Y}),
    "a word": lambda s: s.run(batch(input="x")),
    "a list of different lengths": lambda s: s.run(batch(input=[[1.0], [1.0, 2.0]])),
    "a list for a dictionary": lambda s: s.run([X, Y]),
    "None for a dictionary": lambda s: s.run(None),
    "numbers as names": lambda s: s.run({0: X}),
    "a weight that is text": lambda s: s.forward_backward(batch(), weight="x"),
    "an update without gradients": lambda s: s.update(),
    "gradients that are not there": lambda s: s.gradients(),
    "gradients to replace that are not there": lambda s: s.set_gradients({"1.weight": numpy.zeros((128, 784), "f4")}),
    "flat gradients that are not there": lambda s: s.flat_gradients(),
    "no gradient of an output": lambda s: s.backward({"input": X}, {}),
    "a gradient of another output": lambda s: s.backward({"input": X}, {"other": X}),
    "a gradient of another shape": lambda s: s.backward({"input": X}, {"output": X}),
    "integers as a gradient": lambda s: s.backward({"input": X}, {"output": numpy.zeros((4, 10), numpy.int64)}),
    "labels for forward": lambda s: s.forward(batch()),
    "nothing for predict": lambda s: s.predict({}),
    "an unknown parameter": lambda s: s.set_parameters({"other": X}),
    "a parameter of another shape": lambda s: s.set_parameters({"1.bias": numpy.zeros(3, numpy.float32)}),
    "an integer parameter": lambda s: s.set_parameters({"1.bias": numpy.zeros(128, numpy.int64)}),
    "too few flat parameters": lambda s: s.set_flat_parameters(numpy.zeros(3, numpy.float32)),
    "integers as flat parameters": lambda s: s.set_flat_parameters(numpy.zeros(101770, numpy.int64)),
    "an empty state": lambda s: s.load_state({}),
    "a state with another shape": lambda s: s.load_state({**s.state(), "1.bias": numpy.zeros(3, numpy.float32)}),
    "a negative learning rate": lambda s: setattr(s, "learning_rate", -1.0),
    "a learning rate that is no number": lambda s: setattr(s, "learning_rate", float("nan")),
    "a learning rate that is text": lambda s: setattr(s, "learning_rate", "fast"),
    "a loss scale where there is none": lambda s: s.__setattr__("loss_scale", 2.0),
    "an unknown metric": lambda s: s.metrics("speed"),
    "a metric of other labels": lambda s: s.metrics("mae"),
    "metrics of another term": lambda s: s.metrics("accuracy", 3),
    "a negative term": lambda s: s.metrics("accuracy", -1),
    "measuring without metrics": lambda s: s.measure(None, batch()),
    "saving to no folder": lambda s: s.save("/nowhere/there/model.onnx"),
    "saving in another form": lambda s: s.save("model.onnx", form="fast"),
    "saving with other external data": lambda s: s.save("model.onnx", external_data="maybe"),
    "no __init__": lambda s: object.__new__(type(s)).run(batch()),
    "too many arguments": lambda s: s.run(batch(), batch()),
}


@pytest.mark.parametrize("call", STEP.values(), ids=STEP.keys())
def test_of_a_training_step(step, call):
    step.evaluate(batch())
    before = step.flat_parameters()
    with pytest.raises((ValueError, TypeError, RuntimeError, AttributeError)) as raised:
        call(step)
    assert str(raised.value)
    step.forget_gradients()
    numpy.testing.assert_array_equal(step.flat_parameters(), before)
    assert numpy.isfinite(step.evaluate(batch()).loss)


MAKE = {
    "no model": lambda path: halfstep.TrainingStep("/nowhere/model.onnx"),
    "a number as a model": lambda path: halfstep.TrainingStep(3),
    "bytes that are no model": lambda path: halfstep.TrainingStep(b"nothing"),
    "an empty file": lambda path: halfstep.load(b""),
    "an unknown loss": lambda path: halfstep.TrainingStep(path, "entropy_of_mind"),
    "a number as a loss": lambda path: halfstep.TrainingStep(path, 3),
    "a loss of an unknown output": lambda path: halfstep.TrainingStep(path, {"other": "mse"}),
    "no loss of a list": lambda path: halfstep.TrainingStep(path, []),
    "weights without losses": lambda path: halfstep.TrainingStep(path, loss_weights=[1.0]),
    "too many weights": lambda path: halfstep.TrainingStep(path, "mse", loss_weights=[1.0, 2.0]),
    "an unknown optimizer": lambda path: halfstep.TrainingStep(path, optimizer="adamantium"),
    "an unknown precision": lambda path: halfstep.TrainingStep(path, precision="fp8"),
    "a device of the CPU": lambda path: halfstep.Session(path, executor="onednn", device="cuda:0"),
    "a device that is not there": lambda path: halfstep.TrainingStep(path, device="cuda:999"),
    "an unknown executor": lambda path: halfstep.TrainingStep(path, executor="abacus"),
    "an unknown option": lambda path: halfstep.TrainingStep(path, speed=3),
    "nothing to train": lambda path: halfstep.TrainingStep(path, freeze="*"),
    "a pattern that fits nothing": lambda path: halfstep.TrainingStep(path, freeze="other.*"),
    "a batch axis of an unknown input": lambda path: halfstep.TrainingStep(path, batch_axes={"other": 1}),
    "no programs": lambda path: halfstep.TrainingStep(path, programs=0),
    "a negative learning rate": lambda path: halfstep.Adam(-1),
    "a learning rate that is text": lambda path: halfstep.Adam("fast"),
    "a number of another optimizer": lambda path: halfstep.Adam(momentum=0.9),
    "a number out of its range": lambda path: halfstep.Adam(beta1=1.5),
    "half a batch": lambda path: halfstep.Adam(accumulate=0.5),
    "a group of unknown numbers": lambda path: halfstep.Adam(groups=[{"pattern": "*", "numbers": {"momentum": 1}}]),
    "numbers that do not go together": lambda path: halfstep.SGD(nesterov=True),
    "a learning rate twice": lambda path: halfstep.Adam(1e-3, lr=1e-2),
    "a number by both of its names": lambda path: halfstep.Adam(beta1=0.5, beta_1=0.6),
    "numbers by name and as a pair": lambda path: halfstep.Adam(beta1=0.5, betas=(0.9, 0.99)),
    "three numbers as a pair": lambda path: halfstep.Adam(betas=(0.9, 0.99, 0.999)),
    "an ignored label without classes": lambda path: halfstep.Loss("mse", ignore_label=5),
    "Keras' focal loss of probabilities": lambda path: halfstep.Loss("binary_focal_crossentropy"),
    "PyTorch's KLDivLoss": lambda path: halfstep.Loss("KLDivLoss"),
    "a weight of half a class": lambda path: halfstep.TrainingStep(
        path, halfstep.Loss("cross_entropy", class_weight={0.5: 1.0})
    ),
    "a negative seed": lambda path: halfstep.TrainingStep(path, seed=-1),
    "a seed beyond 64 bits": lambda path: halfstep.TrainingStep(path, seed=2**64),
    "no seed": lambda path: halfstep.TrainingStep(path, seed=None),
    "a fractional seed": lambda path: halfstep.TrainingStep(path, seed=0.5),
    "negative threads": lambda path: halfstep.TrainingStep(path, threads=-1),
    "too many threads": lambda path: halfstep.Session(path, threads=100000),
    "a schedule without its numbers": lambda path: halfstep.CosineDecay(),
    "a schedule with other numbers": lambda path: halfstep.CosineDecay(decay_steps=10, speed=1),
    "a schedule out of its range": lambda path: halfstep.CosineDecay(decay_steps=0),
    "an unknown schedule": lambda path: halfstep.Adam(schedule="sawtooth"),
    "a number as a schedule": lambda path: halfstep.Adam(schedule=3),
    "a number that a loss has not": lambda path: halfstep.Loss("mse", label_smoothing=0.1),
    "smoothing out of its range": lambda path: halfstep.Loss("cross_entropy", label_smoothing=2),
    "an unknown reduction": lambda path: halfstep.Loss("mse", reduction="none"),
    "class weights of another loss": lambda path: halfstep.Loss("mse", class_weight=[1.0]),
    "weights of unknown classes": lambda path: halfstep.TrainingStep(
        path, halfstep.Loss("cross_entropy", class_weight={11: 1.0})
    ),
    "a session of nothing": lambda path: halfstep.Session(None),
    "a session of no precision": lambda path: halfstep.Session(path, precision="exact"),
    "converting to fp32": lambda path: halfstep.convert(path, precision="fp32"),
    "converting nothing": lambda path: halfstep.convert("/nowhere/model.onnx"),
    "keeping an unknown input": lambda path: halfstep.convert(path, keep_io_types=["other"]),
    "a bad pattern": lambda path: halfstep.convert(path, keep_fp32="softmax"),
    "an error without data": lambda path: halfstep.convert(path, max_error=1e-3),
    "an error that is no number": lambda path: halfstep.convert(path, calibrate=X, max_error=float("nan")),
    "a negative error": lambda path: halfstep.convert(path, calibrate=X, max_error=-1),
    "a report of another form": lambda path: halfstep.convert(path, report="report.txt"),
    "keeping one unknown input": lambda path: halfstep.convert(path, keep_io_types="other"),
    "calibrating by another name": lambda path: halfstep.convert(path, calibrate={"other": X}),
    "a report of another kind": lambda path: halfstep.convert(path, report="report.pdf"),
    "functions in another way": lambda path: halfstep.convert(path, functions="maybe"),
    "writing to no folder": lambda path: halfstep.convert(path, "/nowhere/there/half.onnx"),
    "inspecting nothing": lambda path: halfstep.inspect("/nowhere/model.onnx"),
    "checking an unknown executor": lambda path: halfstep.check("abacus"),
    "checking nothing": lambda path: halfstep.check("reference", op="Nothing"),
    "an unknown kind of check": lambda path: halfstep.check("reference", kind="speed"),
}


@pytest.mark.parametrize("call", MAKE.values(), ids=MAKE.keys())
def test_of_what_makes_something(mlp, call):
    with pytest.raises((ValueError, TypeError, RuntimeError)) as raised:
        call(mlp.path)
    assert str(raised.value)


class Unused(halfstep.Callback):
    pass


MODEL = {
    "fit without labels": lambda m: m.fit(X),
    "fit with other rows": lambda m: m.fit(X, Y[:3]),
    "fit with no rows": lambda m: m.fit(X[:0], Y[:0]),
    "fit with an unknown input": lambda m: m.fit({"other": X}, Y),
    "fit with two inputs": lambda m: m.fit([X, X], Y),
    "fit with unknown labels": lambda m: m.fit(X, {"other": Y}),
    "a batch of no rows": lambda m: m.fit(X, Y, batch_size=0),
    "a batch of half a row": lambda m: m.fit(X, Y, batch_size=0.5),
    "a negative number of epochs": lambda m: m.fit(X, Y, epochs=-1),
    "half an epoch": lambda m: m.fit(X, Y, epochs=0.5),
    "a class for a callback": lambda m: m.fit(X, Y, callbacks=[Unused]),
    "a number for a callback": lambda m: m.fit(X, Y, callbacks=[3]),
    "a monitor that is not there": lambda m: m.fit(X, Y, callbacks=[halfstep.EarlyStopping()]),
    "a model as the loss of fit": lambda m: m.compile("sgd", loss_model="loss.onnx"),
    "a mode that is not there": lambda m: halfstep.EarlyStopping(mode="up"),
    "sample weights of other rows": lambda m: m.fit(X, Y, sample_weight=numpy.ones(3, numpy.float32)),
    "sample weights of an unknown output": lambda m: m.fit(X, Y, sample_weight={"other": numpy.ones(4, numpy.float32)}),
    "class weights of unknown classes": lambda m: m.fit(X, Y, class_weight={-1: 1.0}),
    "steps of arrays": lambda m: m.fit(X, Y, steps_per_epoch=2),
    "labels beside batches": lambda m: m.fit(iter([]), Y),
    "no batches": lambda m: m.fit([]),
    "batches that are numbers": lambda m: m.fit([1, 2]),
    "batches of too much": lambda m: m.fit([(X, Y, Y, Y)]),
    "what is no data": lambda m: m.fit(3),
    "validation without labels": lambda m: m.fit(X, Y, validation_data=(X,)),
    "an unknown verbosity": lambda m: m.fit(X, Y, verbose="loud"),
    "evaluate without labels": lambda m: m.evaluate(X),
    "evaluate no batches": lambda m: m.evaluate(iter([])),
    "predict another shape": lambda m: m.predict(X[:, :3]),
    "predict nothing": lambda m: m.predict(None),
    "labels that are no class": lambda m: m.evaluate(X, Y + 10),
    "an unknown metric": lambda m: m.compile(metrics=["speed"]),
    "a metric that is a number": lambda m: m.compile(metrics=[3]),
    "an uncompiled model": lambda m: halfstep.Model(m._loaded).fit(X, Y),
    "saving an uncompiled model": lambda m: halfstep.Model(m._loaded).save("model.onnx"),
}


@pytest.mark.parametrize("call", MODEL.values(), ids=MODEL.keys())
def test_of_a_model(model, call):
    with pytest.raises((ValueError, TypeError, RuntimeError)) as raised:
        call(model)
    assert str(raised.value)
    assert numpy.isfinite(model.evaluate(X, Y)["loss"])


SESSION = {
    "no inputs": lambda s: s.run({}),
    "an unknown name": lambda s: s.run({"input": X, "other": X}),
    "another shape": lambda s: s.run({"input": X[:, :3]}),
    "integers": lambda s: s.run({"input": X.astype(int)}),
    "no array": lambda s: s.run({"input": object()}),
    "nothing to plan": lambda s: s.plan({}),
}


@pytest.mark.parametrize("call", SESSION.values(), ids=SESSION.keys())
def test_of_a_session(session, call):
    with pytest.raises((ValueError, TypeError)) as raised:
        call(session)
    assert str(raised.value)
    assert session.run({"input": X})["output"].shape == (4, 10)


CLOSED = {
    "run": lambda s: s.run(batch()),
    "update": lambda s: s.update(),
    "state": lambda s: s.state(),
    "flat_parameters": lambda s: s.flat_parameters(),
    "learning_rate": lambda s: s.learning_rate,
    "parameter_types": lambda s: s.parameter_types,
    "save": lambda s: s.save("model.onnx"),
}


@pytest.mark.parametrize("call", CLOSED.values(), ids=CLOSED.keys())
def test_of_what_was_closed(mlp, call):
    with halfstep.TrainingStep(mlp.path, "cross_entropy") as step:
        assert not step.closed
    assert step.closed
    step.close()
    with pytest.raises(halfstep.InputError, match="closed"):
        call(step)
    session = halfstep.Session(mlp.path)
    session.close()
    with pytest.raises(halfstep.InputError, match="closed"):
        session.run({"input": X})


def test_errors_tell_their_parts(session):
    with pytest.raises(halfstep.InputError) as raised:
        session.run({"input": X[:, :3]})
    error = raised.value
    assert isinstance(error, ValueError) and isinstance(error, halfstep.Error)
    assert "784" in error.expected and "[4, 3]" in error.got and error.hint
    assert str(error).startswith(f"expected {error.expected}, got {error.got}\nHint: ")
    assert not issubclass(halfstep.Error, ValueError) and issubclass(halfstep.Error, RuntimeError)


def test_calls_from_two_threads(mlp):
    """A call while another runs raises; the object works on."""
    step = halfstep.TrainingStep(mlp.path, "cross_entropy", precision="fp32")
    x, y = numpy.zeros((4096, 784), numpy.float32), numpy.zeros(4096, numpy.int64)
    errors, done = [], threading.Event()

    def run():
        for _ in range(10):
            try:
                step.run({"input": x, "labels": y})
            except halfstep.InputError as error:
                errors.append(error)
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    while not done.is_set():
        try:
            step.learning_rate
        except halfstep.InputError as error:
            errors.append(error)
    thread.join()
    assert errors and all("at a time" in error.expected for error in errors)
    assert numpy.isfinite(step.run({"input": x, "labels": y}).loss)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"])
def test_copies_say_what_to_do(step, session, model, copied):
    for one in (step, session, model):
        with pytest.raises(halfstep.InputError, match="to_bytes"):
            copied(one)


NAMES = {
    "a file that is not there": lambda path: halfstep.load(os.fsdecode(b"/nowhere/\xff.onnx")),
    "a folder that is not there": lambda path: halfstep.convert(path, os.fsdecode(b"/nowhere/\xff.onnx")),
    "an array": lambda path: halfstep.Session(path).run({"\udcff": X}),
    "an array, by half of a pair": lambda path: halfstep.Session(path).run({"\ud800": X}),
}


@pytest.mark.parametrize("call", NAMES.values(), ids=NAMES.keys())
def test_names_that_are_no_text(mlp, call):
    with pytest.raises(halfstep.Error) as raised:
        call(mlp.path)
    assert "\udcff" in str(raised.value) or "\\ud800" in str(raised.value)


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (("mpi",), "for backend mpi"),
        (("tcp",), "one of the communicators mpi, nccl, auto, off"),
        (("auto", {"timeout": 0}), "timeout from 0.001 to 1e+09"),
        (("auto", {"timeout": float("nan")}), "timeout from 0.001 to 1e+09"),
        (("auto", {"heartbeat": -1}), "heartbeat from 0 to 1e+06"),
        (("off", {"heartbeat": float("inf")}), "heartbeat from 0 to 1e+06"),
    ],
)
def test_errors_of_ranks_name_the_arguments_of_init(arguments, expected):
    backend, options = (*arguments, {})[:2]
    with pytest.raises(halfstep.InputError) as raised:
        halfstep.distributed.init(backend, **options)
    assert expected in raised.value.expected
    assert "--" not in str(raised.value)


def test_errors_name_arguments_and_not_flags(mlp):
    with pytest.raises(halfstep.InputError) as accumulate:
        halfstep.Adam(accumulate=0)
    with pytest.raises(halfstep.InputError) as axis:
        halfstep.TrainingStep(mlp.path, halfstep.Loss("cross_entropy", class_axis=7)).run(batch())
    with pytest.raises(halfstep.InputError) as unknown:
        halfstep.TrainingStep(mlp.path, "cross_entropy").run(batch(other=X))
    with pytest.raises(halfstep.InputError) as rate:
        halfstep.Adam(schedule=halfstep.LinearDecay(-1.0, decay_steps=10))
    texts = [str(error.value) for error in (accumulate, axis, unknown, rate)]
    assert "accumulate" in texts[0] and "class_axis" in texts[1] and "other" in texts[2]
    assert "correct learning_rate" in texts[3]
    assert not any("--" in text or "LossTerm" in text for text in texts)


BINARY = """
<ir_version: 10, opset_import: ["": 20]> one (float[N,2] x) => (float[N,1] y)
  <float[2,1] w = {0.5,-0.3}> { y = MatMul(x, w) }
"""


@pytest.mark.parametrize(
    "loss, labels, valid",
    [
        ("BCEWithLogitsLoss", [0, 1, 2], False),
        ("BCEWithLogitsLoss", [0, 1, -0.5], False),
        ("BCEWithLogitsLoss", [0, 1, float("nan")], False),
        ("BCEWithLogitsLoss", [0, 0.5, 1], True),
        ("BCEWithLogitsLoss", [0, -100, 1], True),  # ignored
        ("mse", [0, 1, 2], True),
    ],
)
def test_labels_are_probabilities_where_the_loss_needs_them(loss, labels, valid):
    x, y = numpy.ones((3, 2), numpy.float32), numpy.array(labels, numpy.float32).reshape(3, 1)
    step = halfstep.TrainingStep(onnx.parser.parse_model(BINARY), loss, precision="fp32")
    if valid:
        assert numpy.isfinite(step.run({"x": x, "labels": y}).loss)
        return
    for call in (step.run, step.evaluate, step.forward_backward):
        with pytest.raises(halfstep.InputError, match="row 2") as raised:
            call({"x": x, "labels": y})
        assert "from 0 to 1" in raised.value.expected
    with pytest.raises(halfstep.InputError):
        step.gradients()


@pytest.mark.parametrize("weight", [-0.99, float("nan"), float("inf"), 2e30])
def test_sample_weights_out_of_range(model, weight):
    weights = numpy.ones(4, numpy.float32)
    weights[3] = weight
    before = model.step.flat_parameters()
    for call in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(halfstep.InputError, match="row 3"):
            call(X, Y, sample_weight=weights, **({"shuffle": False} if call == model.fit else {}))
    numpy.testing.assert_array_equal(model.step.flat_parameters(), before)
