"""The same bits from run to run, for any number of threads, in any process: a CNN's training steps and a transformer block with its gradient."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.pipeline import compile_graph
from kerogen.runtime import threads
from kerogen.runtime.executable import Executable, Value
from kerogen.runtime.plan import Plan

from .compare import assert_norm_close, assert_same_bits
from .networks import BLOCK, CNN, cnn_step, digits, transformer, weights

BATCH, STEPS = 61, 4


def train(plan: Plan, n: int) -> list[np.ndarray]:
    """Losses and final state of some steps with ``n`` threads."""
    rng = np.random.default_rng(11)
    state = weights(CNN, rng)
    values = [Value(a) for a in (*state, *[np.zeros_like(a) for a in state])]
    exe = Executable(plans=[plan], bindings=values)
    losses = [exe(*digits(BATCH, rng), threads=n)[0] for _ in range(STEPS)]
    return [np.stack(losses), *[v.array for v in values]]


def attend(plan: Plan, n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(12)
    bound = [Value(a) for a in weights(BLOCK, rng)]
    return Executable(plans=[plan], bindings=bound)(rng.standard_normal((5, 67, 48)).astype(np.float32), threads=n)


NETWORKS = {"cnn_step": (lambda: cnn_step(BATCH), train), "transformer": (lambda: transformer(5, 67), attend)}


@pytest.fixture(scope="module")
def pool():
    threads.set_num_threads(2)  # even where the process has one core
    yield
    threads.set_num_threads(None)


@pytest.mark.parametrize("name", NETWORKS)
def test_threads_and_repetition(name: str, pool) -> None:
    make, run = NETWORKS[name]
    plan = compile_graph(make())
    first = run(plan, 1)
    assert all(np.isfinite(a).all() for a in first)
    for n in (1, *[2] * 8):
        for k, (a, b) in enumerate(zip(run(plan, n), first, strict=True)):
            assert_same_bits(a, b, f"{name}: array {k} with {n} threads")


def test_the_step_is_right(pool) -> None:
    """What is compared above is a training step, not a constant: four steps of it by ``eval``."""
    rng = np.random.default_rng(11)
    state = weights(CNN, rng)
    state += [np.zeros_like(a) for a in state]
    graph, losses = cnn_step(BATCH), []
    for _ in range(STEPS):
        loss, *state = evaluate(graph, [*digits(BATCH, rng), *state])
        losses.append(loss)
    got = train(compile_graph(graph), 2)
    for name, a, b in zip(("losses", *CNN, *[f"momentum of {k}" for k in CNN]), got, [np.stack(losses), *state]):
        assert_norm_close(a, b, 2e-5, 0.1, what=name)  # the bias before a normalisation has no gradient but rounding


def fingerprint(name: str) -> str:
    """A digest of the plan's machine code and of the results."""
    make, run = NETWORKS[name]
    plan, h = compile_graph(make()), hashlib.sha256()
    for step in (*plan.setup, *plan.steps):
        h.update(f"{step.name} {step.slots} {step.params} {step.units}".encode() + plan.images[step.image])
    for a in run(plan, 2):
        h.update(np.ascontiguousarray(a).tobytes())
    return h.hexdigest()


@pytest.mark.parametrize("name", NETWORKS)
def test_processes(name: str, tmp_path: Path) -> None:
    """Fresh processes with other hash seeds and empty caches emit the same code and compute the same bits."""
    script = f"from tests.test_determinism import fingerprint; print(fingerprint({name!r}))"
    said = []
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "KEROGEN_CACHE_DIR": str(tmp_path / seed)}
        done = subprocess.run([sys.executable, "-c", script], env=env, cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0] == said[1] and len(said[0]) == 65
