"""Keras' functions on tensors. On symbolic tensors they build a functional model, while a function is traced they make nodes of its graph, on arrays
they compute at once through a compiled graph."""

from . import image as image
from .arithmetic import *  # noqa: F403
from .control import *  # noqa: F403
from .conversion import *  # noqa: F403
from .counting import *  # noqa: F403
from .creation import *  # noqa: F403
from .decompositions import *  # noqa: F403
from .define import CLASSES as CLASSES
from .define import FunctionOperation as FunctionOperation
from .fourier import *  # noqa: F403
from .indexing import *  # noqa: F403
from .linalg import *  # noqa: F403
from .nan_reductions import *  # noqa: F403
from .nn import *  # noqa: F403
from .rearranging import *  # noqa: F403
from .reductions import *  # noqa: F403
from .shaping import *  # noqa: F403
from .sorting import *  # noqa: F403
from .spatial import *  # noqa: F403
from .special import *  # noqa: F403
