"""Times PyTorch training steps of one of the networks and prints JSON: the fastest and the median step, the first loss,
the peak resident memory, and the time from the start of the process to the end of the first step.

usage: torch_network_step.py NAME --threads N --seconds S [--batch N] [--precision fp32|bf16|fp16] [--device cpu|cuda]
       [--compile]

On a GPU, images use the channels-last format, and FP16 training uses a GradScaler. The peak memory is that of the host.
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
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    network = NETWORKS[arguments.name]
    on_gpu = arguments.device == "cuda"
    module, x, y = (part.to(arguments.device) for part in make(arguments.name, arguments.batch))
    if on_gpu and x.dim() == 4:
        module, x = module.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    forward = torch.compile(module) if arguments.compile else module
    optimizer = OPTIMIZERS[network.optimizer](module.parameters(), **network.hyperparameters())
    half = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[arguments.precision]
    scaler = torch.amp.GradScaler(arguments.device, enabled=half == torch.float16)

    losses, times = [], []
    first = end = None
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(arguments.device, half, enabled=half is not None):
            output = forward(x)
        loss = torch.nn.functional.cross_entropy(output.float().flatten(0, -2), y.flatten())
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
        if on_gpu:
            torch.cuda.synchronize()
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
