"""Conversion to FP16 by halfstep, onnxconverter-common and ModelOpt AutoCast, side by side.

Every model is converted by each, keeping the types of inputs and outputs, loaded into ONNX Runtime (CPU), and run on
the same inputs as its source: the batch `x.npy` in the model's folder if present, else random numbers with a fixed seed.
"calibrated" is halfstep with these inputs as `--calibrate`; ModelOpt measures with its own random inputs.
The error is the maximum difference of an output's elements relative to the output's largest value; in parentheses its
median over batches with the distribution of the first (a comparison on a single batch is subject to chance).
Seconds are from file to file, without starting a process, importing Python packages and loading ONNX's operator
schemas, and on a file system in memory if available, because only halfstep waits until the file is on disk.
"process" includes all of that, once.
"""

import argparse
import logging
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
import onnx
import onnxruntime as ort

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEMORY = "/dev/shm"  # file system in memory on Linux
NUMPY_TYPES = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_,
}  # fmt: skip


def by_halfstep(program, *flags):
    """Converts in a separate process, which reports the time of the conversion."""

    def convert(source, target):
        command = [program, "convert", source, "-o", target, "--precision", "fp16", "--keep-io-types", *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return float(re.search(r"in ([0-9.]+) s$", done.stdout.strip()).group(1))

    return convert


def by_onnxconverter_common(source, target):
    from onnxconverter_common import float16

    onnx.save(float16.convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def by_modelopt(source, target):
    from modelopt.onnx.autocast import convert_to_mixed_precision

    onnx.save(convert_to_mixed_precision(str(source), low_precision_type="fp16", keep_io_types=True), target)


PEERS = {"onnxconverter-common": by_onnxconverter_common, "ModelOpt": by_modelopt}


def inputs_of(session, batch):
    rng = np.random.default_rng(0)
    feeds = {}
    for i, value in enumerate(session.get_inputs()):
        dtype = NUMPY_TYPES[value.type]
        if i == 0 and batch is not None:
            feeds[value.name] = np.load(batch).astype(dtype)
            continue
        shape = [extent if isinstance(extent, int) and extent > 0 else 2 for extent in value.shape]
        drawn = rng.standard_normal(shape) if np.issubdtype(dtype, np.floating) else rng.integers(0, 2, shape)
        feeds[value.name] = drawn.astype(dtype)
    return feeds


def draws_like(feeds, count):
    """Random batches with the mean and standard deviation (integers: range) of the first."""
    rng = np.random.default_rng(1)
    draw = lambda x: (rng.normal(x.mean(), x.std(), x.shape) if np.issubdtype(x.dtype, np.floating)
                      else rng.integers(x.min(), int(x.max()) + 1, x.shape)).astype(x.dtype)  # fmt: skip
    return [{name: draw(x) for name, x in feeds.items()} for _ in range(count)]


def session_of(path):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def error_of(expected, actual):
    worst = 0.0
    for a, b in zip(expected, actual):
        if not isinstance(a, np.ndarray) or a.dtype.kind not in "fiub" or a.size == 0:
            continue
        a, b = a.astype(np.float64), b.astype(np.float64)
        finite = np.isfinite(a)
        if not np.isfinite(b[finite]).all():
            return float("inf")
        scale = np.abs(a[finite]).max(initial=0)
        worst = max(worst, np.abs(a - b)[finite].max(initial=0) / (scale or 1))
    return worst


def process_seconds(name, source, target):
    """Time of a Python process that imports a converter and converts one model."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, "--only", name, "--output", target, source], capture_output=True)
    return float("nan") if done.returncode else time.perf_counter() - start


def casts_in(graph):
    return sum((node.op_type == "Cast") + sum(casts_in(a.g) for a in node.attribute if a.HasField("g"))
               for node in graph.node)  # fmt: skip


def measure(convert, source, target, batches, expected, repeats):
    seconds, process = [], 0
    try:
        for _ in range(repeats):
            start = time.perf_counter()
            alone = convert(source, target)  # None unless it ran in a separate process
            process = time.perf_counter() - start
            seconds.append(process if alone is None else alone)
    except Exception as e:  # any exception of a converter is its result
        return {"failed": "does not convert", "why": str(e)}
    try:
        onnx.checker.check_model(str(target), full_check=True)
    except Exception as e:
        return {"failed": "checker refuses", "why": str(e)}
    try:
        session = session_of(target)
        names = [i.name for i in session.get_inputs()]
        errors = [error_of(outputs, session.run(None, {name: feeds[name] for name in names}))
                  for feeds, outputs in zip(batches, expected)]  # fmt: skip
    except Exception as e:
        return {"failed": "does not run", "why": str(e)}
    model = onnx.load(str(target))
    return {"error": errors[0], "median": statistics.median(errors[1:] or errors),
            "size": target.stat().st_size / source.stat().st_size, "seconds": statistics.median(seconds),
            "process": process, "casts": casts_in(model.graph)}  # fmt: skip


def cell(result):
    if "failed" in result:
        return result["failed"]
    return (f"{result['error']:.1e} ({result['median']:.1e}), {result['size']:.2f}x, {1e3 * result['seconds']:.1f} ms, "
            f"{result['casts']} casts")  # fmt: skip


def models_in(paths):
    for path in paths:
        path = pathlib.Path(path)
        yield from [path] if path.is_file() else sorted(path.rglob("*.onnx"))


def summary(results):
    """Summary of the models that a converter converted successfully."""
    done = [r for r in results if "failed" not in r]
    if not done:
        return "none"
    worst = lambda key: max(r[key] for r in done)
    total = lambda key: sum(r[key] for r in done)
    return (f"{len(done)} of {len(results)}; worst: {worst('error'):.1e} ({worst('median'):.1e}), {worst('size'):.2f}x, "
            f"{1e3 * worst('seconds'):.1f} ms; all: {1e3 * total('seconds'):.0f} ms, {total('casts')} casts")  # fmt: skip


def print_comparison(results, peer):
    """Number of models on which halfstep is no worse than the peer, of those that both convert."""
    pairs = [(a, b) for a, b in zip(results["halfstep"], results[peer]) if "failed" not in a and "failed" not in b]
    no_worse = lambda key: sum(a[key] <= b[key] for a, b in pairs)
    print(f"\nNo worse than {peer} on {len(pairs)} models: error {no_worse('error')}, median error {no_worse('median')}, "
          f"size {no_worse('size')}, seconds {no_worse('seconds')}; casts {sum(a['casts'] for a, b in pairs)} "
          f"to {sum(b['casts'] for a, b in pairs)}")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[ROOT / "models"], help="models, or folders with models")
    parser.add_argument("--halfstep", default=ROOT / "build" / "release" / "bin" / "halfstep", help="the program")
    parser.add_argument("--repeats", type=int, default=1, help="number of conversions; the median time is shown")
    parser.add_argument("--draws", type=int, default=20, help="number of batches; the median error is shown")
    parser.add_argument("--processes", action="store_true", help="also time a whole process for every conversion")
    parser.add_argument("--verbose", action="store_true", help="print why a conversion failed")
    parser.add_argument("--only", choices=PEERS, help="only convert one model with this peer")
    parser.add_argument("--output", help="with --only: path of the converted model")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("TQDM_DISABLE", "1")
    if arguments.only:
        return PEERS[arguments.only](arguments.models[0], arguments.output)
    for name in ("onnxconverter_common.float16", "modelopt.onnx.autocast"):
        __import__(name)

    names = ["halfstep", "halfstep, calibrated", *PEERS]
    print("| model | " + " | ".join(names) + " |")
    print("| --- |" + " --- |" * len(names))
    results = {name: [] for name in names}
    for source in models_in(arguments.models):
        batch = source.parent / "x.npy"
        try:
            session = session_of(source)
            feeds = inputs_of(session, batch if batch.exists() else None)
            batches = [feeds, *draws_like(feeds, arguments.draws)]
            expected = [session.run(None, batch) for batch in batches]
        except Exception as e:
            print(f"| {source.parent.name} | the source does not run: {str(e).splitlines()[0][:80]} |")
            continue
        with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as folder:
            folder = pathlib.Path(folder)
            np.savez(folder / "inputs.npz", **feeds)
            calibrate = ("--calibrate", folder / "inputs.npz")
            converters = {"halfstep": by_halfstep(arguments.halfstep),
                          "halfstep, calibrated": by_halfstep(arguments.halfstep, *calibrate), **PEERS}  # fmt: skip
            for name, convert in converters.items():
                result = measure(convert, source, folder / "converted.onnx", batches, expected, arguments.repeats)
                if arguments.processes and name in PEERS and "failed" not in result:
                    result["process"] = process_seconds(name, source, folder / "converted.onnx")
                results[name].append(result)
                if arguments.verbose and "why" in result:
                    print(f"<!-- {source} {name}: {result['why'][:300]} -->")
        cells = [cell(results[name][-1]) for name in names]
        print(f"| {source.parent.name if source.stem == 'model' else source.stem} | " + " | ".join(cells) + " |", flush=True)
    print("| work | " + " | ".join(summary(results[name]) for name in names) + " |")
    for peer in PEERS:
        print_comparison(results, peer)
    if arguments.processes:
        medians = [statistics.median(r["process"] for r in results[n] if "failed" not in r) for n in names]
        print("| a process (median) | " + " | ".join(f"{m:.2f} s" for m in medians) + " |")


if __name__ == "__main__":
    main()
