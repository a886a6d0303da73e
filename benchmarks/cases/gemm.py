"""Dense layers (a weight, bound and prepared before) of BERT and of classifiers, and products of two inputs."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from kerogen.compiler import ops

from . import Built, Case, compiled, first_output, onnx_call

DENSE = [(128, 768, 768), (128, 3072, 768), (128, 2304, 768), (128, 768, 3072), (8, 3072, 768), (1, 3072, 768), (127, 1000, 515)]
SQUARE = [512, 1024]


def _torch(threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    return torch


def dense(m: int, n: int, k: int, threads: int) -> Built:
    from onnx import helper

    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32) / np.float32(np.sqrt(k))
    bias = rng.standard_normal(n, np.float32)
    call, bound = compiled(f"dense{m}x{n}x{k}", lambda a, b, c: ops.add(ops.matmul(a, b), c), [x, w, bias], "ipp", threads)
    torch = _torch(threads)
    tx, tw, tb = torch.from_numpy(x), torch.from_numpy(np.ascontiguousarray(w.T)), torch.from_numpy(bias)
    wn, ty = torch.from_numpy(w), torch.empty(m, n)
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    ort, out = onnx_call([gemm], {"x": x}, {"w": w, "b": bias}, (m, n), threads)
    peers = {
        "torch.linear": lambda: torch.nn.functional.linear(tx, tw, tb),
        "torch.addmm": lambda: torch.addmm(tb, tx, wn, out=ty),
        "onnxruntime": ort,
    }
    if torch.backends.mkldnn.is_available():
        prepacked = torch.ops.mkldnn._reorder_linear_weight(tw, m)
        peers["onednn"] = lambda: torch.ops.mkldnn._linear_pointwise(tx, prepacked, tb, "none", [], "")
    return Built(call, peers, {"kerogen": first_output(bound), "onnxruntime": out, "torch.addmm": lambda: ty.numpy()})


def square(n: int, threads: int) -> Built:
    from onnx import helper

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, n), np.float32) for _ in range(2))
    call, bound = compiled(f"matmul{n}", ops.matmul, [a, b], "ii", threads)
    torch = _torch(threads)
    ta, tb, ty = torch.from_numpy(a), torch.from_numpy(b), torch.empty(n, n)
    ort, out = onnx_call([helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": a, "b": b}, {}, (n, n), threads)
    return Built(call, {"torch.mm": lambda: torch.mm(ta, tb, out=ty), "onnxruntime": ort},
                 {"kerogen": first_output(bound), "onnxruntime": out})


CASES = [
    *[Case(f"dense {m}x{n}x{k}", partial(dense, m, n, k), 2 * m * n * k, 4 * (m * k + k * n + m * n)) for m, n, k in DENSE],
    *[Case(f"matmul {n}^3", partial(square, n), 2 * n**3, 12 * n * n) for n in SQUARE],
]
