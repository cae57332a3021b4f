"""Converted models load in ONNX Runtime.

Of every version of every operator of ai.onnx with several type variables that may be float, a model of that operator is
converted; then the models of models/zoo as ONNX Runtime itself saves them, fused operators and all. What ONNX Runtime
loads in f32 it has to load in half: only kernels that it lacks are no reason. Converting twice changes nothing.

usage: onnxruntime_test.py PROGRAM schemas|saved
"""

import itertools
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FLOAT = "tensor(float)"
HALVES = ("fp16", "bf16")
IR_VERSION = 10
OLDEST = 7  # what ONNX Runtime supports
SILENT = 4
MAX_ERROR = 0.05  # of an output of models/zoo, relative to its largest value; README.md has the largest measured

# Dims of operands; [2, 2] where an operator is not here.
DIMS = {
    "Attention": {"attn_mask": [2, 2], "default": [1, 1, 2, 4]},
    "BatchNormalization": {"X": [2, 4, 3], "default": [4]},
    "GridSample": {"X": [1, 1, 2, 2], "grid": [1, 2, 2, 2]},
    "LayerNormalization": {"X": [2, 4], "default": [4]},
    "LinearAttention": {"past_state": [1, 1, 4, 4], "decay": [1, 2, 1], "beta": [1, 2, 1], "default": [1, 2, 4]},
    "MelWeightMatrix": {"default": []},
    "OneHot": {"indices": [2], "depth": [], "values": [2]},
    "RMSNormalization": {"X": [2, 4], "default": [4]},
    "Resize": {"X": [1, 1, 2, 2], "roi": [8], "scales": [4]},
    "Upsample": {"X": [1, 1, 2, 2], "scales": [4]},
    "Dropout": {"ratio": [], "training_mode": [], "default": [2]},
    "QuantizeLinear": {"x": [2, 2], "default": []},
    "DequantizeLinear": {"x": [2, 2], "default": []},
}
ATTRIBUTES = {
    "BitCast": {"to": TensorProto.FLOAT},
    "Cast": {"to": TensorProto.FLOAT},
    "LinearAttention": {"q_num_heads": 1, "kv_num_heads": 1, "update_rule": "linear"},
    "Resize": {"mode": "linear"},
    "Upsample": {"mode": "linear"},
}
# Optional operands that are given.
OPTIONAL = {"attn_mask", "past_state", "roi", "scales", "ratio", "B", "zero_point", "y_zero_point", "x_zero_point"}
# Normalizations taken apart, which ONNX Runtime fuses to operators that operator set 14 does not have.
WEIGHTS = """<float[4,4] w = {1,0,0,0.5, 0,1,0,0, 0,0,1,0, 0.25,0,0,1}, float[4] g = {1,2,3,4}, float[4] b = {0,1,0,1},
              float eps = {1e-5}, float two = {2}>"""
FUSED = {
    "LayerNormalization": """{ a = MatMul(x, w) m = ReduceMean<axes = [-1]>(a) d = Sub(a, m) s = Pow(d, two)
        v = ReduceMean<axes = [-1]>(s) e = Add(v, eps) r = Sqrt(e) n = Div(d, r) k = Mul(n, g) z = Add(k, b)
        y = MatMul(z, w) }""",
    "SimplifiedLayerNormalization": """{ a = MatMul(x, w) s = Pow(a, two) v = ReduceMean<axes = [-1]>(s)
        e = Add(v, eps) r = Sqrt(e) n = Div(a, r) k = Mul(n, g) y = MatMul(k, w) }""",
}
SKIPPED = {
    "OptionalGetElement",  # no tensors
    "DynamicQuantizeLinear",  # gives no float but its scale
}


def schemas():
    """Those with more than one type variable that allows float, at every version."""
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain or schema.deprecated or schema.name in SKIPPED or schema.since_version < OLDEST:
            continue
        parameters = list(schema.inputs) + list(schema.outputs)
        if len({p.type_str for p in parameters if FLOAT in p.types}) > 1:
            yield schema


def element_type(parameter):
    if FLOAT in parameter.types:
        return TensorProto.FLOAT
    for name, element in (("uint8", TensorProto.UINT8), ("int64", TensorProto.INT64), ("bool", TensorProto.BOOL)):
        if f"tensor({name})" in parameter.types:
            return element
    raise AssertionError(f"no type for {parameter.name}")


