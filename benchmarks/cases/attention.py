"""Attention of BERT-base (12 heads of 64) and its derivative, operands as projections give them (time before heads).

``torch``: scaled_dot_product_attention in the better of its two layouts, and the derivative of that; ``onnxruntime``: its contrib operator
MultiHeadAttention, which is what its transformer optimiser makes of exported models.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from kerogen.compiler import ops
from kerogen.compiler.pipeline import grad

from . import Built, Case, compiled, first_output

SHAPES = [(1, 128, 12, 64, False), (1, 512, 12, 64, False), (1, 512, 12, 64, True), (8, 128, 12, 64, False)]


def _torch(threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(True)
    return torch


def _operands(batch: int, time: int, heads: int, depth: int, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((batch, time, heads, depth), np.float32) for _ in range(count)]


def _onnx(arrays: list[np.ndarray], causal: bool, threads: int) -> tuple[Any, Any]:
    import onnxruntime as ort
    from onnx import TensorProto, helper

    b, t, h, d = arrays[0].shape
    flat = {n: a.reshape(b, t, h * d) for n, a in zip("qkv", arrays)}
    node = helper.make_node("MultiHeadAttention", list("qkv"), ["y"], domain="com.microsoft", num_heads=h, unidirectional=int(causal))
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in flat.items()],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [b, t, h * d])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=8)
    ort.set_default_logger_severity(3)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for n, a in flat.items():
        binding.bind_cpu_input(n, a)
    out = np.empty((b, t, h * d), np.float32)
    binding.bind_output("y", "cpu", 0, np.float32, out.shape, out.ctypes.data)
    return lambda: session.run_with_iobinding(binding), lambda: out.reshape(b, t, h, d)


def forward(batch: int, time: int, heads: int, depth: int, causal: bool, threads: int) -> Built:
    arrays = _operands(batch, time, heads, depth, 3)
    call, bound = compiled("attention", lambda q, k, v: ops.attention(q, k, v, causal=causal), arrays, "iii", threads)
    torch = _torch(threads)
    views = [torch.from_numpy(a).transpose(1, 2) for a in arrays]
    packed = [x.contiguous() for x in views]
    last: list[Any] = [None]

    def attend(xs: list[Any]) -> None:
        with torch.no_grad():
            last[0] = torch.nn.functional.scaled_dot_product_attention(*xs, is_causal=causal)

    ort, out = _onnx(arrays, causal, threads)
    return Built(call, {"torch": lambda: attend(packed), "torch.strided": lambda: attend(views), "onnxruntime": ort},
                 {"kerogen": first_output(bound), "torch": lambda: last[0].transpose(1, 2).numpy(), "onnxruntime": out})


def backward(batch: int, time: int, heads: int, depth: int, causal: bool, threads: int) -> Built:
    arrays = _operands(batch, time, heads, depth, 4)
    call, bound = compiled("attention_grad", lambda q, k, v, ct: grad(ops.attention(q, k, v, causal=causal), [q, k, v], ct), arrays, "iiii", threads)
    torch = _torch(threads)
    peers, results = {}, {}
    for name, packed in (("torch", True), ("torch.strided", False)):
        xs = [torch.from_numpy(a).transpose(1, 2) for a in arrays]
        q, k, v, ct = (x.contiguous() if packed else x for x in xs)
        leaves = [x.requires_grad_() for x in (q, k, v)]
        y = torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=causal)
        peers[name] = partial(torch.autograd.grad, y, leaves, ct, retain_graph=True)
        results[name] = lambda f=peers[name]: f()[0].transpose(1, 2).numpy()
    return Built(call, peers, {"kerogen": first_output(bound), **results})


def _cases() -> list[Case]:
    out = []
    for b, t, h, d, causal in SHAPES:
        size = f"{b}x{t}x{h}x{d}{' causal' if causal else ''}"
        flops = 4 * b * h * t * (t + 1 if causal else 2 * t) * d // 2
        nbytes = 4 * b * t * h * d
        out.append(Case(f"attention {size}", partial(forward, b, t, h, d, causal), flops, 4 * nbytes))
        out.append(Case(f"attention grad {size}", partial(backward, b, t, h, d, causal), flops * 5 // 2, 7 * nbytes))
    return out


CASES = _cases()
