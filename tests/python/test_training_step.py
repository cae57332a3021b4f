"""Steps one by one: against the zoo's losses, by hand, and against each other."""

import numpy
import onnx.parser
import pytest

import halfstep

CASES = ["mlp-torchscript", "lenet-torchscript", "mlp-keras", "mlp-dynamo"]


def optimizer_of(expected):
    numbers = {key: expected[key] for key in ("momentum", "weight_decay") if key in expected}
    made = halfstep.optimizers.as_optimizer(expected["optimizer"])
    return type(made)(expected["lr"], **numbers)


def names(step, case, model):
    return {model.inputs[0][0]: case.x, "labels": case.y}


@pytest.mark.parametrize("name", CASES)
def test_losses_are_the_frameworks(case, name):
    this = case(name)
    model = halfstep.load(this.path)
    step = halfstep.TrainingStep(
        model, loss=this.expected["loss"], optimizer=optimizer_of(this.expected), precision="fp32"
    )
    found = [step.run(names(step, this, model)).loss for _ in range(10)]
    assert found[0] == pytest.approx(this.losses[0], rel=1e-5)
    assert found[9] == pytest.approx(this.losses[9], rel=2e-3)
    assert step.updates == 10


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_follows(mlp, precision):
    with halfstep.TrainingStep(mlp.path, optimizer=halfstep.Adam(1e-3), precision=precision) as step:
        found = [step.run({"input": mlp.x, "labels": mlp.y}).loss for _ in range(10)]
        assert step.precision == precision
        assert step.loss_scale == (65536 if precision == "fp16" else 1)
    assert found[9] == pytest.approx(mlp.losses[9], rel=0.05)


def test_auto_measures_with_tuning(mlp, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    [device] = [each for each in halfstep.devices()["executors"] if each["name"] == "onednn"]
    is_measured = any(half in device["native"]["matmul"] for half in ("bf16", "f16"))
    batch = {"input": mlp.x, "labels": mlp.y}
    with halfstep.TrainingStep(mlp.path, executor="onednn", tune="fast") as step:
        assert step.precision == device["auto_precision"]
        found = [step.run(batch).loss for _ in range(3)]
        notices = [notice for notice in step.notices if f"precision {step.precision}, measured" in notice]
        assert len(notices) == is_measured and not any("--" in notice for notice in step.notices)
        precision = step.precision
    with halfstep.TrainingStep(mlp.path, executor="onednn", tune="fast", precision=precision) as step:
        assert [step.run(batch).loss for _ in range(3)] == found
        assert not any("measured" in notice for notice in step.notices)


def test_forward_backward_and_update_are_run(mlp):
    batch = {"input": mlp.x, "labels": mlp.y}
    one = halfstep.TrainingStep(mlp.path, "cross_entropy", "adam", precision="fp32")
    other = halfstep.TrainingStep(mlp.path, "cross_entropy", "adam", precision="fp32")
    for _ in range(3):
        whole = one.run(batch)
        parts = other.forward_backward(batch)
        assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
        assert parts.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-5)
        assert not parts.updated and other.update().updated
    numpy.testing.assert_allclose(one.flat_parameters(), other.flat_parameters(), rtol=1e-4, atol=1e-6)


def test_gradients_add_up_and_can_be_replaced(mlp):
    step = halfstep.TrainingStep(mlp.path, "cross_entropy", halfstep.SGD(0.5), precision="fp32")
    batch = {"input": mlp.x, "labels": mlp.y}
    step.forward_backward(batch)
    first = step.gradients()
    step.forward_backward(batch, weight=2)
    summed = step.gradients()
    for name, gradient in first.items():
        numpy.testing.assert_allclose(summed[name], 3 * gradient, rtol=1e-5, atol=1e-7)
    before = step.parameters()
    step.set_gradients({name: numpy.ones_like(gradient) for name, gradient in first.items()})
    step.update()
    for name, now in step.parameters().items():
        numpy.testing.assert_allclose(now, before[name] - 0.5, rtol=1e-6, atol=1e-6)
    step.forward_backward(batch)
    step.forget_gradients()
    with pytest.raises(halfstep.InputError):
        step.update()


def softmax_cross_entropy(scores, labels):
    """Its mean and gradient, in NumPy."""
    scores = scores.astype(numpy.float64)
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_shares = shifted - numpy.log(numpy.exp(shifted).sum(axis=1, keepdims=True))
    rows = numpy.arange(len(labels))
    gradient = numpy.exp(log_shares)
    gradient[rows, labels] -= 1
    return -log_shares[rows, labels].mean(), (gradient / len(labels)).astype(numpy.float32)


