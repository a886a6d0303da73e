"""Convolution, bias and ReLU of ResNet-50's and MobileNetV2's layers: batch 1, channels last, weights bound, borders included."""

from __future__ import annotations

from functools import partial

import numpy as np

from kerogen.compiler import ops
from kerogen.compiler.pipeline import grad

from . import Built, Case, compiled, first_output, onnx_call
from .gemm import _torch

# name: image side, channels in, channels out, kernel side, stride, padding, groups ("dw": as many as channels)
LAYERS: dict[str, tuple[int, int, int, int, int, int, int]] = {
    "r50 stem 7x7s2": (224, 3, 64, 7, 2, 3, 1),
    "r50 56 1x1 64-64": (56, 64, 64, 1, 1, 0, 1),
    "r50 56 3x3 64": (56, 64, 64, 3, 1, 1, 1),
    "r50 56 1x1 64-256": (56, 64, 256, 1, 1, 0, 1),
    "r50 56 1x1 256-64": (56, 256, 64, 1, 1, 0, 1),
    "r50 56 3x3s2 128": (56, 128, 128, 3, 2, 1, 1),
    "r50 28 3x3 128": (28, 128, 128, 3, 1, 1, 1),
    "r50 28 1x1 512-128": (28, 512, 128, 1, 1, 0, 1),
    "r50 28 1x1 128-512": (28, 128, 512, 1, 1, 0, 1),
    "r50 28 1x1s2 512-1024": (28, 512, 1024, 1, 2, 0, 1),
    "r50 14 3x3 256": (14, 256, 256, 3, 1, 1, 1),
    "r50 14 1x1 1024-256": (14, 1024, 256, 1, 1, 0, 1),
    "r50 14 1x1 256-1024": (14, 256, 1024, 1, 1, 0, 1),
    "r50 7 3x3 512": (7, 512, 512, 3, 1, 1, 1),
    "r50 7 1x1 512-2048": (7, 512, 2048, 1, 1, 0, 1),
    "r50 7 1x1 2048-512": (7, 2048, 512, 1, 1, 0, 1),
    "mb stem 3x3s2": (224, 3, 32, 3, 2, 1, 1),
    "mb 112 1x1 16-96": (112, 16, 96, 1, 1, 0, 1),
    "mb 56 1x1 24-144": (56, 24, 144, 1, 1, 0, 1),
    "mb 56 1x1 144-24": (56, 144, 24, 1, 1, 0, 1),
    "mb 28 1x1 192-32": (28, 192, 32, 1, 1, 0, 1),
    "mb 14 1x1 64-384": (14, 64, 384, 1, 1, 0, 1),
    "mb 14 1x1 576-96": (14, 576, 96, 1, 1, 0, 1),
    "mb 7 1x1 160-960": (7, 160, 960, 1, 1, 0, 1),
    "mb 7 1x1 320-1280": (7, 320, 1280, 1, 1, 0, 1),
    "dw 112 96 3x3s2": (112, 96, 96, 3, 2, 1, 96),
    "dw 56 144 3x3": (56, 144, 144, 3, 1, 1, 144),
    "dw 28 192 3x3": (28, 192, 192, 3, 1, 1, 192),
    "dw 28 192 3x3s2": (28, 192, 192, 3, 2, 1, 192),
    "dw 14 576 3x3": (14, 576, 576, 3, 1, 1, 576),
    "dw 7 960 3x3": (7, 960, 960, 3, 1, 1, 960),
    "dw 28 240 5x5": (28, 240, 240, 5, 1, 2, 240),
    "grouped 14 256 3x3 g32": (14, 256, 256, 3, 1, 1, 32),
}


