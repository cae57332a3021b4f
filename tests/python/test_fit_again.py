"""compile, fit and load_state of a model that was trained before; what callbacks do in between."""

import numpy
import onnx.parser
import pytest

import halfstep
from conftest import compiled


def state_of(model):
    return {name: array.copy() for name, array in model.state().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        numpy.testing.assert_array_equal(one[name], other[name])


FREEZE = [{"freeze": "1.*"}, {"trainable": "3.*"}]


@pytest.mark.parametrize("options", FREEZE)
def test_layers_that_are_frozen_later_keep_what_they_learned(mlp, options, tmp_path):
    model = compiled(mlp, optimizer=halfstep.SGD(0.05))
    model.fit(mlp.x, mlp.y, epochs=3)
    learned, scores, loss = model.parameters(), model.predict(mlp.x), model.evaluate(mlp.x, mlp.y)
    model.compile(halfstep.SGD(0.05), "cross_entropy", precision="fp32", **options)
    assert not any(name.startswith("1.") for name in model.parameters())
    assert model.evaluate(mlp.x, mlp.y)["loss"] == pytest.approx(loss["loss"], rel=1e-6)
    numpy.testing.assert_allclose(model.predict(mlp.x), scores, rtol=1e-5, atol=1e-6)
    model.fit(mlp.x, mlp.y, epochs=2)
    assert model.evaluate(mlp.x, mlp.y)["loss"] < loss["loss"]
    model.save(tmp_path / "whole.onnx")
    for saved in (tmp_path / "whole.onnx", model.to_bytes()):
        numpy.testing.assert_allclose(halfstep.load(saved).predict(mlp.x), model.predict(mlp.x), rtol=1e-5, atol=1e-6)
    head = model.parameters()
    model.compile(halfstep.SGD(0.05), "cross_entropy", precision="fp32")  # thawed
    for name, value in model.parameters().items():
        numpy.testing.assert_array_equal(value, head.get(name, learned[name]))
    model.fit(mlp.x, mlp.y)
    assert (model.parameters()["1.weight"] != learned["1.weight"]).any()


NORMALIZED = """<ir_version: 10, opset_import: ["": 20]> m (float[N,3] input) => (float[N,2] y)
  <float[3] g = {1,2,1}, float[3] o = {0,1,0}, float[3] mean = {0,0,0}, float[3] var = {1,1,1},
   float[3,2] w = {0.1,-0.2, 0.3,0.4, -0.5,0.6}>
  { h = BatchNormalization(input, g, o, mean, var) y = MatMul(h, w) }"""


@pytest.mark.parametrize("options", [{"train_batchnorm": False}, {"freeze": ["g", "o"]}, {"freeze": "w"}, {}])
def test_statistics_are_kept(options):
    x, y = numpy.random.default_rng(4).standard_normal((12, 3), numpy.float32) * 3 + 1, numpy.arange(12) % 2
    model = halfstep.load(onnx.parser.parse_model(NORMALIZED))
    model.compile(halfstep.SGD(0.1), "cross_entropy", precision="fp32")
    model.fit(x, y, epochs=4)
    loss, statistics = model.evaluate(x, y)["loss"], model.step.statistics()
    assert set(statistics) == {"mean", "var"}
    for again in (options, {}):
        model.compile(halfstep.SGD(0.0), "cross_entropy", precision="fp32", **again)
        assert model.evaluate(x, y)["loss"] == pytest.approx(loss, rel=1e-6)
        model.train_on_batch(x, y)
        loss = model.evaluate(x, y)["loss"]
    model.train_on_batch(x, y)
    assert (model.step.statistics()["mean"] != statistics["mean"]).all()


def test_a_state_has_what_was_frozen(mlp):
    model = compiled(mlp, optimizer=halfstep.SGD(0.5))
    model.fit(mlp.x, mlp.y, epochs=3)
    model.compile("adam", "cross_entropy", precision="fp32", freeze="1.*")
    model.fit(mlp.x, mlp.y)
    restored = compiled(mlp, optimizer="adam", freeze="1.*")
    untouched = restored.evaluate(mlp.x, mlp.y)
    restored.load_state(model.state())
    assert restored.evaluate(mlp.x, mlp.y) == model.evaluate(mlp.x, mlp.y) != untouched
    for one in (model, restored):
        one.fit(mlp.x, mlp.y, batch_size=10)
    assert_same(model.state(), restored.state())
    with pytest.raises(halfstep.Error):
        restored.load_state({**model.state(), "halfstep.frozen.1.bias": numpy.zeros(3, numpy.float32)})
    assert restored.evaluate(mlp.x, mlp.y) == model.evaluate(mlp.x, mlp.y)
    with pytest.raises(halfstep.InputError, match="no call of load_state"):
        restored.fit(mlp.x, mlp.y, callbacks=[lambda *_: restored.load_state(compiled(mlp, freeze="1.*").state())])


def test_a_state_goes_on_with_the_epoch(mlp, tmp_path):
    through, before, after = compiled(mlp), compiled(mlp), compiled(mlp)
    through.fit(mlp.x, mlp.y, epochs=2, batch_size=10)
    before.fit(mlp.x, mlp.y, epochs=1, batch_size=10)
    numpy.savez(tmp_path / "state.npz", **before.state())
    after.load_state(numpy.load(tmp_path / "state.npz"))
    assert after.fit(mlp.x, mlp.y, epochs=1, batch_size=10).epoch == [1]
    assert_same(through.state(), after.state())
    # A state of a step, and one that was saved before there was a number of epochs.
    after.load_state(before.step.state())
    assert after.fit(mlp.x, mlp.y, batch_size=10).epoch == [2]
    for bad in (-1, 0.5, [1, 2], "two"):
        with pytest.raises(halfstep.InputError, match="a number of epochs"):
            after.load_state({**before.state(), "halfstep.epochs": numpy.array(bad)})


def test_an_initial_epoch(mlp):
    through, parts = compiled(mlp), compiled(mlp)
    through.fit(mlp.x, mlp.y, epochs=3, batch_size=10)
    parts.fit(mlp.x, mlp.y, epochs=1, batch_size=10)
    step = parts.step.state()
    fresh = compiled(mlp)
    fresh.load_state(step)
    assert fresh.fit(mlp.x, mlp.y, initial_epoch=1, epochs=3, batch_size=10).epoch == [1, 2]
    assert_same(through.state(), fresh.state())
    assert fresh.fit(mlp.x, mlp.y, initial_epoch=3, epochs=3).epoch == []
    for first, epochs in ((4, 3), (-1, 3), (0.5, 3)):
        with pytest.raises(halfstep.InputError, match="initial_epoch"):
            fresh.fit(mlp.x, mlp.y, initial_epoch=first, epochs=epochs)


def test_the_rate_of_the_next_update(mlp):
    schedule = halfstep.LinearDecay(decay_steps=20, warmup_steps=10)
    model = compiled(mlp, optimizer=halfstep.SGD(0.1, schedule=schedule))
    assert model.learning_rate == schedule.at(0, 0.1)
    history = model.fit(mlp.x, mlp.y, batch_size=8)
    assert model.learning_rate == schedule.at(4, 0.1)
    assert history.history["learning_rate"] == pytest.approx([schedule.at(3, 0.1)])


def test_evaluate_is_weighted_by_its_own_arguments(mlp):
    weights = {3: 100.0}
    model = compiled(mlp, optimizer=halfstep.SGD(0.0))
    plain = model.evaluate(mlp.x, mlp.y)
    history = model.fit(mlp.x, mlp.y, class_weight=weights, validation_data=(mlp.x, mlp.y))
    assert model.evaluate(mlp.x, mlp.y) == plain
    by_class = model.evaluate(mlp.x, mlp.y, class_weight=weights)["loss"]
    assert by_class != pytest.approx(plain["loss"], rel=1e-3)
    assert history.history["val_loss"] == pytest.approx([by_class], rel=1e-6)
    assert model.train_on_batch(mlp.x, mlp.y).loss == pytest.approx(plain["loss"], rel=1e-6)
    assert model.train_on_batch(mlp.x, mlp.y, class_weight=weights).loss == pytest.approx(by_class, rel=1e-6)
    assert compiled(mlp).evaluate(mlp.x, mlp.y, class_weight=numpy.ones(10)) == plain


class Ends(halfstep.Callback):
    def __init__(self, seen, name, begin=None, end=None):
        self.seen, self.name, self.begin, self.end = seen, name, begin, end

    def on_train_begin(self):
        if self.begin:
            raise self.begin

    def on_train_end(self):
        self.seen.append(self.name)
        if self.end:
            raise self.end


def test_the_first_exception_is_raised_and_all_callbacks_end(mlp):
    def fail(epoch, logs):
        raise ValueError("the real one")

    model, seen = compiled(mlp), []
    with pytest.warns(UserWarning, match="end of A") as told, pytest.raises(ValueError, match="the real one"):
        model.fit(mlp.x, mlp.y, callbacks=[fail, Ends(seen, "A", end=RuntimeError("end of A")), Ends(seen, "B")])
    assert seen == ["A", "B"] and told[0].filename == __file__
    with pytest.raises(RuntimeError, match="end of C"):
        model.fit(mlp.x, mlp.y, callbacks=[Ends(seen, "C", end=RuntimeError("end of C")), Ends(seen, "D")])
    assert seen[2:] == ["C", "D"]
    with pytest.raises(OSError):
        model.fit(mlp.x, mlp.y, callbacks=[Ends(seen, "E"), Ends(seen, "F", begin=OSError()), Ends(seen, "G")])
    assert seen[4:] == ["E"]  # the others have not begun
    assert model.fit(mlp.x, mlp.y).steps == 1


WITHIN = {
    "compile": lambda m, x, y: m.compile("adam", "cross_entropy"),
    "fit": lambda m, x, y: m.fit(x, y),
    "train_on_batch with other weights": lambda m, x, y: m.train_on_batch(x, y, class_weight={0: 2.0}),
}


@pytest.mark.parametrize("name", WITHIN)
@pytest.mark.parametrize("method", ["on_step", "on_epoch_end"])
def test_what_would_replace_the_step_raises_within_fit(mlp, name, method):
    class Calls(halfstep.Callback):
        pass

    setattr(Calls, method, lambda self, *_: WITHIN[name](self.model, mlp.x, mlp.y))
    model = compiled(mlp)
    with pytest.raises(halfstep.InputError, match=f"no call of {name} within fit"):
        model.fit(mlp.x, mlp.y, callbacks=[Calls()])
    assert model.step.updates == 1
    WITHIN[name](model, mlp.x, mlp.y)  # afterwards it works


def test_callbacks_may_evaluate_and_train(mlp):
    class Calls(halfstep.Callback):
        def on_step(self, step, report):
            self.model.train_on_batch(mlp.x, mlp.y)
            self.model.evaluate(mlp.x, mlp.y, class_weight={0: 2.0})

    model = compiled(mlp)
    model.fit(mlp.x, mlp.y, callbacks=[Calls()])
    assert model.step.updates == 2
