"""Training on several processes, which mpirun or srun starts.

    ranks = halfstep.distributed.init()  # None in a single process
    model.compile("adam", ranks=ranks)
    model.fit(x, y, batch_size=256)  # 256 rows of all ranks together
    if halfstep.distributed.is_first():
        model.save("trained.onnx")

    mpirun -n 4 python train.py
"""

import sys

from . import _core

__all__ = ["init", "is_first", "rank", "size"]

_ranks = None


def init(backend="auto", *, device=None, timeout=300.0, heartbeat=20.0):
    """The ranks of the launcher, for `ranks=` of TrainingStep and Model.compile. Each process calls it.

    Args:
        backend: "mpi"; "nccl": one GPU per rank; "auto": mpi if a launcher has started several processes; "off": each
            process trains by itself.
        device: with nccl the GPU of this rank, the same as that of the step; None: that of its number on the machine.
        timeout: seconds that a rank waits for others that compute something else.
        heartbeat: seconds without a heartbeat after which a rank is considered lost; 0: never.

    Returns a Ranks, or None in a single process. A second call returns the same. An uncaught exception in one process
    then ends all of them. Raises InputError if the ranks cannot communicate.
    """
    global _ranks
    if _ranks is None:
        _ranks = _core.open_ranks(backend, device or "", float(timeout), float(heartbeat))
        if _ranks is not None:
            _end_all_on_exception()
    return _ranks


def rank():
    """The number of this process; 0 in a single process. Does not require init."""
    return _core.launch()[0]


def size():
    """The number of processes."""
    return _core.launch()[1]


def is_first():
    """Whether this is rank 0, which prints and writes what is the same on all ranks."""
    return rank() == 0


def _end_all_on_exception():
    show = sys.excepthook

    def end_all(kind, value, trace):
        show(kind, value, trace)
        sys.stdout.flush()
        sys.stderr.flush()
        _ranks.abort(130 if issubclass(kind, KeyboardInterrupt) else 1)

    sys.excepthook = end_all
