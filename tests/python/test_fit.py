"""compile, fit, evaluate, predict, save."""

import inspect
import threading

import numpy
import onnx
import onnx.parser
import pytest

import halfstep
from conftest import compiled


def test_losses_are_the_frameworks(mlp):
    history = compiled(mlp, metrics=["accuracy"]).fit(mlp.x, mlp.y, epochs=10)
    losses = history.history["loss"]
    assert losses[0] == pytest.approx(mlp.losses[0], rel=1e-5)
    assert losses[9] == pytest.approx(mlp.losses[9], rel=2e-3)
    assert history.steps == 10 and history.skipped == 0 and history.epoch == list(range(10))
    assert history.history["accuracy"][-1] > history.history["accuracy"][0]


def test_fit_is_its_steps(mlp):
    model = compiled(mlp)
    model.fit(mlp.x, mlp.y, epochs=2, batch_size=12, shuffle=False)
    step = halfstep.TrainingStep(mlp.path, "cross_entropy", halfstep.Adam(1e-3), precision="fp32")
    for _ in range(2):
        for first in range(0, 32, 12):  # the last batch has 8 rows
            step.run({"input": mlp.x[first : first + 12], "labels": mlp.y[first : first + 12]})
    numpy.testing.assert_array_equal(model.step.flat_parameters(), step.flat_parameters())


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_same_seed_gives_the_same(mlp, shuffle):
    def train(seed, epochs):
        model = compiled(mlp, seed=seed)
        for count in epochs:
            model.fit(mlp.x, mlp.y, epochs=count, batch_size=10, shuffle=shuffle)
        return model.step.flat_parameters()

    once = train(3, [2])
    numpy.testing.assert_array_equal(once, train(3, [2]))
    numpy.testing.assert_array_equal(once, train(3, [1, 1]))  # epochs go on
    assert (once != train(4, [2])).any() == shuffle


def test_evaluate_is_the_mean_over_all_rows(mlp):
    model = compiled(mlp, metrics="accuracy,top_k:2")
    whole = model.evaluate(mlp.x, mlp.y, batch_size=32)
    parts = model.evaluate(mlp.x, mlp.y, batch_size=5)
    assert parts.keys() == {"loss", "accuracy", "top_k:2"}
    for name in whole:
        assert parts[name] == pytest.approx(whole[name], rel=1e-5)
    ignored = mlp.y.copy()
    ignored[::3] = -100
    counted = ignored != -100
    assert model.evaluate(mlp.x, ignored, batch_size=5)["loss"] == pytest.approx(
        model.evaluate(mlp.x[counted], mlp.y[counted])["loss"], rel=1e-5
    )


def test_rows_of_any_layout(mlp):
    """What is gathered in Python gives the bits of what is gathered in C++."""
    wide = numpy.zeros((len(mlp.x), 2, *mlp.x.shape[1:]), numpy.float32)
    wide[:, 0] = mlp.x
    byte_order, strided = mlp.x.astype(">f4"), wide[:, 0]
    assert not strided.flags.c_contiguous
    results = []
    for x in (mlp.x, byte_order, strided, mlp.x.tolist(), {"input": mlp.x}):
        x = numpy.array(x, numpy.float32) if isinstance(x, list) else x
        model = compiled(mlp)
        model.fit(x, mlp.y, epochs=2, batch_size=7)
        results.append(model.step.flat_parameters())
    for result in results[1:]:
        numpy.testing.assert_array_equal(result, results[0])


def test_a_shuffled_epoch_has_each_row_once(mlp):
    """The loss at a learning rate of 0, batch by batch, is the mean over all rows."""
    model = compiled(mlp, optimizer=halfstep.SGD(0.0))
    whole = model.evaluate(mlp.x, mlp.y)["loss"]
    history = model.fit(mlp.x, mlp.y, epochs=2, batch_size=5)
    assert history.history["loss"] == pytest.approx([whole, whole], rel=1e-5)
    assert history.steps == 14


