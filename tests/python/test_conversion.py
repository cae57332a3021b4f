"""convert, inspect, devices, check."""

import json

import numpy
import onnx
import pytest

import halfstep


@pytest.mark.parametrize("precision, dtype", [("fp16", onnx.TensorProto.FLOAT16), ("bf16", onnx.TensorProto.BFLOAT16)])
def test_files_bytes_and_protos(mlp, tmp_path, precision, dtype):
    output = tmp_path / "half.onnx"
    report = tmp_path / "report.html"
    made = halfstep.convert(mlp.path, output, precision, keep_io_types=True, report=report)
    assert report.read_text().startswith("<!doctype html>")
    proto = onnx.load(output)
    onnx.checker.check_model(proto, full_check=True)
    assert dtype in {tensor.data_type for tensor in proto.graph.initializer}
    assert made.report["nodes"]
    data = mlp.path.read_bytes()
    assert halfstep.convert(data, precision=precision, keep_io_types=True).to_bytes() == output.read_bytes()
    other = halfstep.convert(onnx.load(mlp.path), precision=precision, keep_io_types=True)
    assert len(other.to_proto().graph.node) == len(proto.graph.node)
    outputs = halfstep.Session(output).run({"input": mlp.x})
    expected = halfstep.Session(mlp.path).run({"input": mlp.x})
    assert outputs["output"].dtype == numpy.float32
    numpy.testing.assert_allclose(outputs["output"], expected["output"], rtol=0.05, atol=0.05)


def test_data_to_calibrate_and_verify(mlp):
    made = halfstep.convert(mlp.path, calibrate={"input": mlp.x}, verify={"input": mlp.x}, keep_io_types=True)
    assert made.report["errors"][0]["output"] == "output"
    by_array = halfstep.convert(mlp.path, calibrate=mlp.x, verify=mlp.x, keep_io_types=True)
    assert by_array.report["errors"] == made.report["errors"]
    searched = halfstep.convert(mlp.path, calibrate={"input": mlp.x}, max_error=1e-2, keep_io_types=True)
    assert searched.report["nodes"]


def test_one_input_that_stays(mlp):
    made = halfstep.convert(mlp.path, keep_io_types="input").to_proto().graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*made.input, *made.output)}
    assert types == {"input": onnx.TensorProto.FLOAT, "output": onnx.TensorProto.FLOAT16}


def test_a_report_has_the_size_of_the_file(mlp, tmp_path):
    output, report = tmp_path / "half.onnx", tmp_path / "report.json"
    made = halfstep.convert(mlp.path, output, report=report)
    size = output.stat().st_size
    assert json.loads(report.read_text())["bytes_after"] == made.report["bytes_after"] == size


def test_an_overflow_writes_nothing(mlp, tmp_path):
    with pytest.raises(halfstep.Error, match="finite") as raised:
        halfstep.convert(mlp.path, tmp_path / "half.onnx", verify={"input": mlp.x * 1e6})
    assert not isinstance(raised.value, halfstep.InputError)
    assert not (tmp_path / "half.onnx").exists()


def test_nodes_that_stay(mlp):
    made = halfstep.convert(mlp.path, keep_fp32="op:Gemm")
    assert not [node for node in made.report["nodes"] if node["op"] == "Gemm" and node["precision"] != "fp32"]


def test_inspect(mlp):
    found = halfstep.inspect(mlp.path)
    assert found["inputs"] == [{"name": "input", "type": "f32", "shape": (None, 784)}]
    assert found["outputs"] == [{"name": "output", "type": "f32", "shape": (None, 10)}]
    assert found["operators"]["Gemm"] == 2 and found["initializers"]["elements"] == 101770
    assert [parameter["name"] for parameter in found["parameters"]] == ["1.weight", "1.bias", "3.weight", "3.bias"]
    assert found["fixed_batch"] is None


def test_devices():
    found = halfstep.devices()
    names = {executor["name"]: executor for executor in found["executors"]}
    assert names[found["auto"]]["available"] and "reference" in names
    assert names["reference"]["auto_precision"] == "fp32"


def test_check():
    found = halfstep.check("reference", op="Relu")
    assert found["failed"] == 0 and found["passed"] > 0
    assert found["passed"] + found["failed"] + found["not_applicable"] == len(found["checks"])
    assert {"op", "case", "kind", "type", "result", "message", "kernels"} == found["checks"][0].keys()
