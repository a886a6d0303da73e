"""ONNX in: files to graphs (``load``, ``check``)."""
