"""Writes single-node models for script/test-gpu, which probe a GPU's libraries for products, convolutions and pooling.

usage: probe_models.py FOLDER
"""

import pathlib
import sys

import onnx.checker
import onnx.parser

# name: M, K, N, and the number of products of a batched one
PRODUCTS = {
    "1x1x1": (1, 1, 1, 1),
    "odd": (37, 53, 29, 1),
    "mlp": (32, 784, 128, 1),
    "square": (1024, 1024, 1024, 1),
    "vocabulary": (1024, 256, 2048, 1),
    "long": (64, 65536, 64, 1),
    "attention": (128, 64, 128, 32),
    "many": (8, 8, 8, 65536),
}

# name: N, C, H, W, M, kernel, stride, pad, dilation, group
CONVOLUTIONS = {
    "first": (16, 3, 128, 128, 64, 7, 2, 3, 1, 1),
    "3x3": (16, 64, 32, 32, 64, 3, 1, 1, 1, 1),
    "3x3-strided": (16, 64, 32, 32, 128, 3, 2, 1, 1, 1),
    "1x1": (16, 256, 16, 16, 64, 1, 1, 0, 1, 1),
    "1x1-strided": (16, 256, 16, 16, 512, 1, 2, 0, 1, 1),
    "5x5": (64, 32, 14, 14, 64, 5, 1, 2, 1, 1),
    "depthwise": (16, 96, 32, 32, 96, 3, 1, 1, 1, 96),
    "depthwise-strided": (16, 96, 32, 32, 96, 3, 2, 1, 1, 96),
    "grouped": (16, 64, 32, 32, 64, 3, 1, 1, 1, 4),
    "dilated": (16, 32, 32, 32, 32, 3, 1, 2, 2, 1),
    "odd-channels": (3, 5, 17, 19, 7, 3, 1, 1, 1, 1),
    "patches": (16, 3, 128, 128, 192, 16, 16, 0, 1, 1),
    "one-pixel": (8, 32, 1, 1, 16, 1, 1, 0, 1, 1),
}

# name: operator, N, C, H, W, attributes
POOLS = {
    "max-2x2": ("MaxPool", 64, 32, 28, 28, "kernel_shape = [2, 2], strides = [2, 2]"),
    "max-3x3": ("MaxPool", 16, 64, 64, 64, "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]"),
    "max-odd": ("MaxPool", 3, 5, 17, 19, "kernel_shape = [3, 2], strides = [1, 2]"),
    "average": ("AveragePool", 16, 64, 16, 16, "kernel_shape = [2, 2], strides = [2, 2]"),
    "global": ("GlobalAveragePool", 16, 512, 7, 7, ""),
    "many-images": ("MaxPool", 70000, 1, 4, 4, "kernel_shape = [2, 2], strides = [2, 2]"),
}


def model(signature, node):
    header = '<ir_version: 8, opset_import: ["" : 17]>'
    return onnx.parser.parse_model(f"{header} probe ({signature}) => (float y) {{ y = {node} }}")


def models():
    for name, (m, k, n, count) in PRODUCTS.items():
        batch = f"{count}, " if count > 1 else ""
        yield f"product-{name}", model(f"float[{batch}{m}, {k}] a, float[{batch}{k}, {n}] b", "MatMul(a, b)")
    for name, (n, c, h, w, m, kernel, stride, pad, dilation, group) in CONVOLUTIONS.items():
        attributes = (f"kernel_shape = [{kernel}, {kernel}], strides = [{stride}, {stride}], "
                      f"pads = [{pad}, {pad}, {pad}, {pad}], dilations = [{dilation}, {dilation}], group = {group}")  # fmt: skip
        yield f"convolution-{name}", model(
            f"float[{n}, {c}, {h}, {w}] x, float[{m}, {c // group}, {kernel}, {kernel}] w, float[{m}] b",
            f"Conv <{attributes}> (x, w, b)")  # fmt: skip
    for name, (op, n, c, h, w, attributes) in POOLS.items():
        yield f"pool-{name}", model(f"float[{n}, {c}, {h}, {w}] x", f"{op} {f'<{attributes}>' if attributes else ''} (x)")


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in models():
        onnx.checker.check_model(made)
        onnx.save(made, folder / f"{name}.onnx")


if __name__ == "__main__":
    main()
