"""A torch.nn.Module that computes an ONNX graph eagerly, one torch function per node.

The graph is an exported model after halfstep's own passes have bound shapes and folded constants
(`halfstep train --dump-passes`, stage "canonicalize"). This removes exporters' shape arithmetic, which PyTorch never
executed. LayerNormalization, Gelu, Softmax, RNN and so on are single calls of torch.nn.functional, as in the exported
network, so eager PyTorch does no more work here than there.
"""

import numpy
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper

STATE = "ai.halfstep.state."  # prefix of the metadata with the names of parameters


def same(function):
    return lambda node, *inputs: function(*inputs)


def pads_of(node):
    """Symmetric padding, or None."""
    pads = node.get("pads", [0, 0])
    half = len(pads) // 2
    return pads[:half] if pads[:half] == pads[half:] else None


def pad_input(node, x, value=0.0):
    """The input with the padding that the torch function does not support, and the remaining padding for that function."""
    symmetric = pads_of(node)
    if symmetric is not None:
        return x, symmetric if any(symmetric) else 0
    pads, half = node["pads"], len(node["pads"]) // 2
    return F.pad(x, [p for axis in reversed(range(half)) for p in (pads[axis], pads[axis + half])], value=value), 0


def conv(node, x, weight, bias=None):
    x, padding = pad_input(node, x)
    function = (F.conv1d, F.conv2d, F.conv3d)[weight.dim() - 3]
    return function(x, weight, bias, node.get("strides", 1), padding, node.get("dilations", 1), node.get("group", 1))


def conv_transpose(node, x, weight, bias=None):
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[weight.dim() - 3]
    return function(x, weight, bias, node.get("strides", 1), pads_of(node), node.get("output_padding", 0),
                    node.get("group", 1), node.get("dilations", 1))  # fmt: skip


def max_pool(node, x):
    x, padding = pad_input(node, x, float("-inf"))
    return F.max_pool2d(x, node["kernel_shape"], node.get("strides", 1), padding, node.get("dilations", 1),
                        bool(node.get("ceil_mode", 0)))  # fmt: skip


def gemm(node, a, b, c=None):
    a = a.t() if node.get("transA") else a
    if not node.get("transB"):
        b = b.t()
    return F.linear(a, b, c)


def batch_norm(node, x, scale, bias, mean, variance):
    return F.batch_norm(x, mean, variance, scale, bias, True, 1 - node.get("momentum", 0.9), node.get("epsilon", 1e-5))


def layer_norm(node, x, scale, bias=None):
    return F.layer_norm(x, x.shape[node.get("axis", -1):], scale, bias, node.get("epsilon", 1e-5))


def slice_(node, x, starts, ends, axes=None, steps=None):
    index = [slice(None)] * x.dim()
    axes = range(len(starts)) if axes is None else axes.tolist()
    steps = [1] * len(starts) if steps is None else steps.tolist()
    for axis, start, end, step in zip(axes, starts.tolist(), ends.tolist(), steps):
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


def gather(node, x, indices):
    axis = node.get("axis", 0)
    if indices.dim() == 0:
        return x.select(axis, int(indices))
    if axis == 0 and x.is_floating_point():
        return F.embedding(indices, x)
    return x.index_select(axis, indices.flatten()).unflatten(axis, indices.shape)


def gather_nd(node, x, indices):
    if node.get("batch_dims", 0):
        raise SystemExit("GatherND with batch_dims: no torch function for it")
    return x[indices.unbind(-1)]


def rnn(node, x, weight, recurrence, bias=None, lengths=None, initial=None):
    hidden = recurrence.shape[-1]
    both = torch.zeros(2 * hidden) if bias is None else bias[0]
    state = x.new_zeros(1, x.shape[1], hidden) if initial is None else initial
    y, last = torch.rnn_tanh(x, state, [weight[0], recurrence[0], both[:hidden], both[hidden:]], True, 1, 0.0, True,
                             False, False)  # fmt: skip
    return y.unsqueeze(1), last


def torch_gates(weights):
    """Rows of four gates in PyTorch's order (input, forget, cell, output), from ONNX's (input, output, forget, cell)."""
    i, o, f, c = weights.chunk(4)
    return torch.cat((i, f, c, o))


def lstm(node, x, weight, recurrence, bias=None, lengths=None, hidden=None, cell=None, peepholes=None):
    directions, size = recurrence.shape[0], recurrence.shape[-1]
    zeros = x.new_zeros(directions, x.shape[1], size)
    parameters = []
    for d in range(directions):
        both = torch.zeros(8 * size) if bias is None else bias[d]
        parameters += [torch_gates(p) for p in (weight[d], recurrence[d], both[: 4 * size], both[4 * size :])]
    state = [zeros if s is None else s for s in (hidden, cell)]
    y, last, last_cell = torch.lstm(x, state, parameters, True, 1, 0.0, True, directions == 2, False)
    return y.unflatten(2, (directions, size)).transpose(1, 2), last, last_cell


