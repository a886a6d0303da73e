"""Fifty batch sizes of one CNN, in inference and in training (the batch is reduced over): at most three variants of each kernel, right results."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.pipeline import executable
from kerogen.runtime.executable import Value

from .compare import assert_norm_close
from .networks import BLOCK, CNN, cnn_inference, cnn_step, digits, transformer, weights

BATCHES = [*range(1, 34), 36, 40, 41, 47, 48, 50, 57, 63, 64, 65, 72, 81, 96, 100, 127, 128, 150]


def variants(plans) -> dict[str, set[str]]:
    """The objects behind each call of the program, by its place, over all plans."""
    out: dict[str, set[str]] = defaultdict(set)
    for plan in plans:
        for i, step in enumerate((*plan.setup, *plan.steps)):
            out[f"{i} {step.name}"].add(step.image)
    return out


def test_inference(rng: np.random.Generator) -> None:
    bound = weights(CNN, rng)
    exe = executable(lambda d: cnn_inference(d["batch"]), bindings=[Value(a) for a in bound], name="cnn")
    assert len(BATCHES) == 50 == len(set(BATCHES))
    for n in BATCHES:
        x, _ = digits(n, rng)
        assert_norm_close(exe(x), evaluate(cnn_inference(n), [x, *bound])[0], 1e-5, what=f"batch {n}")
    for name, images in variants(exe.plans).items():
        assert len(images) <= 3, f"kernel {name}: {len(images)} variants"
    assert exe.stats()["compiled"] <= 3, f"{exe.stats()['compiled']} runs of the pipeline for {len(BATCHES)} sizes"


def test_training(rng: np.random.Generator) -> None:
    """Each size starts from the same weights; loss, new weights and momenta are compared."""
    start = weights(CNN, rng)
    start += [0.1 * a for a in start]
    values = [Value(a.copy()) for a in start]
    exe = executable(lambda d: cnn_step(d["batch"]), bindings=values, name="cnn_step")
    for n in BATCHES:
        for v, a in zip(values, start):
            v.array[...] = a
            v.version += 1
        feeds = digits(n, rng)
        loss = exe(*feeds)[0]
        expected = evaluate(cnn_step(n), [*feeds, *start])
        for name, a, b in zip(("loss", *CNN, *[f"momentum of {k}" for k in CNN]), (loss, *[v.array for v in values]), expected, strict=True):
            # a sample alone has no variance: its gradients are rounding errors amplified by rsqrt(epsilon)
            assert_norm_close(a, b, 2e-5 if n > 1 else 1e-3, 1e-3, what=f"{name}, batch {n}")
    for name, images in variants(exe.plans).items():
        assert len(images) <= 3, f"kernel {name}: {len(images)} variants"
    assert exe.stats()["compiled"] <= 3, f"{exe.stats()['compiled']} runs of the pipeline for {len(BATCHES)} sizes"


def test_two_free_sizes(rng: np.random.Generator) -> None:
    """Batch and time of a transformer block and its gradient."""
    bound = weights(BLOCK, rng)
    exe = executable(lambda d: transformer(d["batch"], d["time"]), bindings=[Value(a) for a in bound], name="transformer")
    for batch, time in ((1, 1), (1, 13), (3, 1), (2, 16), (5, 7), (4, 33), (7, 64), (2, 65)):
        x = rng.standard_normal((batch, time, 48)).astype(np.float32)
        for a, b in zip(exe(x), evaluate(transformer(batch, time), [x, *bound])):
            assert_norm_close(a, b, 1e-5, what=f"batch {batch}, time {time}")
    for name, images in variants(exe.plans).items():
        assert len(images) <= 3, f"kernel {name}: {len(images)} variants"
