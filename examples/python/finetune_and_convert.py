# %% [markdown]
# # Fine-tune an exported model, and convert it to FP16
#
# The cells run from top to bottom as a script, or one by one in an editor with support for `# %%` (VS Code, Spyder,
# Jupyter with jupytext). They only need halfstep and NumPy.

# %%
import pathlib
import tempfile

import numpy
from mnist import MODELS, digits

import halfstep

folder = pathlib.Path(tempfile.mkdtemp())

# %% [markdown]
# ## A model that was trained elsewhere
#
# A small network, briefly trained on the digits, serves as the exported model.

# %%
x, y = digits("train", 12000)
pretrained = halfstep.load(MODELS / "mnist_mlp.onnx")
pretrained.compile(halfstep.Adam(1e-3), "cross_entropy")
pretrained.fit(x[:6000], y[:6000])
pretrained.save(folder / "pretrained.onnx")

# %% [markdown]
# ## Its operators and trainable parameters

# %%
found = halfstep.inspect(folder / "pretrained.onnx")
print(found["operators"])
for parameter in found["parameters"]:
    print(parameter["name"], parameter["shape"])

# %% [markdown]
# ## New rows: black digits on white
#
# The first layer uses a tenth of the learning rate. Training stops when validation no longer improves, and restores the
# best epoch.

# %%
x_new, y_new = 1 - x[6000:], y[6000:]
x_test, y_test = digits("t10k", 2000)
x_test = 1 - x_test

model = halfstep.load(folder / "pretrained.onnx")
first = found["parameters"][0]["name"].rsplit(".", 1)[0]
model.compile(
    halfstep.AdamW(2e-3, weight_decay=0.01, groups=[halfstep.ParameterGroup(f"{first}.*", lr_factor=0.1)]),
    "cross_entropy",
    metrics=["accuracy"],
    seed=1,
)
before = model.evaluate(x_test, y_test)["accuracy"]
history = model.fit(
    x_new,
    y_new,
    epochs=8,
    validation_data=(x_test, y_test),
    callbacks=[halfstep.EarlyStopping("val_accuracy", patience=2, restore_best_weights=True)],
)
after = model.evaluate(x_test, y_test)["accuracy"]
print(f"accuracy {before:.3f} before, {after:.3f} after {len(history.epoch)} epochs")
model.save(folder / "finetuned.onnx")

# %% [markdown]
# ## Conversion to FP16
#
# Weights and computation become FP16, inputs and outputs stay FP32. The report lists the nodes that stay FP32 with
# reasons; `verify` compares the outputs of both models, and fails if one becomes infinite or NaN.

# %%
name = model.inputs[0][0]
half = halfstep.convert(
    folder / "finetuned.onnx", folder / "half.onnx", "fp16", keep_io_types=True, verify={name: x_test[:256]}
)
print(half.report["f32_nodes"], "nodes in FP32;", *half.report["warnings"])

scores, half_scores = (
    next(iter(halfstep.Session(folder / file).run(x_test).values())) for file in ("finetuned.onnx", "half.onnx")
)
difference = float(numpy.abs(scores - half_scores).max() / numpy.abs(scores).max())
agreement = float((scores.argmax(1) == half_scores.argmax(1)).mean())
sizes = [(folder / file).stat().st_size for file in ("finetuned.onnx", "half.onnx")]
print(f"outputs differ by {difference:.1e} of the largest, {agreement:.1%} of the classes agree")
print(f"{sizes[0]:,} bytes in FP32, {sizes[1]:,} in FP16")
