"""Graphs of whole networks, made of the functional ops: what the tests of determinism and of free sizes run."""

from __future__ import annotations

import numpy as np

from kerogen.compiler import ops
from kerogen.compiler.ir.graph import Graph, Node, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.pipeline import grad
from kerogen.runtime.dtype import float32, int32

CNN = {"w1": (3, 3, 1, 8), "b1": (8,), "w2": (3, 3, 8, 12), "b2": (12,), "gamma": (12,), "beta": (12,), "w3": (48, 10), "b3": (10,)}
WIDTH, HEADS = 48, 3
BLOCK = {"g1": (48,), "h1": (48,), "wq": (48, 48), "wk": (48, 48), "wv": (48, 48), "wo": (48, 48), "g2": (48,), "h2": (48,), "wu": (48, 192),
         "bu": (192,), "wd": (192, 48), "bd": (48,)}


def weights(shapes: dict[str, tuple[int, ...]], rng: np.random.Generator) -> list[np.ndarray]:
    return [(rng.standard_normal(s) / np.sqrt(np.prod(s[:-1]) if len(s) > 1 else 4)).astype(np.float32) for s in shapes.values()]


def _parameters(shapes: dict[str, tuple[int, ...]], role: str) -> list[Node]:
    return [leaf(k, TensorType(s, float32), role) for k, s in shapes.items()]


def _cnn(x: Node, parameters: list[Node]) -> Node:
    """Two convolutions, batch normalisation, pooling, a dense layer: logits."""
    w1, b1, w2, b2, gamma, beta, w3, b3 = parameters
    same, none = ((1, 1), (1, 1)), ((0, 0), (0, 0))
    h = ops.relu(ops.add(ops.conv(x, w1, (1, 1), same, (1, 1)), b1))
    h = ops.max_pool(h, (2, 2), (2, 2), none, (1, 1))
    h = ops.add(ops.conv(h, w2, (1, 1), same, (1, 1)), b2)
    centred = ops.sub(h, ops.mean(h, (0, 1, 2), True))
    variance = ops.mean(ops.square(centred), (0, 1, 2), True)
    h = ops.relu(ops.add(ops.mul(ops.mul(centred, ops.rsqrt(ops.add(variance, 1e-3))), gamma), beta))
    h = ops.max_pool(h, (2, 2), (2, 2), none, (1, 1))
    return ops.add(ops.matmul(ops.reshape(h, (x.shape[0], 48)), w3), b3)


def cnn_inference(batch: int) -> Graph:
    """(batch, 8, 9, 1) to probabilities; normalisation by the batch's own statistics, so that the batch is reduced over too."""
    x, parameters = leaf("x", TensorType((batch, 8, 9, 1), float32)), _parameters(CNN, "parameter")
    return Graph((x, *parameters), (ops.softmax(_cnn(x, parameters), 1),), name="cnn")


def cnn_step(batch: int) -> Graph:
    """Images and labels to the loss; parameters and momenta are donated."""
    x, labels = leaf("x", TensorType((batch, 8, 9, 1), float32)), leaf("labels", TensorType((batch,), int32))
    parameters = _parameters(CNN, "state")
    momenta = [leaf(f"m_{k}", TensorType(s, float32), "state") for k, s in CNN.items()]
    picked = ops.mul(ops.log_softmax(_cnn(x, parameters), 1), ops.one_hot(labels, 10, float32))
    loss = ops.neg(ops.mean(ops.sum_(picked, (1,))))
    moved = [ops.add(ops.mul(m, 0.9), g) for m, g in zip(momenta, grad(loss, parameters))]
    updated = [ops.sub(p, ops.mul(m, 0.05)) for p, m in zip(parameters, moved)]
    n = 2 * len(CNN)
    return Graph((x, labels, *parameters, *momenta), (loss, *updated, *moved), tuple((1 + i, 2 + i) for i in range(n)), name="cnn_step")


def transformer(batch: int, time: int) -> Graph:
    """A block of attention and a feed-forward network, each after a layer normalisation, and its gradient with respect to the input."""
    x, parameters = leaf("x", TensorType((batch, time, WIDTH), float32)), _parameters(BLOCK, "parameter")
    g1, h1, wq, wk, wv, wo, g2, h2, wu, bu, wd, bd = parameters
    split = (batch, time, HEADS, WIDTH // HEADS)
    n = ops.layer_norm(x, g1, h1)
    q, k, v = (ops.reshape(ops.matmul(n, w), split) for w in (wq, wk, wv))
    p = ops.softmax(ops.mul(ops.einsum("bqhd,bkhd->bhqk", q, k), (WIDTH // HEADS) ** -0.5), -1)
    y = ops.add(x, ops.matmul(ops.reshape(ops.einsum("bhqk,bkhd->bqhd", p, v), (batch, time, WIDTH)), wo))
    y = ops.add(y, ops.add(ops.matmul(ops.gelu(ops.add(ops.matmul(ops.layer_norm(y, g2, h2), wu), bu), True), wd), bd))
    (dx,) = grad(ops.sum_(ops.square(y)), [x])
    return Graph((x, *parameters), (y, dx), name="transformer")


def digits(batch: int, rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.standard_normal((batch, 8, 9, 1)).astype(np.float32), rng.integers(0, 10, batch).astype(np.int32)]
