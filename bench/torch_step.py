"""Times eager PyTorch training steps in fp32 on one batch, and prints {"median_ms": ..., "steps": ...} as JSON.

usage: torch_step.py {mlp,lenet} --threads N --steps N
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn


def mlp():
    """models/mnist_mlp.onnx and its training batch."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)), (32, 784)


def lenet():
    """models/mnist_lenet.onnx and its training batch."""
    network = nn.Sequential(
        nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10))  # fmt: skip
    return network, (64, 1, 28, 28)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=("mlp", "lenet"))
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--warm-up", type=int, default=50)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    network, shape = {"mlp": mlp, "lenet": lenet}[arguments.model]()
    x, y = torch.rand(shape), torch.randint(0, 10, (shape[0],))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    loss_function = nn.CrossEntropyLoss()

    times = []
    for _ in range(arguments.warm_up + arguments.steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = loss_function(network(x), y)
        loss.backward()
        optimizer.step()
        loss.item()
        times.append((time.perf_counter() - start) * 1e3)
    times = times[arguments.warm_up :]
    print(json.dumps({"median_ms": statistics.median(times), "steps": len(times)}))


if __name__ == "__main__":
    main()