def test_a_loss_of_numpy_trains_as_the_own_one(mlp):
    one = halfstep.TrainingStep(mlp.path, "cross_entropy", "adam", precision="fp32")
    other = halfstep.TrainingStep(mlp.path, optimizer="adam", precision="fp32")
    for _ in range(5):
        expected = one.run({"input": mlp.x, "labels": mlp.y}).loss
        outputs = other.forward({"input": mlp.x})
        loss, gradient = softmax_cross_entropy(outputs["output"], mlp.y)
        assert loss == pytest.approx(expected, rel=1e-5)
        other.backward({"input": mlp.x}, {"output": gradient})
        assert other.update().updated
    numpy.testing.assert_allclose(other.flat_parameters(), one.flat_parameters(), rtol=1e-3, atol=1e-5)


def test_a_federated_round_is_what_it_is_by_hand(mlp):
    """Two clients train on half of the rows each; their averaged parameters are the next model."""
    halves = [{"input": mlp.x[i::2], "labels": mlp.y[i::2]} for i in range(2)]
    clients = [halfstep.TrainingStep(mlp.path, "cross_entropy", halfstep.SGD(0.1), precision="fp32") for _ in halves]
    by_hand = halfstep.TrainingStep(mlp.path, "cross_entropy", halfstep.SGD(0.1), precision="fp32")
    start = by_hand.parameters()
    for _ in range(2):
        for client, batch in zip(clients, halves):
            client.run(batch)
        mean = sum(client.flat_parameters() for client in clients) / len(clients)
        for client in clients:
            client.set_flat_parameters(mean)
        # The mean of two plain SGD updates from the same parameters is the update by the mean gradient.
        for batch in halves:
            by_hand.forward_backward(batch, weight=0.5)
        gradients = by_hand.gradients()
        parameters = {name: p - numpy.float32(0.1) * gradients[name] for name, p in start.items()}
        by_hand.forget_gradients()
        by_hand.set_parameters(parameters)
        start = parameters
        flat = numpy.concatenate([parameters[name].ravel() for name, _, _ in by_hand.parameter_types])
        numpy.testing.assert_allclose(mean, flat, rtol=1e-5, atol=1e-6)
    numpy.testing.assert_array_equal(clients[0].flat_parameters(), clients[1].flat_parameters())


def test_flat_gradients_go_round(mlp):
    one = halfstep.TrainingStep(mlp.path, "cross_entropy", "adam", precision="fp32")
    other = halfstep.TrainingStep(mlp.path, "cross_entropy", "adam", precision="fp32")
    one.forward_backward({"input": mlp.x, "labels": mlp.y})
    other.forward_backward({"input": mlp.x[:4], "labels": mlp.y[:4]})
    other.set_flat_gradients(one.flat_gradients())
    one.update(), other.update()
    numpy.testing.assert_array_equal(one.flat_parameters(), other.flat_parameters())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_state_goes_round_bit_for_bit(mlp, precision):
    batch = {"input": mlp.x, "labels": mlp.y}
    make = lambda: halfstep.TrainingStep(mlp.path, "cross_entropy", halfstep.AdamW(1e-3), precision=precision)
    one, other = make(), make()
    for _ in range(3):
        one.run(batch)
    state = one.state()
    other.load_state(state)
    assert other.updates == 3
    for _ in range(3):
        assert one.run(batch).loss == other.run(batch).loss
    ours, theirs = one.state(), other.state()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].tobytes() == theirs[name].tobytes(), name


def test_evaluate_and_predict_change_nothing(mlp):
    step = halfstep.TrainingStep(mlp.path, "cross_entropy", "adam", precision="fp32")
    step.run({"input": mlp.x, "labels": mlp.y})
    before = step.flat_parameters()
    loss = step.evaluate({"input": mlp.x, "labels": mlp.y}).loss
    scores = step.predict({"input": mlp.x})["output"]
    assert softmax_cross_entropy(scores, mlp.y)[0] == pytest.approx(loss, rel=1e-5)
    numpy.testing.assert_array_equal(step.outputs()["output"], scores)
    numpy.testing.assert_array_equal(step.flat_parameters(), before)


def test_metrics(mlp):
    step = halfstep.TrainingStep(mlp.path, "cross_entropy", precision="fp32")
    batch = {"input": mlp.x, "labels": mlp.y}
    step.evaluate(batch)
    metrics = step.metrics("accuracy,top_k:3,confusion")
    step.measure(metrics, batch)
    values = metrics.values()
    guesses = step.predict({"input": mlp.x})["output"].argmax(axis=1)
    assert values["accuracy"] == pytest.approx((guesses == mlp.y).mean())
    assert values["accuracy"] <= values["top_k:3"] <= 1
    assert values["confusion"].shape == (10, 11) and values["confusion"].sum() == len(mlp.y)
    assert len(metrics) == 3
    metrics.reset()
    assert numpy.isnan(metrics.values()["accuracy"])


