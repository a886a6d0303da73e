"""Attention's templates on every instruction set: all forms against float64, splits of the work, accuracy, free sizes; and JAX as another
oracle for what the op means."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from kerogen.compiler import ops
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Node, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.kernel.attention import Attend, AttendGrad
from kerogen.compiler.pipeline import compile_graph, executable, grad
from kerogen.compiler.program.program import Call, Program
from kerogen.runtime.dtype import as_dtype
from kerogen.runtime.executable import Executable
from tests.codegen.llvm.native import LEVELS, check_program, target_named
from tests.compare import assert_close, assert_same_bits
from tests.oracle import oracle


def rng_of(*key: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


Shape = tuple[int, ...]


def draw(rng: np.random.Generator, shape: Shape, dtype: str = "float32", bias: Shape | None = None, mask: Shape | None = None, layout: str = "BTHD",
         blind: int = 0) -> list[np.ndarray]:
    """q, k, v, the bias, the mask (the first ``blind`` queries see nothing), a cotangent, for (batch, queries, keys, heads, groups, depth, width)."""
    b, t, s, h, g, d, e = shape
    forms = [(b, t, h, d), (b, s, g, d), (b, s, g, e), (b, t, h, e)]
    if layout == "BHTD":
        forms = [(x[0], x[2], x[1], x[3]) for x in forms]
    q, k, v, ct = (rng.standard_normal(x).astype(as_dtype(dtype).np) for x in forms)
    out = [q, k, v]
    if bias is not None:
        out.append((2 * rng.standard_normal(bias)).astype(q.dtype))
    if mask is not None:
        seen = rng.random(mask) < 0.6
        seen[..., : blind if mask[2] > 1 else 0, :] = False
        out.append(seen)
    return [*out, ct]


def graph_of(arrays: list[np.ndarray], bias: bool, mask: bool, backward: bool = True, **options) -> Graph:
    """The result and, where ``backward``, the gradients of q, k and v."""
    nodes = [leaf(f"x{i}", TensorType(a.shape, as_dtype(a.dtype))) for i, a in enumerate(arrays)]
    out = ops.attention(*nodes[:3], nodes[3] if bias else None, nodes[3 + bias] if mask else None, **options)
    return Graph(tuple(nodes), (out, *(grad(out, nodes[:3], nodes[-1]) if backward else ())), name="attention")


def claimed(program: Program) -> list[str]:
    return [type(c.kernel).__name__ for c in program.calls if isinstance(c, Call) and isinstance(c.kernel, Attend)]


CASES: dict[str, tuple[Shape, dict, dict]] = {
    "plain": ((2, 30, 40, 2, 2, 16, 16), {}, {}),
    "tiles": ((1, 128, 128, 2, 2, 64, 64), {}, {}),
    "odd": ((2, 19, 37, 3, 1, 17, 9), {}, {"layout": "BHTD"}),
    "one query": ((3, 1, 70, 4, 2, 32, 32), {}, {}),
    "one key": ((1, 33, 1, 1, 1, 1, 1), {}, {}),
    "blocks of keys, a chunk of queries and more": ((1, 150, 530, 2, 1, 8, 24), {}, {"causal": True, "offset": 300}),
    "causal": ((1, 151, 290, 2, 2, 16, 8), {}, {"causal": True}),
    "bias": ((2, 21, 45, 4, 2, 8, 8), {"bias": (2, 4, 21, 45)}, {"layout": "BHTD"}),
    "bias of heads and keys": ((2, 21, 64, 4, 2, 8, 8), {"bias": (1, 4, 1, 64)}, {}),
    "bias without keys": ((2, 21, 33, 2, 2, 8, 8), {"bias": (2, 1, 21, 1)}, {}),
    "padded keys": ((3, 20, 300, 2, 2, 8, 8), {"mask": (3, 1, 1, 300)}, {}),
    "bias and mask": ((2, 19, 37, 4, 4, 17, 9), {"bias": (1, 1, 19, 37), "mask": (2, 1, 19, 37)}, {"empty": "zero", "causal": True}),
    "blind queries": ((1, 40, 61, 2, 2, 8, 8), {"mask": (1, 2, 40, 61), "blind": 20}, {}),
    "blind queries, zero": ((1, 40, 61, 2, 2, 8, 8), {"mask": (1, 2, 40, 61), "blind": 20}, {"empty": "zero"}),
    "blind queries, causal": ((1, 160, 260, 2, 2, 8, 8), {"mask": (1, 1, 160, 260), "blind": 20}, {"causal": True}),
    "before the first key": ((1, 40, 60, 2, 2, 8, 8), {}, {"causal": True, "offset": -9}),
    "before the first key, zero": ((1, 40, 60, 2, 2, 8, 8), {}, {"causal": True, "offset": -9, "empty": "zero"}),
    "float64": ((1, 33, 64, 2, 2, 33, 65), {"dtype": "float64"}, {"causal": True}),
    "bfloat16": ((1, 33, 47, 2, 2, 24, 20), {"dtype": "bfloat16", "bias": (1, 1, 33, 47)}, {}),
    "float16": ((1, 33, 47, 2, 2, 24, 20), {"dtype": "float16", "mask": (1, 2, 33, 47)}, {"layout": "BHTD"}),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CASES)
def test_forms(name: str, level: str) -> None:
    """Forward and backward kernel beside NumPy in float64, in fenced memory, in any split of the work; then the whole program."""
    shape, extra, options = CASES[name]
    rng, target = rng_of(name, level), target_named(level)
    arrays = draw(rng, shape, layout=options.get("layout", "BTHD"), **extra)
    graph = graph_of(arrays, "bias" in extra, "mask" in extra, **options)
    tolerance = {"float64": 1e-12, "bfloat16": 2e-2, "float16": 3e-3}.get(extra.get("dtype", "float32"), 5e-6)
    program = check_program(graph, arrays, target, rng, tolerance)
    assert claimed(program) == ["Attend", "AttendGrad"]
    assert len(program.calls) == 2, [c.kernel.name for c in program.calls]
    for got, expected in zip(Executable(plans=[compile_graph(graph, target=target)])(*arrays), evaluate(graph, arrays)):
        assert_close(got, expected, tolerance, what=name)


def test_soft_cap() -> None:
    """The forward pass is claimed; the derivative, which needs the scores from before the cap, is decomposed."""
    rng = rng_of("soft cap")
    arrays = draw(rng, (2, 33, 47, 2, 1, 24, 20))
    graph = graph_of(arrays, False, False, soft_cap=1.5)
    target = target_named("x86-64-v4")
    assert claimed(check_program(graph, arrays, target, rng, 5e-6)) == ["Attend"]
    for got, expected in zip(Executable(plans=[compile_graph(graph, target=target)])(*arrays), evaluate(graph, arrays)):
        assert_close(got, expected, 5e-6)


@pytest.mark.parametrize("sizes", [(3, 0, 5), (3, 5, 0), (0, 4, 5)])
def test_nothing_to_attend(sizes: tuple[int, int, int]) -> None:
    b, t, s = sizes
    arrays = draw(rng_of(sizes), (b, t, s, 2, 2, 8, 8))
    graph = graph_of(arrays, False, False)
    for got, like in zip(Executable(plans=[compile_graph(graph)])(*arrays), (arrays[-1], *arrays[:3])):
        assert_same_bits(np.asarray(got), np.zeros_like(like))


@pytest.mark.parametrize("causal", [False, True])
def test_errors_are_float32s(causal: bool) -> None:
    """rms errors against float64, at most 1.2 times those of NumPy's float32 arithmetic, written out."""
    b, t, h, d = 1, 300, 3, 64
    arrays = draw(rng_of("accuracy"), (b, t, t, h, h, d, d))
    graph = graph_of(arrays, False, False, causal=causal)
    got = Executable(plans=[compile_graph(graph)])(*arrays)

    def written_out(dtype: type) -> list[np.ndarray]:
        q, k, v, ct = (a.astype(dtype).transpose(0, 2, 1, 3) for a in arrays)
        scale = dtype(1 / np.sqrt(d))
        scores = scale * (q @ k.swapaxes(2, 3))
        if causal:
            scores = np.where(np.tril(np.ones((t, t), bool)), scores, dtype(-np.inf))
        e = np.exp(scores - scores.max(-1, keepdims=True))
        p = e / e.sum(-1, keepdims=True)
        dp = ct @ v.swapaxes(2, 3)
        ds = scale * p * (dp - (p * dp).sum(-1, keepdims=True))
        return [x.transpose(0, 2, 1, 3) for x in (p @ v, ds @ k, ds.swapaxes(2, 3) @ q, p.swapaxes(2, 3) @ ct)]

    for what, ours, numpy, exact in zip(("out", "dq", "dk", "dv"), got, written_out(np.float32), written_out(np.float64)):
        mine, theirs = (float(np.sqrt(np.mean((x - exact) ** 2))) for x in (ours, numpy))
        assert mine <= 1.2 * theirs, f"{what}: rms error {mine:.3g}, NumPy's {theirs:.3g}"


