"""Other runtimes that ``kerogen bench --against`` and ``kerogen check --against`` run beside kerogen. Imported only when named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from .runtime.errors import ArgumentError, ModelFormatError


class Peer(Protocol):
    """A model in another runtime. ``label`` names it with its version; ``run`` takes arrays by input name and gives the outputs
    in order.
    """

    label: str

    def run(self, feeds: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]: ...


class OnnxRuntime:
    """ONNX Runtime's CPU provider with its default options, held to ``threads``."""

    def __init__(self, model: bytes | str, threads: int) -> None:
        ort: Any = import_module("onnxruntime")
        ort.set_default_logger_severity(3)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.label = f"onnxruntime {ort.__version__}"
        try:
            self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as e:  # noqa: BLE001  (onnxruntime's exceptions have no public base class)
            raise ModelFormatError(f"onnxruntime {ort.__version__} refuses the model: {str(e).splitlines()[0]}") from None

    def run(self, feeds: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        return self.session.run(None, feeds)


PEERS: dict[str, Callable[[bytes | str, int], Peer]] = {"onnxruntime": OnnxRuntime}


def open_peer(name: str, model: bytes | str, threads: int) -> Peer:
    """``model`` (an ONNX file's path or bytes) in the runtime ``name``; ArgumentError where it is unknown or not installed."""
    if name not in PEERS:
        raise ArgumentError(f"no peer {name!r}; known: {', '.join(PEERS)}")
    try:
        return PEERS[name](model, threads)
    except ImportError:
        raise ArgumentError(f"{name} is not installed here: pip install {name}") from None
