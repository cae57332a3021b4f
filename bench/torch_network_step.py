"""Times PyTorch training steps of one of the networks and prints JSON: the fastest and the median step, the first loss,
the peak of resident memory, and the time from the start of the process to the end of the first step.

usage: torch_network_step.py NAME --threads N --seconds S [--batch N] [--precision fp32|bf16] [--compile]
"""

import time

START = time.time()

import argparse
import json
import resource
import statistics

import torch

from networks import NETWORKS, make

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    network = NETWORKS[arguments.name]
    module, x, y = make(arguments.name, arguments.batch)
    forward = torch.compile(module) if arguments.compile else module
    optimizer = OPTIMIZERS[network.optimizer](module.parameters(), **network.hyperparameters())
    half = arguments.precision == "bf16"

    losses, times = [], []
    first = end = None
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            output = forward(x)
        loss = torch.nn.functional.cross_entropy(output.float().flatten(0, -2), y.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        times.append((time.perf_counter() - start) * 1e3)
        if first is None:
            first = time.time() - START
            end = time.perf_counter() + arguments.seconds
    warm = times[1:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"best_ms": min(warm), "median_ms": statistics.median(warm), "steps": len(times),
                      "first_loss": losses[0], "peak_bytes": peak, "first_step_s": first}))  # fmt: skip


if __name__ == "__main__":
    main()
