"""LSTM layers over short sequences: bound by the recurrent weights' way from the cache, once a step."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from kerogen.compiler import ops

from . import Built, Case, compiled, first_output, onnx_call

# (units, features, steps, batch)
SIZES = [(128, 128, 32, 1), (512, 256, 16, 1), (128, 128, 32, 8), (256, 256, 32, 32)]


def lstm(x: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
    """All outputs [steps, batch, units] from x [steps, batch, features]; gates i, f, c, o."""
    steps, batch, _ = x.shape
    units = recurrent.shape[0]

    def step(states: list, rows: list) -> tuple[list, list]:
        h, c = states
        z = ops.add(ops.add(ops.matmul(rows[0], kernel), bias), ops.matmul(h, recurrent))
        i, f, g, o = [ops.slice_(z, (0, k * units), (batch, (k + 1) * units)) for k in range(4)]
        c = ops.add(ops.mul(ops.sigmoid(f), c), ops.mul(ops.sigmoid(i), ops.tanh(g)))
        h = ops.mul(ops.sigmoid(o), ops.tanh(c))
        return [h, c], [h]

    zeros = ops.zeros((batch, units), "float32")
    return ops.scan(step, [zeros, zeros], [x])[1][0]


def _build(units: int, features: int, steps: int, batch: int, threads: int) -> Built:
    rng = np.random.default_rng(units)
    x = rng.standard_normal((steps, batch, features)).astype(np.float32)
    kernel, recurrent = [(rng.standard_normal((n, 4 * units)) / np.sqrt(n)).astype(np.float32) for n in (features, units)]
    bias = rng.standard_normal(4 * units).astype(np.float32)
    call, bound = compiled("lstm", lstm, [x, kernel, recurrent, bias], "ippp", threads)

    import torch
    from onnx import helper

    torch.set_num_threads(threads)
    peer = torch.nn.LSTM(features, units)
    with torch.no_grad():
        for p, a in zip(peer.parameters(), (kernel.T, recurrent.T, bias, np.zeros_like(bias))):
            p.copy_(torch.from_numpy(np.ascontiguousarray(a)))
    given, out = torch.from_numpy(x), [None]

    def run_torch() -> None:
        with torch.inference_mode():
            out[0] = peer(given)[0]

    # ONNX has the gates i, o, f, c
    order = np.concatenate([np.arange(g * units, (g + 1) * units) for g in (0, 3, 1, 2)])
    constants = {"w": kernel.T[order][None], "r": recurrent.T[order][None], "b": np.concatenate([bias[order], np.zeros_like(bias)])[None]}
    node = helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], hidden_size=units)
    run_onnx, onnx_result = onnx_call([node], {"x": x}, {k: np.ascontiguousarray(a) for k, a in constants.items()}, (steps, 1, batch, units), threads)
    return Built(call, {"torch": run_torch, "onnxruntime": run_onnx},
                 {"kerogen": first_output(bound), "torch": lambda: out[0].numpy(), "onnxruntime": onnx_result})


def _case(units: int, features: int, steps: int, batch: int) -> Case:
    flops = 8 * steps * batch * units * (units + features)
    nbytes = 4 * (4 * units * (units + features + 1) + steps * batch * (units + features))
    return Case(f"lstm-{units}-in{features}-t{steps}-b{batch}", partial(_build, units, features, steps, batch), flops, nbytes)


CASES = [_case(*size) for size in SIZES]
