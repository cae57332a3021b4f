"""halfstep check as scripts see it: exit codes, the call that repeats a check, JSON, JUnit's XML."""

import json
import pathlib
import shlex
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

import numpy
import onnx
from onnx import helper, numpy_helper

PROGRAM = sys.argv[1]


def check(*arguments):
    return subprocess.run([PROGRAM, "check", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True)


def write_case(folder, op, expected):
    info = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    x = numpy.array([-1, 2], numpy.float32)
    (data / "input_0.pb").write_bytes(numpy_helper.from_array(x).SerializeToString())
    (data / "output_0.pb").write_bytes(numpy_helper.from_array(expected.astype(numpy.float32)).SerializeToString())


def test_onnx_cases(folder):
    cases = folder / "cases with a space"
    write_case(cases / "right", "Relu", numpy.array([0, 2]))
    write_case(cases / "wrong", "Abs", numpy.array([1, -2]))
    write_case(cases / "outside", "Bernoulli", numpy.array([0, 1]))
    junit = folder / "results.xml"
    done = check("--executor", "reference", "--cases", cases, "--junit", junit)
    assert done.returncode == 1, done
    assert "3 checks on reference: 1 passed, 1 failed, 1 not applicable" in done.stdout, done.stdout
    assert "n/a 1 case, Bernoulli draws at random" in done.stdout, done.stdout

    repeat = next(line.strip() for line in done.stdout.splitlines() if line.startswith("  halfstep check"))
    again = subprocess.run([PROGRAM, *shlex.split(repeat)[1:]], capture_output=True, text=True)
    assert again.returncode == 1 and "1 checks on reference: 0 passed, 1 failed" in again.stdout, (repeat, again)

    suite = ElementTree.parse(junit).getroot().find("testsuite")
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped")} == {
        "tests": "3", "failures": "1", "skipped": "1"}, suite.attrib
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == ["wrong"], failed

    assert check("--executor", "reference", "--cases", cases, "--case", "right").returncode == 0
    only = json.loads(check("--executor", "reference", "--cases", cases, "--op", "Abs", "--json").stdout)
    assert [entry["case"] for entry in only["checks"]] == ["wrong"], only
    assert only["checks"][0]["repeat"].startswith("halfstep check --executor reference --cases '"), only


def test_table():
    assert check("--executor", "onednn", "--op", "Relu").returncode == 0
    drawn = json.loads(check("--executor", "onednn", "--op", "Add", "--random", "3", "--json").stdout)
    assert drawn["failed"] == 0 and any(entry["case"] == "Add/0/2" for entry in drawn["checks"]), drawn
    one = check("--executor", "onednn", "--random", "3", "--case", "Add/0/2", "--kind", "gradient")
    assert one.returncode == 0 and one.stdout.startswith("1 checks on onednn"), one


def test_special_numbers():
    done = json.loads(check("--executor", "onednn", "--op", "ai.halfstep.Fused*", "--kind", "special", "--json").stdout)
    assert done["failed"] == 0 and {entry["kind"] for entry in done["checks"]} == {"special"}, done
    assert {entry["dtype"] for entry in done["checks"]} == {"f32", "f16", "bf16"}, done
    one = check("--executor", "onednn", "--kind", "special", "--dtype", "f16", "--case", "ai.halfstep.FusedGemm/0")
    assert one.returncode == 0 and "\n1 checks on onednn: 1 passed" in "\n" + one.stdout, one


def test_statistics():
    for executor in "reference", "onednn":
        drawn = json.loads(check("--executor", executor, "--op", "*Dropout", "--kind", "statistics", "--json").stdout)
        assert {(entry["case"], entry["dtype"]) for entry in drawn["checks"]} == {
            (f"{op}/statistics", dtype) for op in ("Dropout", "ai.halfstep.PhiloxDropout")
            for dtype in ("f32", "f16", "bf16", "f64")}, drawn
        assert drawn["passed"] == 8, drawn
    one = check("--executor", "onednn", "--kind", "statistics", "--dtype", "f16", "--case", "Dropout/statistics")
    assert one.returncode == 0 and "\n1 checks on onednn: 1 passed" in "\n" + one.stdout, one


def test_programs_and_training():
    done = json.loads(check("--executor", "onednn", "--kind", "program", "--json").stdout)
    assert done["failed"] == 0 and done["passed"] > 15, done
    states = next(entry for entry in done["checks"] if entry["case"] == "program/states_move")
    assert "kernels" in states and states["kernels"] != "reference", states
    one = check("--executor", "onednn", "--kind", "training", "--dtype", "bf16", "--case", "training/mlp")
    assert one.returncode == 0 and "1 checks on onednn: 1 passed" in one.stdout, one
    larger = check("--executor", "onednn", "--kind", "execution", "--dtype", "f32", "--case", "Relu/0/large")
    assert "Kernels of onednn: 1 checks on its own, 0 on the reference executor's, 0 on both" in larger.stdout, larger


def test_refusals(folder):
    for arguments, part in [
        (("--op", "NoSuchOperator"), "--op"),
        (("--case", "Relu/99"), "--case"),
        (("--kind", "other"), "--kind"),
        (("--dtype", "i64"), "--dtype"),
        (("--cases", folder / "nothing"), "nothing"),
        (("--mutate", "5"), "--cases"),
        (("--junit", folder / "no" / "folder.xml"), "folder.xml"),
    ]:
        done = check("--executor", "reference", *arguments)
        assert done.returncode == 2 and part in done.stderr, (arguments, done)


with tempfile.TemporaryDirectory() as name:
    test_onnx_cases(pathlib.Path(name))
    test_refusals(pathlib.Path(name))
test_table()
test_special_numbers()
test_programs_and_training()
test_statistics()