def convolution(name: str, threads: int) -> Built:
    from onnx import helper

    side, ci, co, k, s, pad, groups = LAYERS[name]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, side, side, ci), np.float32)
    w = rng.standard_normal((k, k, ci // groups, co), np.float32) / np.float32(np.sqrt(k * k * ci / groups))
    bias = rng.standard_normal(co, np.float32)
    out = (side + 2 * pad - k) // s + 1

    def graph(a, b, c):
        return ops.relu(ops.add(ops.conv(a, b, s, pad, 1, groups), c))

    call, bound = compiled(name, graph, [x, w, bias], "ipp", threads)
    torch = _torch(threads)
    tx = torch.from_numpy(x).permute(0, 3, 1, 2)  # channels last in memory
    tw = torch.from_numpy(np.ascontiguousarray(w.transpose(3, 2, 0, 1))).contiguous(memory_format=torch.channels_last)
    tb = torch.from_numpy(bias)
    kept: dict[str, np.ndarray] = {}

    def eager():
        kept["torch"] = torch.nn.functional.conv2d(tx, tw, tb, s, pad, 1, groups).relu_()

    peers = {"torch.conv2d": eager}
    if torch.backends.mkldnn.is_available():
        packed = torch._C._nn.mkldnn_reorder_conv2d_weight(tw.to_mkldnn(), (pad, pad), (s, s), (1, 1), groups, tuple(tx.shape))
        peers["onednn"] = lambda: torch.ops.mkldnn._convolution_pointwise(
            tx, packed, tb, [pad, pad], [s, s], [1, 1], groups, "relu", [], "")
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["z"], kernel_shape=[k, k], strides=[s, s], pads=[pad] * 4, group=groups),
        helper.make_node("Relu", ["z"], ["y"]),
    ]
    ort, result = onnx_call(nodes, {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))},
                            {"w": np.ascontiguousarray(w.transpose(3, 2, 0, 1)), "b": bias}, (1, co, out, out), threads)
    peers["onnxruntime"] = ort
    return Built(call, peers, {"kerogen": first_output(bound), "onnxruntime": lambda: result().transpose(0, 2, 3, 1),
                               "torch.conv2d": lambda: kept["torch"].permute(0, 2, 3, 1).numpy()})


def _case(name: str) -> Case:
    side, ci, co, k, s, pad, groups = LAYERS[name]
    out = (side + 2 * pad - k) // s + 1
    terms = k * k * ci // groups
    return Case(name, partial(convolution, name), 2 * out * out * co * terms, 4 * (side * side * ci + terms * co + out * out * co))


def gradient(name: str, which: int, threads: int) -> Built:
    """The gradient of the image (``which`` 0) or of the kernel (1)."""
    side, ci, co, k, s, pad, groups = LAYERS[name]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, side, side, ci), np.float32)
    w = rng.standard_normal((k, k, ci // groups, co), np.float32) / np.float32(np.sqrt(k * k * ci / groups))
    out = (side + 2 * pad - k) // s + 1
    ct = rng.standard_normal((1, out, out, co), np.float32)

    def graph(a, b, c):
        return grad(ops.conv(a, b, s, pad, 1, groups), [(a, b)[which]], c)

    call, bound = compiled(f"{name} gradient", graph, [x, w, ct], "ipi" if which == 0 else "iii", threads)
    torch = _torch(threads)
    tx, tct = (torch.from_numpy(a).permute(0, 3, 1, 2) for a in (x, ct))
    tw = torch.from_numpy(np.ascontiguousarray(w.transpose(3, 2, 0, 1))).contiguous(memory_format=torch.channels_last)
    kept: dict[str, np.ndarray] = {}

    def backward():
        kept["torch"] = torch.ops.aten.convolution_backward(
            tct, tx, tw, None, [s, s], [pad, pad], [1, 1], False, [0, 0], groups, [which == 0, which == 1, False])[which]

    order = (0, 2, 3, 1) if which == 0 else (2, 3, 1, 0)
    return Built(call, {"torch.backward": backward},
                 {"kerogen": first_output(bound), "torch.backward": lambda: kept["torch"].permute(*order).numpy()})


def _gradient_case(name: str, which: int) -> Case:
    side, ci, co, k, s, pad, groups = LAYERS[name]
    out = (side + 2 * pad - k) // s + 1
    terms = k * k * ci // groups
    return Case(f"{name} d{'xw'[which]}", partial(gradient, name, which), 2 * out * out * co * terms,
                4 * (side * side * ci + terms * co + out * out * co))


GRADIENTS = ["r50 56 3x3 64", "r50 56 3x3s2 128", "r50 14 3x3 256", "r50 28 1x1s2 512-1024", "dw 28 192 3x3", "dw 28 192 3x3s2"]

CASES = [*[_case(n) for n in LAYERS], *[_gradient_case(n, which) for n in GRADIENTS for which in (0, 1)]]
