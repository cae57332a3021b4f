"""halfstep trains ONNX models in mixed precision and converts them to half precision.

    import halfstep

    model = halfstep.load("model.onnx")
    model.compile(optimizer=halfstep.Adam(1e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=10, validation_data=(x_test, y_test))
    model.save("trained.onnx")

TrainingStep trains step by step, Session runs a model, convert converts its weights and computation to fp16 or bf16.
"""

from ._openmp import choose_waiting as _choose_waiting

_choose_waiting()  # before the extension is loaded

from . import callbacks, distributed, losses, metrics, optimizers, schedules
from .callbacks import *  # noqa: F403
from .conversion import *  # noqa: F403
from .errors import *  # noqa: F403
from .history import *  # noqa: F403
from .losses import *  # noqa: F403
from .machine import *  # noqa: F403
from .model import *  # noqa: F403
from .optimizers import *  # noqa: F403
from .schedules import *  # noqa: F403
from .session import *  # noqa: F403
from .training_step import *  # noqa: F403


def __getattr__(name):
    if name == "__version__":  # importlib.metadata takes as long to import as the rest of the package
        from importlib.metadata import version

        return version("halfstep")
    raise AttributeError(f"module 'halfstep' has no attribute '{name}'")
