"""Where the time of a step goes."""

import json

import pytest

import halfstep


@pytest.mark.parametrize("training", [False, True])
def test_shares_sum_to_one(mlp, tmp_path, training):
    trace = tmp_path / "step.json"
    result = halfstep.profile(str(mlp.path), training=training, batch=8, steps=2, precision="fp32", trace=trace)
    for rows in ("nodes", "operators", "scopes"):
        assert sum(row["share"] for row in result[rows]) == pytest.approx(1)
    assert result["of"] == ("training step" if training else "inference")
    assert result["precision"] == "fp32" and result["batch"] == 8
    assert result["step_us"] > 0 and result["least_us"] > 0
    assert any(event["ph"] == "X" for event in json.loads(trace.read_text())["traceEvents"])


def test_data_of_ones_own(mlp):
    import numpy

    x = numpy.load(mlp.path.parent / "x.npy")
    result = halfstep.profile(str(mlp.path), {"input": x}, steps=1, precision="fp32")
    assert any("Gemm" in row["op"] for row in result["operators"])
    assert result["batch"] == len(x)
    with pytest.raises(halfstep.InputError):
        halfstep.profile(str(mlp.path), {"inputs": x})
