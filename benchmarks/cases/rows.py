"""Row kernels and reductions: softmax, layer normalisation and their gradients, cross-entropy, statistics over a batch.

``torch``: the operator that its eager mode runs. ``onnxruntime``: the operator of the same name, for what has one. Bound by memory once exponentials are
vectorised: ``GB/s`` counts operands and results once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from kerogen.compiler import ops
from kerogen.compiler.pipeline import grad
from kerogen.runtime.dtype import float32

from . import Built, Case, compiled, first_output, onnx_call

EPSILON = 1e-5


def _torch(threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    return torch


def _draw(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s, np.float32) for s in shapes]


def _built(name: str, fn: Callable[..., Any], arrays: list[np.ndarray], peer: Callable[[Any, list[Any]], Any], threads: int) -> Built:
    """``peer(torch, tensors)``: the same as ``fn``, its first result compared."""
    call, bound = compiled(name, fn, arrays, "i" * len(arrays), threads)
    torch = _torch(threads)
    tensors = [torch.from_numpy(a) for a in arrays]

    def first() -> np.ndarray:
        out = peer(torch, tensors)
        return (out[0] if isinstance(out, (tuple, list)) else out).numpy()

    def run() -> Any:
        with torch.no_grad():
            return peer(torch, tensors)

    return Built(call, {"torch": run}, {"kerogen": first_output(bound), "torch": first})


def _with_onnx(built: Built, op: str, arrays: list[np.ndarray], threads: int, constants: dict[str, np.ndarray], **attributes: Any) -> Built:
    from onnx import helper

    node = helper.make_node(op, ["x", *constants], ["y"], **attributes)
    call, result = onnx_call([node], {"x": arrays[0]}, constants, arrays[0].shape, threads)
    return Built(built.kerogen, {**built.peers, "onnxruntime": call}, {**built.results, "onnxruntime": result})


def softmax(shape: tuple[int, ...], threads: int, axis: int) -> Built:
    arrays = _draw(shape)
    built = _built("softmax", lambda x: ops.softmax(x, axis), arrays, lambda t, a: t.softmax(a[0], axis), threads)
    return _with_onnx(built, "Softmax", arrays, threads, {}, axis=axis)


def softmax_grad(shape: tuple[int, ...], threads: int) -> Built:
    """From the logits: the forward's values are computed again, as they would be where they were not kept."""
    return _built("softmax_grad", lambda x, ct: grad(ops.softmax(x), [x], ct), _draw(shape, shape),
                  lambda t, a: t.ops.aten._softmax_backward_data(a[1], t.softmax(a[0], -1), -1, t.float32), threads)


def layer_norm(shape: tuple[int, int], threads: int) -> Built:
    arrays = _draw(shape, shape[1:], shape[1:])
    built = _built("layer_norm", lambda x, g, b: ops.layer_norm(x, g, b, -1, EPSILON), arrays,
                   lambda t, a: t.nn.functional.layer_norm(a[0], shape[1:], a[1], a[2], EPSILON), threads)
    return _with_onnx(built, "LayerNormalization", arrays, threads, {"g": arrays[1], "b": arrays[2]}, axis=-1, epsilon=EPSILON)


def layer_norm_step(shape: tuple[int, int], threads: int) -> Built:
    """The result and all three gradients."""
    def step(x: Any, g: Any, b: Any, ct: Any) -> list[Any]:
        y = ops.layer_norm(x, g, b, -1, EPSILON)
        return [y, *grad(y, [x, g, b], ct)]

    def peer(t: Any, a: list[Any]) -> Any:
        y, mean, rstd = t.ops.aten.native_layer_norm(a[0], shape[1:], a[1], a[2], EPSILON)
        return y, t.ops.aten.native_layer_norm_backward(a[3], a[0], shape[1:], mean, rstd, a[1], a[2], [True] * 3)

    return _built("layer_norm_step", step, _draw(shape, shape[1:], shape[1:], shape), peer, threads)


def cross_entropy(shape: tuple[int, int], threads: int) -> Built:
    """The loss from logits and class numbers, and its gradient."""
    rows, classes = shape
    logits, labels = _draw(shape)[0], np.random.default_rng(1).integers(0, classes, rows)

    def loss(x: Any, n: Any) -> list[Any]:
        value = ops.neg(ops.mean(ops.sum_(ops.mul(ops.log_softmax(x), ops.one_hot(n, classes, float32)), (1,))))
        return [value, *grad(value, [x])]

    def peer(t: Any, a: list[Any]) -> Any:
        logp = t.log_softmax(a[0], -1)
        value, weight = t.ops.aten.nll_loss_forward(logp, a[1], None, 1, -100)
        ct = t.ones(())
        return value, t.ops.aten._log_softmax_backward_data(t.ops.aten.nll_loss_backward(ct, logp, a[1], None, 1, -100, weight), logp, -1, t.float32)

    return _built("cross_entropy", loss, [logits, labels], peer, threads)


def batch_statistics(shape: tuple[int, ...], threads: int) -> Built:
    """Mean and variance over all axes but the last."""
    axes = tuple(range(len(shape) - 1))
    return _built("batch_statistics", lambda x: [ops.mean(x, axes), ops.var(x, axes)], _draw(shape),
                  lambda t, a: t.var_mean(a[0], axes, unbiased=False)[::-1], threads)


def total(shape: tuple[int, ...], threads: int, axes: tuple[int, ...]) -> Built:
    return _built("sum", lambda x: ops.sum_(x, axes), _draw(shape), lambda t, a: a[0].sum(axes), threads)


def _case(name: str, shape: tuple[int, ...], build: Callable[..., Built], flops: int, arrays: int, tolerance: float = 1e-4, **given: Any) -> Case:
    """``flops`` for each element; ``arrays`` of that size are read or written."""
    n = int(np.prod(shape))
    return Case(f"{name} {'x'.join(map(str, shape))}", partial(build, shape, **given), flops * n, 4 * arrays * n, tolerance)


CASES = [
    *[_case("softmax", s, softmax, 5, 2, axis=-1) for s in ((1536, 128), (6144, 512), (128, 30720))],
    _case("softmax across", (512, 1536), softmax, 5, 2, axis=0),
    _case("softmax grad", (1536, 128), softmax_grad, 10, 3),
    *[_case("layer_norm", s, layer_norm, 8, 2) for s in ((128, 768), (4096, 768))],
    *[_case("layer_norm step", s, layer_norm_step, 24, 6) for s in ((128, 768), (4096, 768))],
    _case("cross_entropy", (1024, 1000), cross_entropy, 10, 2),
    *[_case("batch_statistics", s, batch_statistics, 4, 1) for s in ((8192, 64), (32, 28, 28, 128))],
    _case("sum of all", (2048, 2048), total, 1, 1, 1e-2, axes=(0, 1)),
    *[_case("sum of rows", s, total, 1, 1, 1e-2, axes=(0,)) for s in ((4096, 768), (65536, 16))],
    _case("sum of columns", (4096, 768), total, 1, 1, 1e-2, axes=(1,)),
]
