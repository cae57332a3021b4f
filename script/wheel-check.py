"""The tests of script/wheel-check for the installed package, in a folder with a model, its data and a plug-in."""

import gzip
import importlib.metadata
import os
import re
import subprocess
import sys
import time

import numpy

import halfstep

START = """
import time
import numpy
start = time.perf_counter()
import halfstep
print(time.perf_counter() - start)
"""


def seconds_to_start():
    return float(subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True).stdout)


times = [seconds_to_start() for _ in range(5)]


def read(name, header, count):
    with gzip.open(f"mnist/{name}-ubyte.gz") as file:
        return numpy.frombuffer(file.read(), numpy.uint8, offset=header)[: 784**(header == 16) * count]


x = read("train-images-idx3", 16, 12000).reshape(-1, 784).astype("float32") / 255
y = read("train-labels-idx1", 8, 12000).astype("int64")

model = halfstep.load("mnist_mlp.onnx")
model.compile(optimizer=halfstep.Adam(1e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
start = time.perf_counter()
history = model.fit(x[:10000], y[:10000], epochs=3, validation_data=(x[10000:], y[10000:])).history
assert history["val_accuracy"][-1] > 0.9, history
seconds = time.perf_counter() - start
model.save("trained.onnx")

half = halfstep.convert("trained.onnx", "half.onnx", "fp16", keep_io_types=True, verify={model.inputs[0][0]: x[:32]})
assert os.path.getsize("half.onnx") < 0.6 * os.path.getsize("trained.onnx")
scores = [halfstep.Session(name).run(x[:256]) for name in ("trained.onnx", "half.onnx")]
difference = max(float(numpy.abs(a - b).max() / numpy.abs(a).max()) for a, b in zip(*(s.values() for s in scores)))
assert difference < 1e-2, difference

checks = halfstep.check("onednn", op="Conv", random=0)
assert checks["passed"] > 0 and checks["failed"] == 0, checks
example = next(one for one in halfstep.devices()["executors"] if one["name"] == "example")
assert example["available"], example
with open("/proc/self/maps") as maps:
    libraries = {line.split()[-1] for line in maps if "libhalfstep.so" in line}
assert len(libraries) == 1, libraries  # the plug-in uses the library of the package
plugged = halfstep.check("example", op="Relu", random=0)
assert plugged["passed"] > 0 and plugged["failed"] == 0, plugged

# Bundled libraries include their licences.
distribution = importlib.metadata.distribution("halfstep")
bundled = {re.match(r"lib[a-z_]+", file.name)[0] for file in distribution.files if file.parent.name == "halfstep.libs"}
licences = {file.stem for file in distribution.files if file.parent.name == "licenses"}
known = {"libdnnl": "onednn", "libhwy": "highway", "libjpeg": "libjpeg-turbo", "libfmt": "fmt", "libprotobuf": "protobuf"}
missing = {known.get(name, name) for name in bundled if not name.startswith("libhalfstep")} - licences
assert bundled and not missing and {"onnx", "nanobind", "nlohmann-json"} <= licences, (bundled, licences)

print(
    f"Python {sys.version.split()[0]}, halfstep {halfstep.__version__}:",
    f"val_accuracy {history['val_accuracy'][-1]:.4f} after 3 epochs in {seconds:.1f} s,",
    f"fp16 differs by {difference:.1e}, {checks['passed']} checks of Conv passed, {plugged['passed']} of a plug-in;",
    f"`import halfstep` takes {min(times) * 1000:.0f} ms beside NumPy's",
)
