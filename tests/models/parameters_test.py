"""What exporters do to parameters, in models of models/zoo: what is trained, what is saved, and for which batch sizes.

usage: parameters_test.py PROGRAM
"""

import json
import pathlib
import sys
import tempfile

import numpy
import onnx
from onnx import numpy_helper

from halfstep_program import MODELS, run

ZOO = MODELS / "zoo"
# Trained parameters have other names there, or some are gone.
RENAMED = ("keras", "optimized", "gpt_neo")


def report(program, case, *flags):
    return json.loads(run(program, "inspect", ZOO / case / "model.onnx", "--parameters", "--json", *flags))["trainable"]


def names(rows):
    return {row["name"] for row in rows}


def tensors(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def train(program, case, folder, *flags):
    output = pathlib.Path(folder) / "trained.onnx"
    data = f"{ZOO / case / 'x.npy'},{ZOO / case / 'y.npy'}"
    said = run(program, "train", ZOO / case / "model.onnx", "--data", data, "--steps", 2, "--lr", "1e-3",
               "--precision", "fp32", "--output-form", "training", "-o", output, *flags)  # fmt: skip
    onnx.checker.check_model(onnx.load(output), full_check=True)
    return onnx.load(output), said


def check_selection(program):
    """Exactly what the framework trained is trained, and every other float initializer has a reason."""
    for folder in sorted(ZOO.iterdir()):
        if any(mark in folder.name for mark in RENAMED):
            continue
        found = report(program, folder.name)
        wanted = json.loads((folder / "expected.json").read_text())["grad_norms"].keys()
        assert names(found["parameters"]) == wanted, f"{folder.name}: {names(found['parameters']) ^ wanted}"
        assert all(row["reason"] for row in found["not_trained"]), folder.name
        assert not found["blocked_by"], f"{folder.name}: {found['blocked_by']}"


def check_tied(program):
    [tied] = [row for row in report(program, "gpt_neo-dynamo")["parameters"] if row["name"] == "m.lm_head.weight"]
    assert len(tied["use"]) == 2, tied["use"]


def check_folded(program):
    """Folded weights are trained, the scale of attention and an expanded mask are not, merged biases are reported."""
    deit = report(program, "deit-dynamo-optimized")
    assert {"val_69", "expand"} <= names(deit["parameters"])
    assert names(deit["not_trained"]) == {"val_57"}, deit["not_trained"]
    assert any("--untie blocks.0.norm1.bias" in note for note in deit["notes"]), deit["notes"]
    untied = report(program, "deit-dynamo-optimized", "--untie", "all")
    assert len(untied["parameters"]) == 31, len(untied["parameters"])
    assert not any("--untie" in note for note in untied["notes"]), untied["notes"]
    roberta = {row["name"]: row["reason"] for row in report(program, "roberta-dynamo-optimized")["not_trained"]}
    assert roberta["val_74"].startswith("mask"), roberta
    autoencoder = names(report(program, "autoencoder-dynamo-optimized")["not_trained"])
    assert autoencoder == {"val_9", "val_12", "val_29"}, autoencoder


def check_saving(program, case):
    """The trained model differs from its source in the trained tensors and running statistics, and in the Identity nodes
    that named some."""
    source = onnx.load(ZOO / case / "model.onnx")
    with tempfile.TemporaryDirectory() as folder:
        trained, _ = train(program, case, folder)
    found = report(program, case)
    parameters = names(found["parameters"])
    statistics = names(row for row in found["not_trained"] if row["reason"].startswith("running statistic"))
    before, after = tensors(source), tensors(trained)
    named = {node.output[0] for node in source.graph.node if node.op_type == "Identity" and node.input[0] in before}
    assert after.keys() == before.keys() | (named & parameters), after.keys() ^ before.keys()
    for name in before.keys() - parameters - statistics:
        assert numpy.array_equal(before[name], after[name]), f"{case}: '{name}' has changed"
    assert any(not numpy.array_equal(before[name], after[name]) for name in before.keys() & parameters), case
    kept = [node for node in source.graph.node if not set(node.output) & (named & parameters)]
    assert [node.SerializeToString() for node in kept] == [node.SerializeToString() for node in trained.graph.node], case


def check_batches(program):
    """A batch size that the file fixes is freed, and what was expanded over it stays equal in all rows."""
    with tempfile.TemporaryDirectory() as folder:
        for case in ("deit-dynamo", "deit-dynamo-optimized", "roberta-dynamo-optimized", "rnn-dynamo"):
            trained, _ = train(program, case, folder, "--batch", 3)
            expanded = tensors(trained).get("expand")
            if expanded is not None:
                assert numpy.array_equal(expanded, numpy.broadcast_to(expanded[:1], expanded.shape))


def check_fixed_batch(program):
    """A batch size that a node has baked in is the model's: the node is named, the last partial batch left out."""
    weight = numpy.arange(8, dtype=numpy.float32).reshape(4, 2)
    nodes = [onnx.helper.make_node("Mul", ["x", "w"], ["h"], "scale"),
             onnx.helper.make_node("MatMul", ["h", "v"], ["y"], "head")]  # fmt: skip
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "fixed", [info("x", 1, [4, 2])], [info("y", 1, [4, 2])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(weight[:2], "v")])  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)]), folder / "m.onnx")
        numpy.save(folder / "x.npy", numpy.ones((10, 2), numpy.float32))
        numpy.save(folder / "y.npy", numpy.zeros(10, numpy.int64))
        said = run(program, "train", folder / "m.onnx", "--data", f"{folder / 'x.npy'},{folder / 'y.npy'}",
                   "--epochs", 1, "--precision", "fp32", "-o", folder / "trained.onnx")  # fmt: skip
    for part in ("fixed at 4", "'scale'", "left out"):
        assert part in said, said
    assert "InferenceError" not in said, said


def main(program):
    check_selection(program)
    check_tied(program)
    check_folded(program)
    for case in ("deit-torchscript", "gpt_neo-dynamo", "deit-dynamo-optimized", "resnet-torchscript"):
        check_saving(program, case)
    check_batches(program)
    check_fixed_batch(program)


if __name__ == "__main__":
    main(*sys.argv[1:])
