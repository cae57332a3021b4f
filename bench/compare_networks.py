"""Training steps of the networks of networks.py: halfstep against PyTorch, eager and compiled, in alternating runs.

For every row: the fastest step of all runs, the peak resident memory, and the time from the start of the process to
the end of the first step. Losses of the first step must agree. Writes results.json, RESULTS.md and a chart.

The memory of this process counts for its child processes until they exec, so it does not import torch.
"""

import collections
import datetime
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

from compare import ROOT

RESULTS = ROOT / "bench"
FIRST_LOSS = {"fp32": 1e-3, "bf16": 3e-2, "fp16": 1e-2}  # relative; half precisions are used in different places
MODES = ("halfstep", "eager", "compile")


def measured(command, threads):
    """Runs a process; returns its output, seconds and peak memory."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    child = subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, errors = child.stdout.read(), child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(map(str, command))}\nended with status {status}:\n{errors.decode()[-2000:]}")
    return output.decode(), usage.ru_maxrss * 1024


def network_of(folder):
    return json.loads((folder / "network.json").read_text())


def exported(name, batch, models):
    """The folder of a network's model and data, created if missing."""
    folder = models / (f"{name}-{batch}" if batch else name)
    if not (folder / "network.json").exists():
        script = ROOT / "bench" / "networks.py"
        subprocess.run([sys.executable, script, "--export", name, folder, *(["--batch", str(batch)] if batch else [])],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    return folder


def halfstep_run(program, folder, executor, precision, threads, seconds, known):
    """`known`: step time of an earlier run, which determines the number of steps."""
    flags = [text for name, value in network_of(folder)["flags"].items() for text in (f"--{name}", str(value))]
    steps = 6 if known is None else int(min(max(6, seconds * 1e3 / known), 5000))
    log = folder / "log.jsonl"
    log.unlink(missing_ok=True)
    start = time.time()
    _, peak = measured(
        [program, "train", folder / "model.onnx", "--data", f"{folder / 'x.npy'},{folder / 'y.npy'}", "--no-shuffle",
         "--loss", "softmax_cross_entropy", *flags, "--steps", steps, "--precision", precision,
         "--executor", executor, "--threads", threads, "--log", log], threads)  # fmt: skip
    total = time.time() - start
    records = [json.loads(line) for line in log.read_text().splitlines()]
    times = [record["ms"] for record in records if "ms" in record]
    losses = [record["loss"] for record in records if "ms" in record]
    # The log has no timestamps: time not spent in steps precedes the first one, except for the end of the process.
    return {"best_ms": min(times[1:]), "first_loss": losses[0], "peak_bytes": peak,
            "first_step_s": total - sum(times[1:]) / 1e3}  # fmt: skip


def torch_run(name, device, precision, threads, seconds, batch, compile):
    script = ROOT / "bench" / "torch_network_step.py"
    command = [sys.executable, script, name, "--threads", threads, "--seconds", seconds, "--precision", precision,
               "--device", device]  # fmt: skip
    command += ["--batch", batch] if batch else []
    command += ["--compile"] if compile else []
    return json.loads(measured(command, threads)[0].splitlines()[-1])


def merged(runs):
    """The best of several runs; also minimum memory and start time."""
    best = {key: min(run[key] for run in runs) for key in ("best_ms", "peak_bytes", "first_step_s")}
    return best | {"first_loss": runs[-1]["first_loss"], "runs_ms": [run["best_ms"] for run in runs]}


def compare_network(name, folder, arguments, batch, precision):
    runs = collections.defaultdict(list)
    device = "cuda" if arguments.executor == "cudnn" else "cpu"
    # PyTorch trains in FP16 only on GPUs.
    peers = [mode for mode in MODES if mode in arguments.peers and not (precision == "fp16" and device == "cpu")]
    for _ in range(arguments.runs):
        for mode in ["halfstep", *peers]:
            if mode == "halfstep":
                known = runs[mode][-1]["best_ms"] if runs[mode] else None
                run = halfstep_run(arguments.halfstep, folder, arguments.executor, precision, arguments.threads,
                                   arguments.seconds, known)  # fmt: skip
            else:
                run = torch_run(name, device, precision, arguments.threads, arguments.seconds, batch,
                                mode == "compile")  # fmt: skip
            runs[mode].append(run)
    found = {mode: merged(list_) for mode, list_ in runs.items()}
    for mode, result in found.items():
        expected = found["halfstep"]["first_loss"]
        if abs(result["first_loss"] - expected) > FIRST_LOSS[precision] * abs(expected):
            raise RuntimeError(f"{name}, {precision}: first loss {expected}, {mode}'s {result['first_loss']}: "
                               "not the same model")  # fmt: skip
    return found


def cell(found, mode, key, scale, digits):
    return f"{found[mode][key] / scale:.{digits}f}" if mode in found else "–"


def row_of(title, precision, found):
    peers = [found[mode]["best_ms"] for mode in found if mode != "halfstep"]
    ratio = f"{found['halfstep']['best_ms'] / min(peers):.2f}" if peers else "–"
    cells = [title, precision]
    cells += [cell(found, mode, "best_ms", 1, 2) for mode in MODES] + [ratio]
    cells += [cell(found, mode, "peak_bytes", 1e6, 0) for mode in MODES[:2]]
    cells += [cell(found, mode, "first_step_s", 1, 2) for mode in MODES]
    return "| " + " | ".join(cells) + " |"


HEAD = """| training step | precision | halfstep, ms | PyTorch eager, ms | compiled, ms | ratio | memory, MB | PyTorch's, MB | \
first step, s | PyTorch eager's, s | compiled, s |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def machine(arguments):
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":")[1].strip()
            break
    else:
        cpu = platform.machine()
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    units = [name for name in ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16") if name in flags]
    version = subprocess.run([arguments.halfstep, "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    return (f"{datetime.date.today()}: {cpu} ({', '.join(units)}), {arguments.threads} threads, {version}, "
            f"PyTorch {importlib.metadata.version('torch')}; {arguments.runs} alternating runs of {arguments.seconds:g} s")  # fmt: skip


def chart(rows, path):
    """Chart of ratios to the fastest peer, one bar per row."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "halfstep"
    names, ratios = zip(*rows)
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(rows) + 1))
    axes.barh(names, ratios)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("time of a training step, fastest of PyTorch eager and compiled = 1")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def write_page(heading, lines, bars, results):
    (RESULTS / "results.json").write_text(json.dumps({"machine": heading, "rows": results}, indent=1) + "\n")
    text = ["# Training steps", "", heading + ".", "", "![ratios](results.svg)", "", HEAD, *lines, "",
            "`script/bench --networks --write` writes this page. The time of a step is the fastest of all runs; the ratio is "
            "to the faster of PyTorch's two. Memory is the peak of the process's resident set, Python and PyTorch's own "
            "included there. The first step's time counts from the start of the process.", ""]  # fmt: skip
    (RESULTS / "RESULTS.md").write_text("\n".join(text))
    if bars:
        chart(bars, RESULTS / "results.svg")