def test_large_scores() -> None:
    """Scores of hundreds, additive masks of -1e9 and infinities: nothing overflows, rows of -1e9 alone count alike, rows of -inf give zeros."""
    rng = rng_of("large")
    arrays = draw(rng, (1, 40, 70, 2, 2, 16, 16), bias=(1, 1, 40, 70))
    arrays[0] *= 40
    arrays[0][:, 3] /= 40  # its scores vanish beside -1e9, which float64 would still tell apart
    arrays[-1][:, 3] = 0
    arrays[3][..., 10:, ::3] = -1e9
    arrays[3][..., 3, :] = -1e9
    arrays[3][..., 4, :] = -np.inf
    arrays[3][..., 5, 1:] = -np.inf
    graph = graph_of(arrays, True, False)
    got = Executable(plans=[compile_graph(graph)])(*arrays)
    others = [i for i in range(40) if i != 3]
    for i, (a, e) in enumerate(zip(got, evaluate(graph, arrays))):
        assert_close(*((x if i else x[:, others]) / 40 for x in (a, e)), 2e-4)
    assert_same_bits(np.asarray(got[0])[:, 4], np.zeros_like(got[0])[:, 4])
    assert_close(np.asarray(got[0])[:, 3], arrays[2].astype(np.float64).mean(1).astype(np.float32), 1e-4)
    assert_same_bits(np.asarray(got[0])[:, 5], arrays[2][:, 0])


