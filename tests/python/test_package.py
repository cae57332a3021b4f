"""The package as it is installed: by itself, and beside ONNX Runtime."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

import halfstep

PACKAGE = pathlib.Path(halfstep.__file__).parent
CLONE = pathlib.Path(__file__).resolve().parent.parent.parent


def python(code, **environment):
    variables = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], capture_output=True, text=True, env={**variables, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


USE = """
import numpy
path = {path!r}
x = numpy.load({x!r})
def use_halfstep():
    import halfstep
    model = halfstep.load(path)
    model.compile("adam", "cross_entropy", precision="fp32")
    model.fit(x, numpy.load({y!r}))
    return halfstep.Session(path).run({{"input": x}})["output"]
def use_onnxruntime():
    import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {{"input": x}})[0]
results = [use() for use in ({order})]
assert numpy.allclose(results[0], results[1], rtol=1e-4, atol=1e-4)
assert numpy.allclose(results[0], results[2], rtol=1e-4, atol=1e-4)
print("equal")
"""


@pytest.mark.parametrize(
    "order", ["use_halfstep, use_onnxruntime, use_halfstep", "use_onnxruntime, use_halfstep, use_onnxruntime"]
)
def test_beside_onnxruntime(mlp, order):
    folder = mlp.path.parent
    code = USE.format(path=str(mlp.path), x=str(folder / "x.npy"), y=str(folder / "y.npy"), order=order)
    assert python(code) == "equal"


def test_threads_give_the_core_up_soon():
    show = "import halfstep, os; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"
    assert python(show) == "1000 None"
    assert python(show, GOMP_SPINCOUNT="5") == "5 None"
    assert python(show, OMP_WAIT_POLICY="active") == "None active"


def test_libraries_come_from_the_package():
    loaded = python("import halfstep; print(open('/proc/self/maps').read())")
    libraries = {pathlib.Path(line.split()[-1]) for line in loaded.splitlines() if ".so" in line.split()[-1]}
    own = {path.name for path in libraries if path.is_relative_to(PACKAGE)}
    assert {"libhalfstep.so.0.1", "libdnnl.so.3"} <= own
    others = [path for path in libraries if path.name in own and not path.is_relative_to(PACKAGE)]
    assert not others


def test_no_binary_names_the_clone():
    for file in PACKAGE.glob("*.so*"):
        text = subprocess.run(["readelf", "-d", file], capture_output=True, text=True, check=True).stdout
        paths = [line for line in text.splitlines() if "RUNPATH" in line or "RPATH" in line]
        assert all("[$ORIGIN]" in line for line in paths), (file, paths)


def test_types_and_docs():
    assert (PACKAGE / "py.typed").exists()
    stub = (PACKAGE / "_core.pyi").read_text()
    assert "class TrainingStep" in stub and "def run(self" in stub
    tables = [(PACKAGE / f"{name}.pyi").read_text() for name in ("optimizers", "schedules")]
    for name in (*halfstep.optimizers.__all__, *halfstep.schedules.__all__):
        assert any(f"class {name}" in table for table in tables), name
    for name in ("Session", "TrainingStep", "Model", "load", "convert", "inspect", "devices", "check", "Adam"):
        assert getattr(halfstep, name).__doc__, name


def test_version():
    assert f"halfstep VERSION {halfstep.__version__} " in (CLONE / "CMakeLists.txt").read_text()


def test_import_is_quick():
    """Nothing heavy is imported with the package."""
    heavy = python("import halfstep, sys; print([m for m in ('onnx', 'torch', 'ml_dtypes') if m in sys.modules])")
    assert heavy == "[]"


def test_the_readmes_example(tmp_path):
    code = re.search(r"```python\n(.*?)```", (CLONE / "README.md").read_text(), re.DOTALL)[1]
    (tmp_path / "models").symlink_to(CLONE / "models")
    script = f"import os; os.chdir({str(tmp_path)!r})\n{code}\nprint(model.history.history['val_accuracy'][-1])"
    assert float(python(script).splitlines()[-1]) > 0.95
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * (tmp_path / "trained.onnx").stat().st_size


def test_objects_are_described_in_a_line(mlp):
    model = halfstep.load(mlp.path)
    assert repr(model) == f"Model(inputs={model.inputs}, outputs={model.outputs})"
    model.compile("sgd", precision="fp32", executor="onednn")
    assert "step=TrainingStep(executor='onednn', precision='fp32', learning_rate=" in repr(model)
    with halfstep.Session(mlp.path, executor="onednn") as session:
        expected = f"inputs={session.inputs}, outputs={session.outputs}, executor='onednn', precision='fp32'"
        assert repr(session) == f"Session({expected})"
    assert repr(session) == "Session(closed)"
    conversion = repr(halfstep.convert(mlp.path))
    assert re.fullmatch(r"Conversion\(\d+ of \d+ nodes in fp16, \d+ Casts\)", conversion)
