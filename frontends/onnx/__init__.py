"""ONNX in and out: ``load``, ``check``, ``save``."""

from .exporter import save
from .load import OnnxModel, check, load, onnx_trace

__all__ = ["OnnxModel", "check", "load", "onnx_trace", "save"]