def test_weights(mlp):
    weights = numpy.linspace(0, 1, 32).astype(numpy.float32)
    model = compiled(mlp)
    scores = model.predict(mlp.x).astype(numpy.float64)
    each = numpy.log(numpy.exp(scores).sum(axis=1)) - scores[numpy.arange(32), mlp.y]
    whole = model.evaluate(mlp.x, mlp.y, sample_weight=weights)["loss"]
    assert whole == pytest.approx((each * weights).sum() / weights.sum(), rel=1e-6)
    assert model.evaluate(mlp.x, mlp.y, sample_weight=weights, batch_size=7)["loss"] == pytest.approx(whole, rel=1e-5)
    history = model.fit(mlp.x, mlp.y, sample_weight=weights, batch_size=32, shuffle=False)
    assert history.history["loss"][0] == pytest.approx(whole, rel=1e-5)
    class_weight = {0: 5.0, 1: 0.5}
    history = compiled(mlp).fit(mlp.x, mlp.y, class_weight=class_weight, batch_size=32)
    numpy_weight = {numpy.int64(c): w for c, w in class_weight.items()}
    by_numpy = compiled(mlp).fit(mlp.x, mlp.y, class_weight=numpy_weight, batch_size=32)
    assert by_numpy.history["loss"] == history.history["loss"]
    of_each = numpy.array([class_weight.get(int(c), 1.0) for c in mlp.y])
    assert history.history["loss"][0] == pytest.approx((each * of_each).sum() / of_each.sum(), rel=1e-4)
    halves = compiled(mlp).fit(mlp.x, mlp.y, class_weight=class_weight, batch_size=16, shuffle=False)
    assert halves.steps == 2


def test_class_weights_that_were_changed_in_place_are_taken(mlp):
    model, weights, losses = compiled(mlp, optimizer=halfstep.SGD(0.0)), numpy.ones(10), []
    for first in (0, 5):
        weights[:first] = 0
        model.fit(mlp.x, mlp.y, class_weight=weights)
        losses.append(model.evaluate(mlp.x, mlp.y, class_weight=weights)["loss"])
    rest = mlp.y >= 5
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
    assert losses[1] == pytest.approx(model.evaluate(mlp.x[rest], mlp.y[rest])["loss"], rel=1e-6)


def test_tables_are_left_out_of_lines(mlp, capsys):
    model = compiled(mlp, metrics=["confusion", "accuracy"])
    history = model.fit(mlp.x, mlp.y, verbose=2)
    assert "accuracy" in capsys.readouterr().err and "accuracy" in repr(history)
    assert history.history["confusion"][0].sum() == len(mlp.y)


def test_a_state_outlives_a_change_of_weights(mlp):
    model = compiled(mlp)
    model.fit(mlp.x, mlp.y, epochs=2)
    before = model.state()
    model.evaluate(mlp.x, mlp.y, sample_weight=numpy.ones(32, numpy.float32))
    after = model.state()
    assert before.keys() == after.keys()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    assert model.step.updates == 2


def test_weights_of_an_evaluation_are_its_own(mlp):
    weights = numpy.linspace(0.5, 2, 32, dtype=numpy.float32)
    plain, weighed = compiled(mlp), compiled(mlp)
    expected = plain.fit(mlp.x, mlp.y, epochs=3, batch_size=8, shuffle=False).history["loss"]
    seen = []
    history = weighed.fit(
        mlp.x, mlp.y, epochs=3, batch_size=8, shuffle=False, validation_data=(mlp.x, mlp.y, weights),
        callbacks=[lambda epoch, logs: seen.append(weighed.evaluate(mlp.x, mlp.y, sample_weight=weights)["loss"])],
    )  # fmt: skip
    assert history.history["loss"] == expected
    assert history.history["val_loss"] == pytest.approx(seen, rel=1e-6)
    assert weighed.step.updates == 12


