"""Writes the networks of the benchmark (bench/networks.py) and a U-Net without PyTorch: every layer with its shapes,
and weights that are all the same, since kernels and their times do not depend on them. Layers of a transformer repeat:
two.

usage: probe_networks.py FOLDER [--data ROWS]

NAME.onnx has the batch size open; NAME.json tells the batch of the benchmark. With --data there are NAME.x.npy and
NAME.y.npy, too, all zeros.
"""

import json
import pathlib
import sys

import numpy
import onnx
from onnx import TensorProto, helper


class Model:
    """A graph under construction: values are names, and the shape of each is known."""

    def __init__(self, shape, dtype=TensorProto.FLOAT):
        self.nodes, self.weights, self.shapes = [], [], {"x": [None, *shape]}
        self.input = helper.make_tensor_value_info("x", dtype, ["N", *shape])

    def weight(self, *shape, value=0.01):
        name = f"layer{len(self.weights)}.weight"
        self.weights.append(onnx.numpy_helper.from_array(numpy.full(shape, value, numpy.float32), name))
        return name

    def constant(self, value, dtype=numpy.int64):
        name = f"constant{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(numpy.array(value, dtype), name))
        return name

    def op(self, op, inputs, shape, outputs=1, **attributes):
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"/{op}_{len(self.nodes)}", **attributes))
        self.shapes[names[0]] = shape
        return names[0]

    def convolution(self, x, filters, side, stride=1, group=1, pad=None, bias=False):
        channels, *extents = self.shapes[x][1:]
        pad = side // 2 if pad is None else pad
        inputs = [x, self.weight(filters, channels // group, side, side), *([self.weight(filters)] if bias else [])]
        return self.op("Conv", inputs, [None, filters, *((e + 2 * pad - side) // stride + 1 for e in extents)],
                       kernel_shape=[side, side], strides=[stride, stride], pads=[pad] * 4, group=group)  # fmt: skip

    def normalized(self, x, activation="Relu"):
        channels = self.shapes[x][1]
        statistics = [self.weight(channels, value=value) for value in (1, 0, 0, 1)]
        x = self.op("BatchNormalization", [x, *statistics], self.shapes[x])
        if activation == "Clip":
            limits = [self.constant(limit, numpy.float32) for limit in (0, 6)]
            return self.op("Clip", [x, *limits], self.shapes[x])
        return self.op(activation, [x], self.shapes[x]) if activation else x

    def pool(self, x, side, stride, pad=0):
        n, c, *extents = self.shapes[x]
        return self.op("MaxPool", [x], [n, c, *((e + 2 * pad - side) // stride + 1 for e in extents)],
                       kernel_shape=[side, side], strides=[stride, stride], pads=[pad] * 4)  # fmt: skip

    def flat(self, x):
        size = int(numpy.prod(self.shapes[x][1:]))
        return self.op("Flatten", [x], [None, size])

    def dense(self, x, features):
        return self.op("Gemm", [x, self.weight(self.shapes[x][-1], features), self.weight(features)],
                       [*self.shapes[x][:-1], features])  # fmt: skip

    def linear(self, x, features):
        """Of the last axis of a tensor of any rank."""
        shape = [*self.shapes[x][:-1], features]
        return self.op("Add", [self.op("MatMul", [x, self.weight(self.shapes[x][-1], features)], shape),
                               self.weight(features)], shape)  # fmt: skip

    def add(self, a, b):
        return self.op("Add", [a, b], self.shapes[a])

    def layer_norm(self, x):
        features = self.shapes[x][-1]
        return self.op("LayerNormalization", [x, self.weight(features, value=1), self.weight(features)], self.shapes[x])

    def reshape(self, x, *shape):
        return self.op("Reshape", [x, self.constant([0, *shape])], [None, *shape])

    def transposed(self, x, *order):
        return self.op("Transpose", [x], [self.shapes[x][i] for i in order], perm=order)

    def attention(self, x, heads, causal):
        length, features = self.shapes[x][1:]
        parts = [self.reshape(self.linear(x, features), length, heads, features // heads) for _ in range(3)]
        q, k, v = (self.transposed(p, *order) for p, order in zip(parts, ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))))
        scores = [None, heads, length, length]
        s = self.op("MatMul", [q, k], scores)
        s = self.op("Mul", [s, self.constant((features // heads) ** -0.5, numpy.float32)], scores)
        if causal:
            mask = numpy.triu(numpy.full((length, length), -1e9), 1)
            s = self.op("Add", [s, self.constant(mask, numpy.float32)], scores)
        p = self.op("Softmax", [s], scores, axis=-1)
        mixed = self.op("MatMul", [p, v], [None, heads, length, features // heads])
        return self.linear(self.reshape(self.transposed(mixed, 0, 2, 1, 3), length, features), features)

    def transformer(self, x, heads, hidden, first, approximate="none", causal=False, layers=2):
        """`first`: the normalizations are before, not behind, what they belong to."""
        for _ in range(layers):
            features = self.shapes[x][-1]
            for part in ("attention", "feed-forward"):
                y = self.layer_norm(x) if first else x
                if part == "attention":
                    y = self.attention(y, heads, causal)
                else:
                    y = self.linear(y, hidden)
                    y = self.linear(self.op("Gelu", [y], self.shapes[y], approximate=approximate), features)
                x = self.add(x, y) if first else self.layer_norm(self.add(x, y))
        return x

    def embedded(self, words, features):
        length = self.shapes["x"][1]
        x = self.op("Gather", [self.weight(words, features), "x"], [None, length, features])
        return self.op("Add", [x, self.weight(1, length, features)], self.shapes[x])

    def finished(self, y):
        output = helper.make_tensor_value_info(y, TensorProto.FLOAT, ["N", *self.shapes[y][1:]])
        graph = helper.make_graph(self.nodes, "network", [self.input], [output], self.weights)
        return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def pooled_classes(m, x, classes):
    x = m.op("GlobalAveragePool", [x], [*m.shapes[x][:2], 1, 1])
    return m.finished(m.dense(m.flat(x), classes))


def resnet(blocks, is_bottleneck):
    m = Model([3, 128, 128])
    x = m.pool(m.normalized(m.convolution("x", 64, 7, 2)), 3, 2, 1)
    for stage, count in enumerate(blocks):
        width = 64 << stage
        out = width * 4 if is_bottleneck else width
        for i in range(count):
            stride = 2 if stage and not i else 1
            if is_bottleneck:
                y = m.normalized(m.convolution(x, width, 1))
                y = m.normalized(m.convolution(y, width, 3, stride))
                y = m.normalized(m.convolution(y, out, 1), None)
            else:
                y = m.normalized(m.convolution(x, width, 3, stride))
                y = m.normalized(m.convolution(y, out, 3), None)
            if m.shapes[x] != m.shapes[y]:
                x = m.normalized(m.convolution(x, out, 1, stride), None)
            x = m.op("Relu", [m.add(y, x)], m.shapes[y])
    return pooled_classes(m, x, 1000)


def mobilenetv2():
    m = Model([3, 128, 128])
    x = m.normalized(m.convolution("x", 32, 3, 2), "Clip")
    for factor, filters, count, first in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                          (6, 160, 3, 2), (6, 320, 1, 1)):  # fmt: skip
        for i in range(count):
            channels = m.shapes[x][1]
            y = m.normalized(m.convolution(x, channels * factor, 1), "Clip") if factor > 1 else x
            y = m.normalized(m.convolution(y, channels * factor, 3, first if not i else 1, channels * factor), "Clip")
            y = m.normalized(m.convolution(y, filters, 1), None)
            x = m.add(x, y) if m.shapes[x] == m.shapes[y] else y
    return pooled_classes(m, m.normalized(m.convolution(x, 1280, 1), "Clip"), 1000)


def unet():
    m = Model([3, 64, 64])
    block = lambda x, filters: m.normalized(m.convolution(m.normalized(m.convolution(x, filters, 3)), filters, 3))
    x, skips = block("x", 32), []
    for filters in (64, 128, 256):
        skips.append(x)
        x = block(m.pool(x, 2, 2), filters)
    for skip in reversed(skips):
        channels, *extents = m.shapes[skip][1:]
        up = m.op("ConvTranspose", [x, m.weight(m.shapes[x][1], channels, 2, 2), m.weight(channels)], m.shapes[skip],
                  strides=[2, 2])  # fmt: skip
        x = block(m.op("Concat", [skip, up], [None, 2 * channels, *extents], axis=1), channels)
    return m.finished(m.convolution(x, 4, 1, bias=True))


def gpt2():
    m = Model([128], TensorProto.INT64)
    x = m.transformer(m.embedded(2048, 256), 4, 1024, True, "tanh", causal=True)
    return m.finished(m.linear(m.layer_norm(x), 2048))


def bert():
    m = Model([128], TensorProto.INT64)
    x = m.transformer(m.layer_norm(m.embedded(30522, 768)), 12, 3072, False)
    x = m.op("Gather", [x, m.constant(0)], [None, 768], axis=1)
    return m.finished(m.dense(m.op("Tanh", [m.dense(x, 768)], [None, 768]), 10))


def vit():
    m = Model([3, 128, 128])
    x = m.convolution("x", 192, 16, 16, pad=0, bias=True)
    x = m.transposed(m.reshape(x, 192, 64), 0, 2, 1)
    x = m.transformer(m.op("Add", [x, m.weight(1, 64, 192)], m.shapes[x]), 3, 768, True)
    x = m.op("ReduceMean", [m.layer_norm(x), m.constant([1])], [None, 192], keepdims=0)
    return m.finished(m.dense(x, 1000))


def lstm():
    m = Model([64], TensorProto.INT64)
    x = m.transposed(m.op("Gather", [m.weight(2048, 128), "x"], [None, 64, 128]), 1, 0, 2)
    for _ in range(2):
        features = m.shapes[x][-1]
        weights = [m.weight(1, 1024, features), m.weight(1, 1024, 256), m.weight(1, 2048)]
        y = m.op("LSTM", [x, *weights], [64, 1, None, 256], hidden_size=256)
        x = m.op("Squeeze", [y, m.constant([1])], [64, None, 256])
    return m.finished(m.linear(m.transposed(x, 1, 0, 2), 2048))


# name: how it is made, and the batch of the benchmark
NETWORKS = {
    "resnet18": (lambda: resnet((2, 2, 2, 2), False), 16),
    "resnet50": (lambda: resnet((3, 4, 6, 3), True), 8),
    "mobilenetv2": (mobilenetv2, 16),
    "unet": (unet, 8),
    "gpt2": (gpt2, 8),
    "bert": (bert, 8),
    "vit": (vit, 16),
    "lstm": (lstm, 16),
}


def write_data(model, path, rows):
    shapes = [[e.dim_value or rows for e in value.type.tensor_type.shape.dim]
              for value in (model.graph.input[0], model.graph.output[0])]  # fmt: skip
    is_tokens = model.graph.input[0].type.tensor_type.elem_type == TensorProto.INT64
    numpy.save(path.with_suffix(".x.npy"), numpy.zeros(shapes[0], numpy.int64 if is_tokens else numpy.float32))
    of_classes = [rows, *shapes[1][2:]] if len(shapes[1]) == 4 else shapes[1][:-1]
    numpy.save(path.with_suffix(".y.npy"), numpy.zeros(of_classes, numpy.int64))


def main():
    folder = pathlib.Path(sys.argv[1])
    rows = int(sys.argv[3]) if sys.argv[2:3] == ["--data"] else 0
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, batch) in NETWORKS.items():
        model = make()
        onnx.checker.check_model(model, full_check=True)
        path = folder / f"{name}.onnx"
        onnx.save(model, path)
        path.with_suffix(".json").write_text(json.dumps({"batch": batch}) + "\n")
        if rows:
            write_data(model, path, rows)


if __name__ == "__main__":
    main()
