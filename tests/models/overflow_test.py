"""A loss scale that overflows every gradient: steps are skipped, the scale halves each time, and then training learns.

usage: overflow_test.py PROGRAM EXECUTOR
"""

import math
import pathlib
import sys
import tempfile

from halfstep_program import MODELS, read_log, run


def main(program, executor):
    case = MODELS / "zoo" / "mlp-torchscript"
    with tempfile.TemporaryDirectory() as name:
        log_file = pathlib.Path(name) / "log.jsonl"
        run(program, "train", case / "model.onnx", "--data", f"{case / 'x.npy'},{case / 'y.npy'}", "--batch", 32,
            "--no-shuffle", "--steps", 150, "--precision", "fp16", "--loss-scale", "1e30", "--executor", executor,
            "--log", log_file)  # fmt: skip
        log = read_log(log_file)

    finite = [record["grads_finite"] for record in log]
    skipped = finite.index(True)
    print(f"{skipped} steps skipped; loss {log[0]['loss']:.4g} to {log[-1]['loss']:.4g}")
    assert skipped > 0, "no step overflowed"
    losses = [float(record["loss"]) for record in log]
    assert all(loss == losses[0] for loss in losses[: skipped + 1]), "a skipped step changed the parameters"
    scales = [float(record["loss_scale"]) for record in log]
    for step in range(1, len(log)):  # too few for the scale to grow
        wanted = scales[step - 1] if finite[step - 1] else scales[step - 1] / 2
        assert math.isclose(scales[step], wanted, rel_tol=1e-6), f"step {step + 1}: scale {scales[step]}, not {wanted}"
    assert sum(finite[skipped:]) > 0.9 * len(finite[skipped:]), "steps went on overflowing"
    assert losses[-1] < 0.5 * losses[0], "nothing was learned after the overflow"


if __name__ == "__main__":
    main(*sys.argv[1:])