def test_losses_of_several_outputs(two_outputs, two_data):
    x, y = two_data
    step = halfstep.TrainingStep(
        two_outputs, {"scores": "cross_entropy", "value": "mse"}, loss_weights={"value": 0.5}, precision="fp32"
    )
    report = step.evaluate({"x": x, **y})
    assert len(report.terms) == 2
    assert report.loss == pytest.approx(report.terms[0] + 0.5 * report.terms[1], rel=1e-6)
    values = step.predict({"x": x})["value"]
    assert report.terms[1] == pytest.approx(((values - y["value"]) ** 2).mean(), rel=1e-5)


LOSS_MODEL = """
<ir_version: 10, opset_import: ["": 20]>
distance (float[N,1] value, float[N,1] target) => (float loss)
{
  d = Sub(value, target)
  s = Mul(d, d)
  loss = ReduceMean<keepdims=0>(s)
}
"""


def test_a_loss_that_another_model_computes(two_outputs, two_data):
    x, y = two_data
    loss_model = onnx.parser.parse_model(LOSS_MODEL)
    one = halfstep.TrainingStep(two_outputs, loss_model=loss_model, optimizer=halfstep.SGD(0.1), precision="fp32")
    other = halfstep.TrainingStep(two_outputs, {"value": "mse"}, halfstep.SGD(0.1), precision="fp32")
    for _ in range(3):
        assert one.run({"x": x, "target": y["value"]}).loss == pytest.approx(
            other.run({"x": x, "value": y["value"]}).loss, rel=1e-5
        )
    numpy.testing.assert_allclose(one.flat_parameters(), other.flat_parameters(), rtol=1e-4, atol=1e-6)


def test_class_and_sample_weights_and_smoothing(two_outputs, two_data):
    x, y = two_data
    labels = y["scores"]
    class_weight, weights = numpy.array([1.0, 2.0, 0.5]), numpy.linspace(0, 2, len(x)).astype(numpy.float32)
    loss = halfstep.Loss(
        "cross_entropy", output="scores", class_weight={1: 2.0, 2: 0.5}, sample_weights="w", label_smoothing=0.0
    )
    step = halfstep.TrainingStep(two_outputs, loss, precision="fp32")
    found = step.evaluate({"x": x, "labels": labels, "w": weights}).loss
    scores = step.predict({"x": x})["scores"].astype(numpy.float64)
    log_shares = scores - numpy.log(numpy.exp(scores).sum(axis=1, keepdims=True))
    each = -log_shares[numpy.arange(len(x)), labels]
    of_each = class_weight[labels] * weights
    assert found == pytest.approx((each * of_each).sum() / of_each.sum(), rel=1e-4)
    smoothed = halfstep.TrainingStep(
        two_outputs, halfstep.Loss("cross_entropy", output="scores", label_smoothing=0.1), precision="fp32"
    )
    expected = (0.9 * each - 0.1 * log_shares.mean(axis=1)).mean()
    assert smoothed.evaluate({"x": x, "labels": labels}).loss == pytest.approx(expected, rel=1e-4)


def test_parameter_groups_and_freezing(mlp):
    batch = {"input": mlp.x, "labels": mlp.y}
    groups = [halfstep.ParameterGroup("1.*", lr_factor=0.0), {"pattern": "3.bias", "frozen_updates": 1}]
    step = halfstep.TrainingStep(mlp.path, "cross_entropy", halfstep.SGD(0.1, groups=groups), precision="fp32")
    before = step.parameters()
    step.run(batch)
    after = step.parameters()
    assert [name for name in before if (before[name] == after[name]).all()] == ["1.bias", "1.weight", "3.bias"]
    frozen = halfstep.TrainingStep(mlp.path, "cross_entropy", halfstep.SGD(0.1), freeze="1.*", precision="fp32")
    assert [name for name, _, _ in frozen.parameter_types] == ["3.weight", "3.bias"]


def test_save_and_notices(mlp, tmp_path):
    step = halfstep.TrainingStep(mlp.path, precision="fp32")
    step.run({"input": mlp.x, "labels": mlp.y})
    assert isinstance(step.notices, list)
    step.save(tmp_path / "trained.onnx")
    outputs = halfstep.Session(tmp_path / "trained.onnx").run({"input": mlp.x})
    numpy.testing.assert_allclose(outputs["output"], step.predict({"input": mlp.x})["output"], rtol=1e-5, atol=1e-6)
    plan = step.plan({"input": mlp.x, "labels": mlp.y})
    assert plan["nodes"] and plan["arena_bytes"] > 0


def test_arithmetic_without_effect_is_told(mlp):
    model = halfstep.load(mlp.path)
    for make in (halfstep.Session, halfstep.TrainingStep):
        with pytest.warns(UserWarning, match="f32 math bf16 has no effect: the reference executor"):
            make(model, executor="reference", fp32_math="bf16")
