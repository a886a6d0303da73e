"""explain(): which kernels compute which layers, what was fused and what not, host calls, and what was compiled for which sizes, why."""

from __future__ import annotations

import gc
import re

import numpy as np
import pytest

import kerogen as kg
from kerogen import layers
from kerogen.compiler import ops as f
from kerogen.compiler.ir import location
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.passes.canonicalize import canonicalize
from kerogen.runtime.dim import Dim, exact
from kerogen.runtime.dtype import float32
from kerogen.runtime.executable import Executable
from kerogen.runtime.report import every_step
from tests.compare import assert_same_bits


def network() -> kg.Model:
    x = kg.Input((None, 12))
    y = layers.LSTM(5, name="memory")(x)
    y = layers.Dense(9, activation="relu", name="wide")(y)
    y = layers.Dense(3, activation="softmax", name="answer")(layers.BatchNormalization(name="norm")(y))
    return kg.Model(x, y, name="net")


def test_every_kernel_names_the_layers_it_computes_and_what_it_fuses() -> None:
    exe = kg.compile(network())
    exe(np.random.default_rng(0).standard_normal((3, 7, 12)).astype(np.float32))
    report = exe.explain()
    steps = [s for s in every_step(report["steps"]) if s["kind"] == "kernel" and s["ops"]]
    named = " ".join(o for s in every_step([*report["steps"], *report["setup"]]) for o in s["origins"])
    assert all(layer in named for layer in ("net/memory", "net/wide", "net/norm", "net/answer"))
    (loop,) = [s for s in report["steps"] if s["kind"] == "loop"]
    assert any("Sigmoid" in s["ops"] and "Tanh" in s["ops"] for s in loop["steps"])
    (dense,) = [s for s in steps if "net/wide" in s["origins"] and "DotGeneral" in s["ops"]]
    assert dense["ops"][:3] == ["DotGeneral", "Add", "Maximum"] and "net/norm" in dense["origins"], "normalisation is folded into the product"
    text = str(report)
    assert "setup, once per version of the weights" in text and "on the host: nothing" in text
    assert re.search(r"not fused into its reader\n(.*\n)*  DotGeneral \(net/answer\): its reader is a row kernel", text), text


def test_what_was_compiled_for_which_sizes_and_why() -> None:
    exe = kg.compile(network())
    rng = np.random.default_rng(0)
    for shape in ((4, 7, 12), (5, 9, 12), (1, 7, 12), (40, 7, 12)):
        exe(rng.standard_normal(shape).astype(np.float32))
    history = exe.explain()["specialisations"]
    assert history[0]["reason"] == "the first sizes"
    assert [s["sizes"]["batch"] for s in history] == [4, 1, 40], "batch 5 fits the first plan"
    assert history[1]["reason"] == "because batch != 1 before" and history[2]["reason"] == "because batch == 1 before"


def test_host_functions_are_listed() -> None:
    exe = kg.compile(lambda x: kg.ops.add(kg.ops.svd(x)[1], 1.0), kg.spec((4, 4)))
    exe(np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32))
    assert any(s["kind"] == "host" for s in exe.explain()["steps"])
    assert re.search(r"on the host: \S*svd", str(exe.explain()))


def test_expressions_over_equal_sizes_of_other_values_are_not_shared() -> None:
    """A size that is compared records the outcome for its own value: one from an earlier compilation would bring its old value along."""
    from kerogen.compiler.kernel.expr import Axis, Load
    from kerogen.compiler.kernel.ir import Buffer

    small, large = Dim.free("batch", 3), Dim.free("batch", 300)
    a, b = Axis("i", small), Axis("i", large)
    assert a is not b and int(a.extent) == 3 and int(b.extent) == 300
    assert Axis("i", Dim.free("batch", 3)) is a
    first, second = (Load(Buffer("x", (n,), float32), (a,)) for n in (small, large))
    assert int(first.buffer.shape[0]) == 3 and int(second.buffer.shape[0]) == 300
    assert exact((small, 2)) != exact((large, 2))


def test_kernels_of_a_derivative_name_the_layers_and_the_first_error_is_told() -> None:
    """An index out of range is met by the lookup and again by its derivative: what the user reads is the lookup's, with the layer."""
    stack = [kg.Input((5,), dtype="int32"), layers.Embedding(7, 4, name="table"), layers.Flatten(), layers.Dense(2, name="head")]
    model = kg.Sequential(stack, name="explained")
    model.compile(optimizer="sgd", loss="mse")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 7, (8, 5)).astype(np.int32), rng.standard_normal((8, 2)).astype(np.float32)
    model.fit(x, y, verbose=0)
    (step,) = [e for e in gc.get_objects() if isinstance(e, Executable) and e.name == f"{model.name}_train"]
    origins = {o.split("/")[-1] for s in every_step(step.explain()["steps"]) for o in s["origins"]}
    assert {"table", "head", "loss", model.optimizer.name} <= origins, origins
    before = model.get_weights()
    x[3, 2] = 9
    with pytest.raises(kg.errors.IndexRangeError, match=r"Take: an index is outside \[0, 7\) \(in explained/table\)"):
        model.fit(x, y, verbose=0)
    for a, b in zip(model.get_weights(), before):
        assert_same_bits(a, b)


def test_passes_keep_where_a_node_came_from() -> None:
    """A node that a pass makes anew over other operands belongs to the layer that the old one belonged to."""
    x = leaf("x", TensorType((3, 4), float32))
    with location.scope("layer"):
        y = f.exp(f.transpose(f.transpose(x, (1, 0)), (1, 0)))  # the transposes go, so the exponential is made anew
    (new,) = canonicalize(Graph((x,), (y,))).outputs
    assert new is not y and new.inputs == (x,) and new.origins == ("layer",)
