"""Keras in, kernels out: models written with Keras' names, compiled by kerogen's own compiler to LLVM and Triton kernels.

Nothing is imported here until a name is used (PEP 562): ``import kerogen`` costs milliseconds, and works on platforms for
which kerogen can't generate code.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:  # what the tables below do, in a form that type checkers and editors read
    from . import activations as activations
    from . import callbacks as callbacks
    from . import config as config
    from . import constraints as constraints
    from . import datasets as datasets
    from . import errors as errors
    from . import initializers as initializers
    from . import layers as layers
    from . import losses as losses
    from . import metrics as metrics
    from . import models as models
    from . import onnx as onnx
    from . import ops as ops
    from . import optimizers as optimizers
    from . import random as random
    from . import regularizers as regularizers
    from . import saving as saving
    from . import utils as utils
    from .api import Options as Options
    from .api import compile as compile
    from .api import from_keras as from_keras
    from .api import grad as grad
    from .api import load as load
    from .api import set_num_threads as set_num_threads
    from .api import spec as spec
    from .api import value_and_grad as value_and_grad
    from .benchmark import bench as bench
    from .errors import KerogenError as KerogenError
    from .frontends.keras.variable import Variable as Variable
    from .layers import Input as Input
    from .layers import Layer as Layer
    from .models import Model as Model
    from .models import Sequential as Sequential
    from .models import load_model as load_model
    from .runtime.executable import Executable as Executable

# Public modules. Each is a file here, so that `from kerogen.layers import Dense` and `import kerogen.ops` work as well.
_MODULES = (
    "activations", "callbacks", "config", "constraints", "datasets", "errors", "initializers", "layers", "losses", "metrics", "models", "onnx",
    "ops", "optimizers", "random", "regularizers", "saving", "utils",
)  # fmt: skip

# Public names -> the module that has them. A name must differ from every module's beside this file: importing a submodule
# binds its name here, over whatever stood there (hence benchmark.py for `bench`).
_NAMES = {
    "Executable": ".runtime.executable",
    "Input": ".layers",
    "KerogenError": ".errors",
    "Layer": ".layers",
    "Model": ".models",
    "Options": ".api",
    "Sequential": ".models",
    "Variable": ".frontends.keras.variable",
    "bench": ".benchmark",
    "compile": ".api",
    "from_keras": ".api",
    "grad": ".api",
    "load": ".api",
    "load_model": ".models",
    "set_num_threads": ".api",
    "spec": ".api",
    "value_and_grad": ".api",
}

__all__ = [
    "Executable", "Input", "KerogenError", "Layer", "Model", "Options", "Sequential", "Variable", "__version__", "activations",
    "bench", "callbacks", "compile", "config", "constraints", "datasets", "errors", "from_keras", "grad", "initializers",
    "layers", "load", "load_model", "losses", "metrics", "models", "onnx", "ops", "optimizers", "random", "regularizers",
    "saving", "set_num_threads", "spec", "utils", "value_and_grad",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in _NAMES:
        value = getattr(import_module(_NAMES[name], __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=import_module(__name__))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
