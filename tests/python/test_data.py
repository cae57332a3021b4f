"""What fit, evaluate and predict are given: sources with weights, arrays by output, fixed batches."""

import numpy
import onnx.parser
import pytest

import halfstep
from conftest import compiled

WEIGHTS = numpy.linspace(0, 2, 32, dtype=numpy.float32)


class Rows:
    """Rows by index, from arrays."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, i):
        return tuple(array[i] for array in self.arrays)


def batches(*arrays, size=8):
    return [tuple(array[i : i + size] for array in arrays) for i in range(0, len(arrays[0]), size)]


def weighted(mlp):
    return {
        "batches": batches(mlp.x, mlp.y, WEIGHTS),
        "a function": lambda: iter(batches(mlp.x, mlp.y, WEIGHTS)),
        "rows": Rows(mlp.x, mlp.y, WEIGHTS),
        "dictionaries": [{"input": x, "labels": y, "sample_weights": w} for x, y, w in batches(mlp.x, mlp.y, WEIGHTS)],
        "by output": [(x, y, {"output": w}) for x, y, w in batches(mlp.x, mlp.y, WEIGHTS)],
    }


@pytest.mark.parametrize("kind", ["batches", "a function", "rows", "dictionaries", "by output"])
def test_sources_may_have_weights(mlp, kind):
    source = weighted(mlp)[kind]
    arrays = compiled(mlp)
    expected = arrays.fit(mlp.x, mlp.y, sample_weight=WEIGHTS, batch_size=8, shuffle=False, epochs=2)
    model = compiled(mlp)
    history = model.fit(source, batch_size=8, shuffle=False, epochs=2, validation_data=source)
    assert history.history["loss"] == expected.history["loss"]
    numpy.testing.assert_array_equal(model.step.flat_parameters(), arrays.step.flat_parameters())
    loss = arrays.evaluate(mlp.x, mlp.y, sample_weight=WEIGHTS, batch_size=8)["loss"]
    assert history.history["val_loss"][-1] == pytest.approx(loss, rel=1e-6)
    once = compiled(mlp).evaluate(source, batch_size=8)
    assert once == compiled(mlp).evaluate(mlp.x, mlp.y, sample_weight=WEIGHTS, batch_size=8)
    plain = arrays.evaluate(mlp.x, mlp.y)["loss"]
    assert model.evaluate(batches(mlp.x, mlp.y))["loss"] == pytest.approx(plain, rel=1e-6)


def test_sample_weights_that_the_loss_names(mlp):
    model = compiled(mlp, loss=halfstep.Loss("cross_entropy", sample_weights="importance"))
    source = [{"input": x, "labels": y, "importance": w} for x, y, w in batches(mlp.x, mlp.y, WEIGHTS)]
    loss = compiled(mlp).evaluate(mlp.x, mlp.y, sample_weight=WEIGHTS, batch_size=8)["loss"]
    assert model.evaluate(source)["loss"] == loss
    expected = compiled(mlp).fit(mlp.x, mlp.y, sample_weight=WEIGHTS, batch_size=8, shuffle=False)
    assert model.fit(source).history["loss"] == expected.history["loss"]


def test_arrays_by_the_name_of_the_only_output(mlp):
    model = compiled(mlp, metrics={"output": ["accuracy"]})
    logs = model.evaluate(mlp.x, {"output": mlp.y}, sample_weight={"output": WEIGHTS})
    assert logs["loss"] == model.evaluate(mlp.x, mlp.y, sample_weight=WEIGHTS)["loss"] and "accuracy" in logs
    history = model.fit(mlp.x, {"output": mlp.y}, validation_data=({"input": mlp.x}, {"output": mlp.y}))
    assert {"accuracy", "val_accuracy"} <= history.history.keys()
    inferred = compiled(mlp, loss=None, metrics={"output": ["accuracy"]})
    assert "accuracy" in inferred.evaluate(mlp.x, {"output": mlp.y})


@pytest.mark.parametrize("loss", [None, "cross_entropy", {"output": "cross_entropy"}])
def test_metrics_of_unknown_outputs(mlp, loss):
    with pytest.raises(halfstep.InputError, match="metrics by outputs with a loss: output, got 'nope'"):
        compiled(mlp, loss=loss, metrics={"nope": ["accuracy"]})


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_list_of_few_batches_is_validation_data(mlp, count):
    parts = batches(mlp.x, mlp.y)[:count]
    rows = slice(0, 8 * count)
    model = compiled(mlp)
    value = model.fit(mlp.x, mlp.y, validation_data=parts).history["val_loss"][0]
    assert value == pytest.approx(model.evaluate(mlp.x[rows], mlp.y[rows])["loss"], rel=1e-6)


ADDED = """<ir_version: 10, opset_import: ["": 20]> m (float[4,3] input) => (float[4,2] y)
  <float[3,2] w = {0.1,-0.2, 0.3,0.4, -0.5,0.6}, float[4,2] b = {0,1, 0.5,0, 0,0.25, -1,0}>
  { h = MatMul(input, w) y = Add(h, b) }"""


def test_a_fixed_batch():
    """The model adds one number for each row of a batch of 4, so that it can take no other."""
    model = halfstep.load(onnx.parser.parse_model(ADDED))
    model.compile("sgd", "cross_entropy", precision="fp32")
    x, y = numpy.random.default_rng(2).standard_normal((10, 3), numpy.float32), numpy.arange(10) % 2
    with pytest.warns(UserWarning, match="2 rows are left out") as told:
        assert model.fit(x, y, epochs=1).steps == 2
    with pytest.warns(UserWarning, match="2 rows are left out") as told_again:
        model.evaluate(x, y)
    with pytest.warns(UserWarning, match="2 rows are left out") as told_of_two:
        model.fit(x[:4], y[:4], validation_data=(x, y))
    assert {one.filename for one in (*told, *told_again, *told_of_two)} == {__file__}
    with pytest.raises(halfstep.InputError, match="a batch_size of 4"):
        model.fit(x, y, batch_size=5)
    with pytest.raises(halfstep.InputError, match="a batch_size of 4"):
        model.predict(x, batch_size=5)
    scores = model.predict(x)
    assert scores.shape == (10, 2)
    numpy.testing.assert_array_equal(scores[8:], model.predict(numpy.concatenate([x[8:]] * 2))[:2])


def test_a_model_exported_for_a_batch_takes_others(case):
    """TrainingStep.run does, so all rows count."""
    exported = case("mlp-dynamo")
    assert exported.x.shape[0] == 32
    x, y = numpy.concatenate([exported.x, exported.x[:5]]), numpy.concatenate([exported.y, exported.y[:5]])
    model, free = compiled(exported), compiled(case("mlp-torchscript"))
    history = model.fit(x, y, batch_size=10)
    assert history.steps == 4
    losses = [model.evaluate(x[:5], y[:5])["loss"], model.evaluate(x[5:], y[5:])["loss"]]
    assert model.evaluate(x, y)["loss"] == pytest.approx((5 * losses[0] + 32 * losses[1]) / 37, rel=1e-6)
    assert halfstep.load(exported.path).predict(x).shape == free.predict(x).shape


@pytest.mark.parametrize("kind", ["batches", "a function", "rows", "dictionaries"])
@pytest.mark.parametrize("is_compiled", [True, False])
def test_predict_takes_the_sources_of_evaluate(mlp, kind, is_compiled):
    model = compiled(mlp) if is_compiled else halfstep.load(mlp.path)
    expected = model.predict(mlp.x, batch_size=8)
    numpy.testing.assert_array_equal(model.predict(weighted(mlp)[kind], batch_size=8), expected)
    numpy.testing.assert_array_equal(model.predict(mlp.x.tolist(), batch_size=8), expected)


def test_predict_checks_its_batch_size(mlp):
    for model in (compiled(mlp), halfstep.load(mlp.path)):
        for size in (0, -1, 0.5):
            with pytest.raises(halfstep.InputError, match="batch_size of at least 1"):
                model.predict(mlp.x, batch_size=size)
        with pytest.raises(halfstep.InputError, match="batches to predict"):
            model.predict(iter([]))


@pytest.mark.parametrize(
    "x, got",
    [([[0.0] * 784], "a list of list"), ([1, 2], "a list of int"), ("x.npy", "str"), (None, "NoneType"), (3, "int")],
)
def test_what_is_no_data_is_named(mlp, x, got):
    model = compiled(mlp)
    for call in (lambda: model.fit(x, [0]), lambda: model.evaluate(x, [0]), lambda: model.fit(x)):
        with pytest.raises(halfstep.InputError, match="NumPy arrays") as raised:
            call()
        assert raised.value.got == got


def test_validation_split(mlp):
    model, apart = compiled(mlp), compiled(mlp)
    history = model.fit(mlp.x, mlp.y, validation_split=0.25, batch_size=7, sample_weight=WEIGHTS)
    expected = apart.fit(mlp.x[:24], mlp.y[:24], batch_size=7, sample_weight=WEIGHTS[:24],
                         validation_data=(mlp.x[24:], mlp.y[24:], WEIGHTS[24:]))  # fmt: skip
    assert history.history == expected.history and "val_loss" in history.history
    named = compiled(mlp).fit({"input": mlp.x}, {"output": mlp.y}, validation_split=0.25, batch_size=7,
                              sample_weight={"output": WEIGHTS})  # fmt: skip
    assert named.history == expected.history
    for share in (1, 1.5, -0.5, float("nan"), 0.99, "half"):
        with pytest.raises(halfstep.InputError, match="validation_split"):
            model.fit(mlp.x, mlp.y, validation_split=share)
    with pytest.raises(halfstep.InputError, match="got both"):
        model.fit(mlp.x, mlp.y, validation_split=0.5, validation_data=(mlp.x, mlp.y))
    with pytest.raises(halfstep.InputError, match="arrays for validation_split"):
        model.fit(batches(mlp.x, mlp.y), validation_split=0.5)
    with pytest.raises(halfstep.InputError, match="same number of rows"):
        model.fit(mlp.x, mlp.y[:31], validation_split=0.5)
