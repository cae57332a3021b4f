"""Writes ONNX's backend test cases in ONNX's folder format: FOLDER/KIND/CASE/model.onnx and its data sets.

Kinds: node (created by the onnx package's generators), and simple, pytorch-converted, pytorch-operator and light (models
included in the package). A light model has one input, created as in the backend test suite, and the expected output
stored with it.
"""

import argparse
import json
import pathlib
import shutil
import warnings

import numpy
import onnx
import onnx.backend.test
from onnx import numpy_helper
from onnx.backend.test.case.model import collect_testcases as collect_model_cases
from onnx.backend.test.loader import load_node_model_tests
from onnx.backend.test.runner import Runner

DATA = pathlib.Path(onnx.backend.test.__file__).parent / "data"
COPIED_KINDS = ("simple", "pytorch-converted", "pytorch-operator")


def to_message(value, info: onnx.ValueInfoProto):
    if isinstance(value, onnx.TensorProto):
        return value
    if info.type.HasField("sequence_type"):
        return numpy_helper.from_list(value, info.name)
    if info.type.HasField("optional_type"):
        return numpy_helper.from_optional(value, info.name)
    return numpy_helper.from_array(numpy.asarray(value), info.name)


def write_values(folder: pathlib.Path, prefix: str, values, infos) -> None:
    for i, (value, info) in enumerate(zip(values, infos, strict=True)):
        (folder / f"{prefix}_{i}.pb").write_bytes(to_message(value, info).SerializeToString())


def write_case(folder: pathlib.Path, model: onnx.ModelProto, data_sets, rtol: float, atol: float) -> None:
    for i, (inputs, outputs) in enumerate(data_sets):
        data_set = folder / f"test_data_set_{i}"
        data_set.mkdir(parents=True)
        write_values(data_set, "input", inputs, model.graph.input)
        write_values(data_set, "output", outputs, model.graph.output)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "data.json").write_text(json.dumps({"rtol": rtol, "atol": atol}))


def write_node_cases(folder: pathlib.Path) -> None:
    for case in load_node_model_tests():
        write_case(folder / case.name, case.model, case.data_sets, case.rtol, case.atol)


def write_light_cases(folder: pathlib.Path) -> None:
    for case in collect_model_cases():
        if not case.url or "/light/" not in case.url:
            continue
        name = f"light_{case.model_name}"
        model = onnx.load(DATA / "light" / f"{name}.onnx")
        initialized = {tensor.name for tensor in model.graph.initializer}
        inputs = [info for info in model.graph.input if info.name not in initialized]
        data_set = folder / case.name / "test_data_set_0"
        data_set.mkdir(parents=True)
        values = [Runner.generate_dummy_data(info, name=case.model_name) for info in inputs]
        write_values(data_set, "input", values, inputs)
        for i in range(len(model.graph.output)):
            shutil.copy(DATA / "light" / f"{name}_output_{i}.pb", data_set / f"output_{i}.pb")
        shutil.copy(DATA / "light" / f"{name}.onnx", folder / case.name / "model.onnx")
        (folder / case.name / "data.json").write_text(json.dumps({"rtol": case.rtol, "atol": case.atol}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    stamp = folder / "onnx_version"
    if stamp.is_file() and stamp.read_text() == onnx.__version__:
        return
    # Written under a temporary name, so that an interrupted call leaves nothing that looks complete.
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    with warnings.catch_warnings(), numpy.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # the generators overflow on purpose
        write_node_cases(part / "node")
        write_light_cases(part / "light")
    for kind in COPIED_KINDS:
        shutil.copytree(DATA / kind, part / kind)
    (part / stamp.name).write_text(onnx.__version__)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    print(f"{sum(1 for _ in folder.rglob('model.onnx'))} cases of onnx {onnx.__version__} in {folder}")


if __name__ == "__main__":
    main()
