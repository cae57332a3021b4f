"""Times eager PyTorch training steps of an exported model in fp32 on its batch, and prints JSON: the median time, and the
first loss, which verifies that it is the same model.

usage: torch_model_step.py GRAPH.onnx CASE_FOLDER --threads N --seconds S
"""

import argparse
import json
import pathlib
import statistics
import time

import numpy
import torch
import torch.nn.functional as F

from onnx_module import OnnxModule


def loss_of(name, output, y):
    if name == "mean_squared_error":
        return F.mse_loss(output, y)
    return F.cross_entropy(output.flatten(0, -2), y.flatten())


def optimizer_of(expected, parameters):
    if expected["optimizer"] == "sgd":
        return torch.optim.SGD(parameters, expected["lr"], expected.get("momentum", 0),
                               weight_decay=expected.get("weight_decay", 0))  # fmt: skip
    return torch.optim.Adam(parameters, expected["lr"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("graph")
    parser.add_argument("case", type=pathlib.Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    expected = json.loads((arguments.case / "expected.json").read_text())
    x, y = (torch.from_numpy(numpy.load(arguments.case / f"{name}.npy")) for name in "xy")
    network = OnnxModule(arguments.graph)
    optimizer = optimizer_of(expected, network.parameters())

    losses, times = [], []
    end = time.perf_counter() + arguments.seconds
    while len(times) < 15 or time.perf_counter() < end:
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = loss_of(expected["loss"], network(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        times.append((time.perf_counter() - start) * 1e3)
    warm = times[len(times) // 3 :]
    print(json.dumps({"median_ms": statistics.median(warm), "steps": len(times), "first_loss": losses[0]}))


if __name__ == "__main__":
    main()
