"""ONNX files: ``load`` one as a model, ``check`` what kerogen can't compile in it, ``save`` a model as one."""

from .frontends.onnx import check, load, save

__all__ = ["check", "load", "save"]
