"""ONNX files: ``load`` one as a model, ``check`` what kerogen can't compile in it, ``save`` a model as one."""

from __future__ import annotations

import os
from typing import Any

from .frontends.onnx import check, load
from .frontends.onnx.exporter import OPSET
from .frontends.onnx.exporter import save as _save

__all__ = ["check", "load", "save"]


class _Traceable:
    """What the exporter asks of a model: ``trace`` and ``bindings``."""

    def __init__(self, model: Any, inputs: Any):
        from .api import traced

        self.trace, self.bindings, _, self.name, _ = traced(model, inputs)


def save(model: Any, path: str | os.PathLike, inputs: Any = None, *, opset: int = OPSET) -> None:
    """Writes the inference function of ``model`` as an ONNX file, whole or not at all.

    ``model`` is anything that ``kerogen.compile`` takes; ``inputs`` are specs or examples for functions. Raises ``UnsupportedOpError`` that lists every
    op without an ONNX form, and ``ArgumentError`` for an opset below 13.
    """
    _save(_Traceable(model, inputs), path, opset=opset)