@pytest.mark.parametrize("dtype", [numpy.float32, numpy.int64])
def test_class_weights_of_binary_labels(dtype):
    model = halfstep.load(onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 20]> one (float[N,4] x) => (float[N,1] y)
        <float[4,1] w = {0.5,-0.3,0.2,0.9}> { h = MatMul(x, w) y = Sigmoid(h) }"""))  # fmt: skip
    model.compile("sgd", "binary_cross_entropy", precision="fp32")
    model.step.learning_rate = 0
    x = numpy.random.default_rng(3).standard_normal((64, 4), numpy.float32)
    y = (numpy.arange(64) % 3 == 0).astype(dtype).reshape(64, 1)
    whole = model.fit(x, y, class_weight=[1, 10], batch_size=64, shuffle=False).history["loss"][0]
    parts = model.fit(x, y, class_weight=[1, 10], batch_size=8, shuffle=False).history["loss"][0]
    assert parts == pytest.approx(whole, rel=1e-5)


def test_the_loss_of_a_term_without_labels_is_left_out(two_outputs):
    x = numpy.random.default_rng(5).standard_normal((8, 4), numpy.float32)
    y = {"scores": numpy.full(8, -100), "value": numpy.ones((8, 1), numpy.float32)}
    model = halfstep.load(two_outputs)
    losses = {"scores": halfstep.Loss("softmax_cross_entropy", ignore_label=-100), "value": "mean_squared_error"}
    model.compile("sgd", losses, metrics=[], precision="fp32")
    logs = model.evaluate(x, y)
    assert logs["loss"] == pytest.approx(logs["value_loss"])


def test_accumulated_batches_without_progress_raise(mlp):
    model = compiled(mlp, optimizer=halfstep.Adam(1e-3, accumulate=4))
    with pytest.raises(halfstep.Error, match="in a row"):
        model.fit(numpy.full_like(mlp.x, numpy.nan), mlp.y, epochs=300, batch_size=8)
    assert model.history.skipped == 50


def batches_of(case, size=8):
    return [(case.x[i : i + size], case.y[i : i + size]) for i in range(0, 32, size)]


@pytest.mark.parametrize(
    "make",
    [
        lambda case: batches_of(case),
        lambda case: lambda: iter(batches_of(case)),
        lambda case: [{"input": x, "labels": y} for x, y in batches_of(case)],
        lambda case: [[x, y] for x, y in batches_of(case)],
    ],
    ids=["list", "function", "dictionaries", "lists"],
)
def test_batches_of_ones_own(mlp, make):
    model = compiled(mlp)
    history = model.fit(make(mlp), epochs=2, validation_data=make(mlp))
    rows = compiled(mlp)
    rows.fit(mlp.x, mlp.y, epochs=2, batch_size=8, shuffle=False)
    assert history.steps == 8 and "val_loss" in history.history
    numpy.testing.assert_array_equal(model.step.flat_parameters(), rows.step.flat_parameters())


class RowsByIndex:
    """What a torch Dataset is: rows by their index, each made by `row`."""

    def __init__(self, case, row):
        self.case, self.row, self.asked = case, row, []

    def __len__(self):
        return len(self.case.x)

    def __getitem__(self, i):
        if not 0 <= i < len(self):
            raise IndexError(i)
        self.asked.append(i)
        return self.row(self.case.x[i], self.case.y[i])


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(
    "row",
    [
        lambda x, y: (x, y),
        lambda x, y: [x, int(y)],
        lambda x, y: ({"input": x.tolist()}, numpy.array(y)),
        lambda x, y: {"input": x, "labels": y},
    ],
    ids=["pairs", "lists", "inputs by name", "dictionaries"],
)
def test_rows_by_index(mlp, row, shuffle):
    source = RowsByIndex(mlp, row)
    model = compiled(mlp, seed=5, metrics=["accuracy"])
    history = model.fit(source, epochs=2, batch_size=12, shuffle=shuffle, validation_data=RowsByIndex(mlp, row))
    assert history.steps == 6 and len(source.asked) == 64
    assert all(sorted(source.asked[i : i + 32]) == list(range(32)) for i in (0, 32))
    assert (source.asked[:32] != source.asked[32:]) == shuffle
    arrays = compiled(mlp, seed=5, metrics=["accuracy"])
    arrays.fit(mlp.x, mlp.y, epochs=2, batch_size=12, shuffle=shuffle)
    numpy.testing.assert_array_equal(model.step.flat_parameters(), arrays.step.flat_parameters())
    assert model.evaluate(source) == arrays.evaluate(mlp.x, mlp.y)
    assert history.history["val_loss"][-1] == pytest.approx(model.evaluate(mlp.x, mlp.y)["loss"], rel=1e-6)


def test_rows_by_index_that_are_wrong(mlp):
    model = compiled(mlp)
    pairs = RowsByIndex(mlp, lambda x, y: (x, y))
    with pytest.raises(halfstep.InputError, match="labels and weights themselves"):
        model.fit(pairs, mlp.y)
    with pytest.raises(halfstep.InputError, match="steps_per_epoch"):
        model.fit(pairs, steps_per_epoch=2)
    uneven = RowsByIndex(mlp, lambda x, y: (x[: 784 - int(y)], y))
    with pytest.raises(halfstep.InputError, match="of the types of row"):
        model.fit(uneven)
    with pytest.raises(halfstep.InputError, match="labels y"):
        model.fit(RowsByIndex(mlp, lambda x, y: x))
    with pytest.raises(halfstep.InputError, match="at least one row"):
        model.fit(type("None", (), {"__len__": lambda s: 0, "__getitem__": lambda s, i: 1})())

    def broken(x, y):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        model.fit(RowsByIndex(mlp, broken))


def test_steps_per_epoch(mlp):
    def endless():
        while True:
            yield from batches_of(mlp)

    history = compiled(mlp).fit(endless(), epochs=3, steps_per_epoch=5)
    assert history.steps == 15 and len(history.epoch) == 3
    history = compiled(mlp).fit(batches_of(mlp), epochs=2, steps_per_epoch=3)
    assert history.steps == 6
    with pytest.raises(halfstep.InputError, match="ends once"):
        compiled(mlp).fit(iter(batches_of(mlp)), epochs=2)


def test_several_outputs(two_outputs, two_data):
    x, y = two_data
    model = halfstep.load(two_outputs)
    model.compile(
        halfstep.Adam(1e-2),
        loss={"scores": "cross_entropy", "value": "mse"},
        loss_weights={"scores": 1.0, "value": 0.2},
        metrics={"scores": ["accuracy"], "value": ["mae"]},
        precision="fp32",
    )
    history = model.fit(x, y, epochs=20, batch_size=10, validation_data=(x, y))
    last = {name: values[-1] for name, values in history.history.items()}
    assert {"scores_loss", "value_loss", "scores_accuracy", "value_mae", "val_value_mae"} <= last.keys()
    assert last["val_loss"] == pytest.approx(last["val_scores_loss"] + 0.2 * last["val_value_loss"], rel=1e-5)
    assert history.history["loss"][-1] < history.history["loss"][0]
    outputs = model.predict(x, batch_size=7)
    assert outputs["scores"].shape == (24, 3) and outputs["value"].shape == (24, 1)
    weights = {"value": numpy.zeros(24, numpy.float32)}
    assert model.evaluate(x, y, sample_weight=weights)["value_loss"] != last["val_value_loss"]


OWN_LOSS = """
<ir_version: 10, opset_import: ["": 20]>
own (float[N,3] x, float[N,1] labels) => (float loss)
<float[3,1] w = {0.1,-0.2,0.3}>
{
  y = MatMul(x, w)
  d = Sub(y, labels)
  s = Mul(d, d)
  loss = ReduceMean<keepdims=0>(s)
}
"""


def test_a_loss_that_the_model_computes():
    random = numpy.random.default_rng(1)
    x, t = random.standard_normal((20, 3), numpy.float32), random.standard_normal((20, 1), numpy.float32)
    model = halfstep.load(onnx.parser.parse_model(OWN_LOSS))
    model.compile(halfstep.SGD(0.1), loss="output", precision="fp32")
    before = model.evaluate({"x": x, "labels": t})
    w = numpy.array([[0.1], [-0.2], [0.3]], numpy.float32)
    assert before == {"loss": pytest.approx(((x @ w - t) ** 2).mean(), rel=1e-5)}
    history = model.fit({"x": x, "labels": t}, epochs=30, batch_size=10)
    assert history.history["loss"][-1] < before["loss"]
    assert model.evaluate([{"x": x, "labels": t}])["loss"] < before["loss"]


def test_predict_and_save(mlp, tmp_path):
    model = halfstep.load(mlp.path.read_bytes())
    untrained = model.predict(mlp.x, batch_size=9)
    model.compile(loss="cross_entropy", precision="fp32")
    numpy.testing.assert_allclose(model.predict(mlp.x), untrained, rtol=1e-5, atol=1e-6)
    model.fit(mlp.x, mlp.y, epochs=3)
    model.save(tmp_path / "trained.onnx")
    expected = model.predict(mlp.x)
    for saved in (tmp_path / "trained.onnx", model.to_bytes(), onnx.load(tmp_path / "trained.onnx")):
        numpy.testing.assert_allclose(halfstep.load(saved).predict(mlp.x), expected, rtol=1e-5, atol=1e-6)


def test_a_schedule_counts_updates(mlp):
    schedule = halfstep.ExponentialDecay(decay_steps=1, decay_rate=0.5)
    model = compiled(mlp, optimizer=halfstep.SGD(0.1, schedule=schedule))
    history = model.fit(mlp.x, mlp.y, epochs=3, batch_size=16)
    # After two updates an epoch the last rate is that of one update less.
    assert history.history["learning_rate"] == pytest.approx([0.05, 0.0125, 0.003125])
    assert schedule.at(3, 0.1) == pytest.approx(0.0125)


def test_compile_takes_the_options_of_a_step(mlp):
    own, of_step = (inspect.signature(f).parameters for f in (halfstep.Model.compile, halfstep.TrainingStep))
    assert set(of_step) - {"model", "loss_model"} <= set(own)
    assert all(own[name].default == of_step[name].default for name in own if name in of_step)
    model = halfstep.load(mlp.path)
    model.compile("sgd", "cross_entropy", freeze="1.*", precision="fp32")
    assert not any(name.startswith("1.") for name, _, _ in model.step.parameter_types)
    with pytest.raises(TypeError, match="speed"):
        model.compile("sgd", "cross_entropy", speed=3)


def test_compiling_again_keeps_what_was_learned(mlp):
    model = compiled(mlp)
    model.fit(mlp.x, mlp.y, epochs=3)
    learned = model.step.flat_parameters()
    model.compile("sgd", "cross_entropy", precision="fp32")
    numpy.testing.assert_array_equal(model.step.flat_parameters(), learned)
    assert model.step.updates == 0


def test_a_schedule_may_be_written_as_in_keras():
    schedule = halfstep.ExponentialDecay(1e-3, 1000, 0.9, staircase=True)
    assert schedule.at(1500, 5) == pytest.approx(9e-4)
    assert halfstep.CosineDecay(decay_steps=10).at(0, 0.5) == 0.5
    for call in (
        lambda: halfstep.ExponentialDecay(1e-3, 1000, 0.9, True, 7),
        lambda: halfstep.ExponentialDecay(1e-3, 1000, decay_steps=1000, decay_rate=0.9),
        lambda: halfstep.ExponentialDecay("fast", 1000, 0.9),
        lambda: halfstep.ExponentialDecay(1e-3),
    ):
        with pytest.raises(halfstep.InputError):
            call()


def test_accumulation(mlp):
    model = compiled(mlp, optimizer=halfstep.Adam(1e-3, accumulate=4))
    history = model.fit(mlp.x, mlp.y, epochs=2, batch_size=8, shuffle=False)
    assert model.step.updates == 2 and history.skipped == 0
    whole = compiled(mlp)
    whole.fit(mlp.x, mlp.y, epochs=2, batch_size=32, shuffle=False)
    numpy.testing.assert_allclose(model.step.flat_parameters(), whole.step.flat_parameters(), rtol=1e-3, atol=1e-5)


def test_training_that_gets_nowhere_raises(mlp):
    x = mlp.x.copy()
    x[:] = numpy.nan
    model = compiled(mlp)
    before = model.step.flat_parameters()
    with pytest.raises(halfstep.Error, match="in a row") as raised:
        model.fit(x, mlp.y, epochs=100)
    assert not isinstance(raised.value, halfstep.InputError)
    assert model.history.skipped == 50
    numpy.testing.assert_array_equal(model.step.flat_parameters(), before)


def test_skipped_updates_are_counted(mlp):
    x = mlp.x.copy()
    x[:8] = numpy.inf
    history = compiled(mlp, metrics=[]).fit(x, mlp.y, epochs=2, batch_size=8, shuffle=False)
    assert history.skipped == 2 and history.steps == 8


def test_two_threads_on_one_model(case):
    """One of them gets an error; nothing crashes, and the model works afterwards."""
    lenet = case("lenet-torchscript")
    model = compiled(lenet)
    x, y = numpy.concatenate([lenet.x] * 8), numpy.concatenate([lenet.y] * 8)
    outcomes = []

    def train():
        try:
            model.fit(x, y, epochs=5, batch_size=128)
            outcomes.append("done")
        except halfstep.InputError as error:
            outcomes.append(error.got)

    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4 and set(outcomes) <= {"done", "a call while another runs"}
    assert "a call while another runs" in outcomes
    assert numpy.isfinite(model.evaluate(x, y)["loss"])