def test_a_nan_stays_in_its_row() -> None:
    arrays = draw(rng_of("nan"), (1, 40, 70, 2, 2, 16, 16))
    graph = graph_of(arrays, False, False, backward=False)
    exe = Executable(plans=[compile_graph(graph)])
    clean = np.asarray(exe(*arrays)).copy()
    arrays[0][0, 17, 1, 3] = np.nan
    out = np.asarray(exe(*arrays))
    assert np.isnan(out[0, 17, 1]).all()
    out[0, 17, 1] = clean[0, 17, 1]
    assert_same_bits(out, clean)


def test_one_plan_for_all_sizes() -> None:
    def trace(dims) -> Graph:
        b, t, s = (dims[n] for n in ("batch", "queries", "keys"))
        nodes = [leaf(n, TensorType((b, x, 4, 16), as_dtype("float32"))) for n, x in (("q", t), ("k", s), ("v", s), ("ct", t))]
        mask = leaf("mask", TensorType((b, 1, 1, s), as_dtype("bool")))
        out = ops.attention(*nodes[:3], mask=mask, causal=True)
        return Graph((*nodes, mask), (out, *grad(out, nodes[:3], nodes[3])), name="free")

    exe = executable(trace, name="free")
    for b, t, s in ((2, 9, 9), (1, 300, 40), (3, 5, 270), (2, 40, 257)):
        arrays = [*draw(rng_of(b, t, s), (b, t, s, 4, 4, 16, 16)), rng_of(s).random((b, 1, 1, s)) < 0.6]
        for got, expected in zip(exe(*arrays), evaluate(trace({"batch": b, "queries": t, "keys": s}), arrays)):
            assert_close(got, expected, 5e-6, what=f"batch {b}, {t} queries, {s} keys")
    assert len(exe._plans) == 1


@pytest.mark.parametrize("seed", range(4))
def test_means_what_jax_means(seed: int) -> None:
    """jax.nn.dot_product_attention and its derivatives by jax.grad: masks with queries that see nothing, biases, grouped heads, causal."""
    jax = oracle("jax")
    rng = rng_of("jax", seed)
    b, t, s, g, d = (int(rng.integers(1, n)) for n in (4, 60, 90, 4, 40))
    h = g * int(rng.integers(1, 4))
    bias = tuple(int(n) if rng.random() < 0.6 else 1 for n in (b, h, t, s)) if seed % 2 else None
    mask = tuple(int(n) if rng.random() < 0.7 else 1 for n in (b, h, t, s)) if seed % 3 else None
    causal = bool(rng.random() < 0.5)
    arrays = draw(rng, (b, t, s, h, g, d, d), bias=bias, mask=mask, blind=2)
    graph = graph_of(arrays, bias is not None, mask is not None, causal=causal)

    def theirs(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, arrays[3] if bias else None, arrays[-2] if mask else None, is_causal=causal)

    with jax.default_matmul_precision("highest"):
        out, pull = jax.vjp(theirs, *map(jax.numpy.asarray, arrays[:3]))
        expected = [out, *pull(jax.numpy.asarray(arrays[-1]))]
    for what, a, e in zip(("out", "dq", "dk", "dv"), Executable(plans=[compile_graph(graph)])(*arrays), expected):
        assert_close(a, np.asarray(e), 2e-5, what=f"{what} (causal={causal}, bias={bias}, mask={mask})")


def test_gradient_of_a_bias() -> None:
    rng = rng_of("bias")
    arrays = draw(rng, (2, 9, 13, 4, 2, 8, 8), bias=(1, 4, 9, 13))
    nodes: list[Node] = [leaf(f"x{i}", TensorType(a.shape, as_dtype(a.dtype))) for i, a in enumerate(arrays)]
    out = ops.attention(*nodes[:4])
    graph = Graph(tuple(nodes), tuple(grad(out, nodes[:4], nodes[4])))
    for a, e in zip(Executable(plans=[compile_graph(graph)])(*arrays), evaluate(graph, arrays)):
        assert_close(a, e, 5e-6)


def test_derivative_is_one_step() -> None:
    """Five products and no stored scores: a training step's memory holds nothing of the size of the scores."""
    arrays = draw(rng_of("memory"), (1, 512, 512, 2, 2, 16, 16))
    program = check_program(graph_of(arrays, False, False), arrays, target_named("x86-64-v4"), rng_of("memory"), 1e-5)
    assert isinstance(program.calls[-1].kernel, AttendGrad)
    assert max(int(v.nbytes) for c in program.calls for v in c.values) < 512 * 512 * 4
