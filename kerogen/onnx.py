"""ONNX files: ``load`` one as a model, ``check`` what kerogen can't compile in it, ``save`` a model as one."""

from .api import save_onnx as save
from .frontends.onnx import check, load

__all__ = ["check", "load", "save"]