def reshape(node, x, shape):
    sizes = shape.tolist()
    if not node.get("allowzero"):
        sizes = [size or x.shape[i] for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def reduce_mean(node, x, axes=None):
    return x.mean(tuple(axes.tolist()), bool(node.get("keepdims", 1)))


def resize(node, x, roi=None, scales=None, sizes=None):
    size = sizes.tolist()[2:] if sizes is not None else [int(d * s) for d, s in zip(x.shape[2:], scales.tolist()[2:])]
    mode = node.get("mode", b"nearest").decode()
    return F.interpolate(x, size, mode="bilinear" if mode == "linear" else mode)


def clip(node, x, low=None, high=None):
    return torch.clamp(x, None if low is None else float(low), None if high is None else float(high))


OPERATORS = {
    "Add": same(torch.add), "Sub": same(torch.sub), "Mul": same(torch.mul), "Div": same(torch.div),
    "Pow": same(lambda x, e: torch.pow(x, e.item() if e.numel() == 1 else e)), "Tanh": same(torch.tanh),
    "Sigmoid": same(torch.sigmoid), "Relu": same(F.relu), "Clip": clip, "Erf": same(torch.erf),
    "Sqrt": same(torch.sqrt), "Elu": lambda node, x: F.elu(x, node.get("alpha", 1.0)),
    "LeakyRelu": lambda node, x: F.leaky_relu(x, node.get("alpha", 0.01)),
    "Gelu": lambda node, x: F.gelu(x, approximate=node.get("approximate", b"none").decode()),
    "Softmax": lambda node, x: F.softmax(x, node.get("axis", -1)), "MatMul": same(torch.matmul), "Gemm": gemm,
    "Conv": conv, "ConvTranspose": conv_transpose, "MaxPool": max_pool,
    "GlobalAveragePool": same(lambda x: F.adaptive_avg_pool2d(x, 1)), "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "InstanceNormalization": lambda node, x, s, b: F.instance_norm(x, weight=s, bias=b, eps=node.get("epsilon", 1e-5)),
    "Dropout": lambda node, x, ratio=None, *_: F.dropout(x, 0.5 if ratio is None else float(ratio)),
    "Reshape": reshape, "Flatten": same(lambda x: x.flatten(1)),
    "Transpose": lambda node, x: x.permute(node["perm"]), "Squeeze": same(lambda x, axes: x.squeeze(axes.tolist())),
    "Unsqueeze": same(lambda x, axes: x.unsqueeze(int(axes))), "Slice": slice_, "Gather": gather,
    "GatherND": gather_nd, "GatherElements": lambda node, x, i: torch.gather(x, node.get("axis", 0), i),
    "Concat": lambda node, *x: torch.cat(x, node["axis"]), "Expand": same(lambda x, shape: x.expand(shape.tolist())),
    "Where": same(torch.where), "Equal": same(torch.eq), "Not": same(torch.logical_not), "IsNaN": same(torch.isnan),
    "CumSum": same(lambda x, axis: torch.cumsum(x, int(axis))), "ReduceMean": reduce_mean, "Resize": resize,
    "Cast": lambda node, x: x.to(TYPES[node["to"]]), "Identity": same(lambda x: x), "RNN": rnn,
    "LSTM": lstm, "Split": lambda node, x, sizes: torch.split(x, sizes.tolist(), node.get("axis", 0)),
}  # fmt: skip
TYPES = {onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.INT64: torch.int64,
         onnx.TensorProto.INT32: torch.int32, onnx.TensorProto.BOOL: torch.bool}  # fmt: skip


def tensor_of(proto):
    return torch.from_numpy(numpy.array(numpy_helper.to_array(proto)))


class OnnxModule(torch.nn.Module):
    """Has the parameters that halfstep trains. Omits a Softmax at the end of the graph: it is part of the loss."""

    def __init__(self, path):
        super().__init__()
        model = onnx.load(path)
        graph = model.graph
        trained = {p.key[len(STATE):] for p in model.metadata_props if p.key.startswith(STATE)}
        nodes = list(graph.node)
        self.output = graph.output[0].name
        if nodes[-1].op_type == "Softmax" and nodes[-1].output[0] == self.output:
            self.output = nodes.pop().input[0]
        self.input = graph.input[0].name
        self.fixed, self.trained = {}, {}
        for initializer in graph.initializer:
            name, value = initializer.name, tensor_of(initializer)
            if name in trained and not name.endswith(("running_mean", "running_var")):
                self.trained[name] = torch.nn.Parameter(value)
                self.register_parameter(name.replace(".", "/"), self.trained[name])
            else:
                self.fixed[name] = value
        self.steps = []
        for node in nodes:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant":
                self.fixed[node.output[0]] = tensor_of(attributes["value"])
                continue
            if node.op_type not in OPERATORS:
                raise SystemExit(f"{path}: no torch function for {node.op_type}: add it to {__file__}")
            self.steps.append((OPERATORS[node.op_type], attributes, list(node.input), list(node.output)))

    def forward(self, x):
        values = {**self.fixed, **self.trained, self.input: x, "": None}
        for function, attributes, inputs, outputs in self.steps:
            result = function(attributes, *(values[name] for name in inputs))
            if isinstance(result, tuple):
                values.update(zip(outputs, result))
            else:
                values[outputs[0]] = result
        return values[self.output]