def model_of(schema, constants):
    """A model of the operator alone; `constants`: operands but the first are stored."""
    dims = DIMS.get(schema.name, {})
    inputs, initializers, names = [], [], []
    for k, parameter in enumerate(schema.inputs):
        optional = parameter.option == onnx.defs.OpSchema.FormalParameterOption.Optional
        if optional and parameter.name not in OPTIONAL:
            names.append("")
            continue
        shape = dims.get(parameter.name, dims.get("default", [2, 2]))
        element = element_type(parameter)
        names.append(parameter.name)
        dtype = helper.tensor_dtype_to_np_dtype(element)
        if constants and k > 0:
            values = numpy.full(shape, 2 if parameter.name != "scales" else 1, dtype)
            initializers.append(onnx.numpy_helper.from_array(values, parameter.name))
        else:
            inputs.append(helper.make_tensor_value_info(parameter.name, element, shape))
    while names and not names[-1]:
        names.pop()
    given = schema.outputs[: max(1, schema.min_output)]
    node = helper.make_node(schema.name, names, [p.name for p in given], name="it",
                            **ATTRIBUTES.get(schema.name, {}))  # fmt: skip
    outputs = [helper.make_tensor_value_info(p.name, element_type(p), None) for p in given]
    graph = helper.make_graph([node], schema.name, inputs, outputs, initializers)
    imports = [helper.make_opsetid("", schema.since_version)]
    return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)


def refusal(path):
    """Why ONNX Runtime does not load the model; "" where it does, or would if it had the kernel."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 (its exceptions have no common base)
        return "" if "NOT_IMPLEMENTED" in str(error) else str(error)
    return ""


def convert(program, source, target, precision, *arguments):
    command = [program, "convert", source, "-o", target, "--precision", precision, *arguments]
    done = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"


def run(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (model_input,) = session.get_inputs()
    return session.run(None, {model_input.name: x})[0]


def check(program, source, folder, what, failures, *arguments, x=None):
    """Converts to both half types; adds to `failures` what went wrong. Returns how many conversions were looked at."""
    count = 0
    for precision in HALVES:
        half, again = folder / "half.onnx", folder / "again.onnx"
        case = f"{what} {precision}"
        try:
            convert(program, source, half, precision, *arguments)
            convert(program, half, again, precision, *arguments)
        except AssertionError as error:
            failures.append(f"{case}: {error}")
            continue
        if half.read_bytes() != again.read_bytes():
            failures.append(f"{case}: converting again changes it")
        if why := refusal(half):
            failures.append(f"{case}: {why}")
        elif x is not None and precision == "fp16":  # which it has kernels for
            expected, y = run(source, x), run(half, x)
            error = numpy.abs(y - expected).max() / numpy.abs(expected).max()
            if not error < MAX_ERROR:
                failures.append(f"{case}: an error of {error:.2g} of the largest value")
        count += 1
    return count


def check_schemas(program, folder):
    failures, count = [], 0
    for schema in schemas():
        for constants in (False, True):
            source = folder / "source.onnx"
            onnx.save(model_of(schema, constants), source)
            what = f"{schema.name}-{schema.since_version}{' with constants' if constants else ''}"
            if why := refusal(source):
                failures.append(f"{what} in f32: {why}")
            # Of itself half only goes as far as inputs and outputs ask for.
            count += check(program, source, folder, what, failures, *([] if constants else ["--force-half", "node:it"]))
    print(f"{count} conversions")
    assert count > 0, "there are schemas"
    return failures


def save_optimized(model, level, target):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(target)
    options.graph_optimization_level = level
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def check_saved(program, folder):
    failures, count = [], 0
    source = folder / "saved.onnx"
    levels = onnxruntime.GraphOptimizationLevel
    for op, body in FUSED.items():
        header = '<ir_version: 8, opset_import: ["": 14]> fused (float[2,4] x) => (float[2,4] y)'
        model = onnx.parser.parse_model(header + WEIGHTS + body)
        save_optimized(model.SerializeToString(), levels.ORT_ENABLE_ALL, source)
        assert op in [node.op_type for node in onnx.load(source).graph.node], f"ONNX Runtime fuses to {op}"
        x = numpy.linspace(-1, 2, 8, dtype=numpy.float32).reshape(2, 4)
        count += check(program, source, folder, f"saved {op}", failures, "--keep-io-types", x=x)
    for path, level in itertools.product(
        sorted((ROOT / "models" / "zoo").glob("*/model.onnx")), (levels.ORT_ENABLE_EXTENDED, levels.ORT_ENABLE_ALL)
    ):
        save_optimized(str(path), level, source)
        x = numpy.load(path.parent / "x.npy")
        what = f"saved {path.parent.name} {level.name}"
        count += check(program, source, folder, what, failures, "--keep-io-types", x=x)
    print(f"{count} conversions")
    assert count > 0, "there are models"
    return failures


def main(program, what):
    onnxruntime.set_default_logger_severity(SILENT)
    with tempfile.TemporaryDirectory() as name:
        failures = {"schemas": check_schemas, "saved": check_saved}[what](program, pathlib.Path(name))
    print("\n".join(failures))
    assert not failures, f"{len(failures)} conversions failed"


if __name__ == "__main__":
    main(*sys.argv[1:])