def compare_networks(arguments):
    models = arguments.folder
    models.mkdir(parents=True, exist_ok=True)
    heading = machine(arguments)
    print(heading + "\n\n" + HEAD, flush=True)
    lines, bars, results, left_out = [], [], [], 0
    names = subprocess.run([sys.executable, ROOT / "bench" / "networks.py"], check=True, capture_output=True, text=True)
    chosen = arguments.networks or names.stdout.split()
    for name, batch, precision in itertools.product(chosen, arguments.batch or [None], arguments.precisions):
        try:
            folder = exported(name, batch, models)
            found = compare_network(name, folder, arguments, batch, precision)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            if len(arguments.batch or []) < 2:
                raise
            # It may not fit the memory: the others still run.
            print(f"{name}, batch {batch}, {precision}: left out: {error}", file=sys.stderr)
            left_out += 1
            continue
        lines.append(row_of(network_of(folder)["title"], precision, found))
        print(lines[-1], flush=True)
        results.append({"network": name, "batch": batch, "precision": precision, "found": found})
        peers = [result["best_ms"] for mode, result in found.items() if mode != "halfstep"]
        if peers:
            bars.append((f"{network_of(folder)['title']}, {precision}", found["halfstep"]["best_ms"] / min(peers)))
    if arguments.write:
        write_page(heading, lines, bars, results)
    if left_out:
        sys.exit(f"{left_out} rows were left out")
