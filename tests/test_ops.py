"""Every op, from the samples in its class: an op that is added is tested without a word here.

Each check is one function over (op, number of the sample). ``case`` gives the sample's graph and arrays: a column for another
executor
is one more function that runs that graph and calls ``agree``.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from functools import cache

import numpy as np
import pytest

from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Input, Node, leaf, node
from kerogen.compiler.ir.rewrite import with_bodies
from kerogen.compiler.ir.text import constants_of, graph_text, parse_graph
from kerogen.compiler.ir.types import TensorType, items_of
from kerogen.compiler.ir.verify import verify
from kerogen.compiler.kernel.interp import run_kernel
from kerogen.compiler.kernel.ir import Kernel
from kerogen.compiler.ops import functional as f
from kerogen.compiler.ops import op_classes
from kerogen.compiler.ops.base import Op, Sample
from kerogen.compiler.ops.constant import Constant
from kerogen.compiler.ops.result import Result, results
from kerogen.compiler.passes.autodiff import grad
from kerogen.compiler.passes.decompose import decompose
from kerogen.compiler.passes.fuse import Group
from kerogen.compiler.passes.lower import lower_group
from kerogen.compiler.pipeline import compile_graph, program_of
from kerogen.compiler.program.interpret import interpret_program
from kerogen.compiler.program.program import Call
from kerogen.compiler.target import Target
from kerogen.runtime import cpu
from kerogen.runtime.dtype import STORAGE, as_dtype, float64
from kerogen.runtime.errors import GradientError, KerogenError, UnsupportedPlatformError
from kerogen.runtime.executable import Executable

from .compare import assert_close
from .oracle import oracle

OPS = {name: cls for name, cls in op_classes().items() if cls.kind != "result"}  # results are tested with the ops that have several
TAGS = {"broadcast", "size0", "size1", "odd"}
TOLERANCE = {"float64": 1e-12, "float32": 2e-6, "float16": 4e-3, "bfloat16": 3e-2} | {d.name: 0.0 for d in STORAGE}


@cache
def samples(name: str) -> list[Sample]:
    return OPS[name].samples(np.random.default_rng(zlib.crc32(name.encode())))


CASES = [pytest.param(name, i, id=f"{name}-{i}") for name in OPS for i in range(len(samples(name)))]
SMOOTH = [
    pytest.param(name, i, id=f"{name}-{i}")
    for name, cls in OPS.items()
    if cls.differentiable
    for i, s in enumerate(samples(name))
    if s.smooth and any(as_dtype(a.dtype).is_float for a in s.arrays)
]


def type_of(a: np.ndarray) -> TensorType:
    return TensorType(a.shape, as_dtype(a.dtype))


def case(name: str, i: int) -> tuple[Graph, list[np.ndarray]]:
    """The graph of one op over inputs, and what to feed them."""
    sample = samples(name)[i]
    return graph_of(sample.op, sample.arrays), list(sample.arrays)


def graph_of(op: Op, arrays) -> Graph:
    inputs = tuple(leaf(f"x{k}", type_of(a)) for k, a in enumerate(arrays))
    n = node(op, *inputs)
    return Graph(inputs, tuple(results(n)) if n.has_items else (n,), name=op.name)


def node_of(graph: Graph) -> Node:
    """The op's node in a graph of ``graph_of``."""
    out = graph.outputs[0]
    return out.inputs[0] if isinstance(out.op, Result) else out


def values_of(op: Op, arrays) -> list[np.ndarray]:
    """What ``eval`` gives, result by result."""
    out = op.eval(*arrays)
    return list(out) if isinstance(out, tuple) else [out]


def joined(graph: Graph) -> Node:
    """One node that depends on every floating result: the result itself, or all of them in a row."""
    floats = [o for o in graph.outputs if o.dtype.is_float]
    if len(graph.outputs) == 1:
        return graph.outputs[0]
    return f.concat([f.reshape(o, (o.type.size,)) for o in floats], 0) if floats else graph.outputs[0]


def joined_values(op: Op, arrays) -> np.ndarray:
    """``joined``, by ``eval``."""
    values = values_of(op, arrays)
    floats = [v.reshape(-1) for v in values if as_dtype(v.dtype).is_float]
    return values[0] if len(values) == 1 or not floats else np.concatenate(floats)


def agree(actual: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Floats within the type's tolerance; everything else exactly."""
    dtype = as_dtype(expected.dtype)
    if dtype.is_float:
        assert as_dtype(actual.dtype) is dtype, f"{what}: {actual.dtype}, expected {dtype}"
        assert_close(actual.astype(np.float64), expected.astype(np.float64), TOLERANCE[dtype.name], what=what)
    else:
        assert_close(actual, expected, 0, what=what)


def interpret(graph: Graph, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Every node lowered to a kernel of its own, which the interpreter runs."""
    graph = decompose(graph)
    if any(n.op.kind in ("region", "routine", "host") for n in graph.nodes):
        return interpret_program(program_of(graph, Target.host()), arrays)
    values: dict[Node, np.ndarray] = dict(zip(graph.inputs, arrays))
    for n in graph.nodes:
        if isinstance(n.op, Constant) and n.op.array.size != 1:  # a buffer, not an expression
            values[n] = n.op.array
        elif not isinstance(n.op, Input):
            lowered = lower_group(
                Group([n], members={n: "same"}, mode="scatter" if n.op.kind == "scatter" else "map"), lambda m, n=n: m is not n
            )
            out = np.full(tuple(map(int, n.shape)), 77).astype(n.dtype.np)
            buffers = {
                b.name: (out if m is n else values[m]).reshape(b.shape) for b, m in zip(lowered.kernel.buffers, lowered.nodes)
            }
            run_kernel(lowered.kernel, buffers)
            values[n] = out
    return [values[o] for o in graph.outputs]


@pytest.mark.parametrize("name", OPS)
def test_every_op_has_samples_that_cover_the_sizes(name: str) -> None:
    given = samples(name)
    missing = TAGS - {t for s in given for t in s.tags}
    assert len(given) >= 4 and not missing, f"{name} has {len(given)} samples (at least 4), none tagged {sorted(missing)}"
    for s in given:
        sizes = [n for a in s.arrays for n in a.shape]
        shapes = [t.shape for t in items_of(s.op.infer(*map(type_of, s.arrays)))]
        assert "size0" not in s.tags or not s.arrays or 0 in sizes or any(0 in shape for shape in shapes), (
            f"{s.op} is tagged size0"
        )


@pytest.mark.parametrize("name", OPS)
def test_every_op_has_a_gradient_or_says_why_not(name: str) -> None:
    cls = OPS[name]
    own = cls.vjp is not Op.vjp
    if cls.differentiable:
        assert own, f"{name} is differentiable but has no vjp"
        assert not cls.no_gradient
    else:
        assert cls.no_gradient, f"{name} is not differentiable and doesn't say why (no_gradient)"
        assert not own, f"{name} says that it has no gradient, and has a vjp"
        sample = samples(name)[0]
        y = node_of(graph_of(sample.op, sample.arrays))
        with pytest.raises(GradientError, match=re.escape(cls.no_gradient)):
            y.op.vjp(y, y)


@pytest.mark.parametrize(("name", "i"), CASES)
def test_infer_says_what_eval_gives(name: str, i: int) -> None:
    sample = samples(name)[i]
    inferred, values = items_of(sample.op.infer(*map(type_of, sample.arrays))), values_of(sample.op, sample.arrays)
    assert len(inferred) == len(values) and all(isinstance(v, np.ndarray) for v in values)
    for t, value in zip(inferred, values):
        assert type_of(value).same(t), f"eval gives {type_of(value)}, infer says {t}"


@pytest.mark.parametrize("name", OPS)
def test_bad_operands_are_refused(name: str) -> None:
    for bad in OPS[name].bad_samples():
        with pytest.raises(bad.error, match=bad.match) as caught:
            bad.op.infer(*bad.types)
        assert isinstance(caught.value, KerogenError)
    takes_anything = {"Bitcast", "Cast", "StopGradient", "Constant"}
    assert OPS[name].bad_samples() or name in takes_anything, f"{name} refuses nothing"


@pytest.mark.parametrize(("name", "i"), CASES)
def test_text_parses_back_to_the_same_text(name: str, i: int) -> None:
    graph, _ = case(name, i)
    if OPS[name].differentiable and joined(graph).dtype.is_float:  # its derivative is text too
        y, xs = joined(graph), [x for x in graph.inputs if x.dtype.is_float]
        graph = Graph(graph.inputs, (y, *grad(y, xs, f.ones_like(y))), name=name)
    verify(graph)
    text = graph_text(graph)
    again = parse_graph(text, op_classes(), constants_of(graph))
    verify(again)
    assert graph_text(again) == text
    assert f"{name}(" in text


@pytest.mark.parametrize(("name", "i"), CASES)
def test_lowered_and_interpreted_equals_eval(name: str, i: int) -> None:
    graph, arrays = case(name, i)
    agree_all(interpret(graph, arrays), graph, arrays)


def agree_all(actual: list[np.ndarray], graph: Graph, arrays, what: str = "") -> None:
    op = node_of(graph).op
    for k, (a, e) in enumerate(zip(actual, values_of(op, arrays), strict=True)):
        agree(a, e, f"{what}{op}{f', result {k}' if len(actual) > 1 else ''}")


@pytest.mark.parametrize(("name", "i"), [p for p in CASES if OPS[p.values[0]].kind == "composite"])
def test_decomposition_equals_eval(name: str, i: int) -> None:
    graph, arrays = case(name, i)
    agree_all(evaluate(decompose(graph), arrays), graph, arrays)


def in_float64(sample: Sample) -> tuple[Op, list[np.ndarray]]:
    """The sample with float64 in place of every floating type."""
    op = sample.op
    if any(fd.name == "dtype" for fd in dataclasses.fields(op)) and op.dtype.is_float:
        op = dataclasses.replace(op, dtype=float64)
    op = with_bodies(op, widened)
    return op, [a.astype(np.float64) if as_dtype(a.dtype).is_float else a for a in sample.arrays]


def widened(graph: Graph) -> Graph:
    """A sub-graph with float64 in place of every floating type."""
    memo: dict[Node, Node] = {}
    for n in (*graph.inputs, *graph.nodes):
        if n in memo:
            continue
        if isinstance(n.op, Input):
            memo[n] = leaf(n.op.name, n.type.with_dtype(float64) if n.dtype.is_float else n.type, n.op.role)
            continue
        floating = any(fd.name == "dtype" for fd in dataclasses.fields(n.op)) and n.op.dtype.is_float
        memo[n] = node(dataclasses.replace(n.op, dtype=float64) if floating else n.op, *[memo[i] for i in n.inputs])
    return Graph(tuple([memo[n] for n in graph.inputs]), tuple([memo[n] for n in graph.outputs]), name=graph.name)


def slope(fn, xs: list[np.ndarray], direction: list[np.ndarray], h: float = 1e-4) -> float:
    """The directional derivative of a scalar function by central differences of fourth order."""

    def at(t: float) -> float:
        return fn([x + t * d if as_dtype(x.dtype).is_float else x for x, d in zip(xs, direction)])

    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def check_slopes(
    fn, derivative: list[np.ndarray], xs: list[np.ndarray], floats: list[int], rng: np.random.Generator, relative: float
) -> None:
    for _ in range(3):
        direction = [rng.standard_normal(x.shape) for x in xs]
        expected = slope(fn, xs, direction)
        actual = sum(float(np.sum(g * direction[k])) for g, k in zip(derivative, floats))
        assert abs(actual - expected) <= relative * max(abs(expected), 1e-2), (
            f"derivative {actual!r}, finite differences {expected!r}"
        )


@pytest.mark.parametrize(("name", "i"), SMOOTH)
def test_vjp_equals_finite_differences(name: str, i: int) -> None:
    rng = np.random.default_rng(i)
    op, xs = in_float64(samples(name)[i])
    graph = graph_of(op, xs)
    y, floats = joined(graph), [k for k, x in enumerate(graph.inputs) if x.dtype.is_float]
    if not y.dtype.is_float:
        return
    ct = rng.standard_normal(tuple(y.shape))
    g = Graph(graph.inputs, tuple(grad(y, [graph.inputs[k] for k in floats], f.constant(ct))))
    verify(g)
    check_slopes(lambda at: float(np.sum(ct * joined_values(op, at))), evaluate(g, xs), xs, floats, rng, 1e-6)


@pytest.mark.parametrize(("name", "i"), SMOOTH)
def test_vjp_of_vjp_equals_finite_differences(name: str, i: int) -> None:
    """The derivative of <gradient, v>: every vjp is made of ops that have one."""
    rng = np.random.default_rng(i)
    op, xs = in_float64(samples(name)[i])
    graph = graph_of(op, xs)
    y, floats = joined(graph), [k for k, x in enumerate(graph.inputs) if x.dtype.is_float]
    if not y.dtype.is_float or max((a.size for a in xs), default=0) > 700:
        return
    variables = [graph.inputs[k] for k in floats]
    first = grad(y, variables, f.constant(rng.standard_normal(tuple(y.shape))))
    z = f.sum_(f.zeros((), float64))
    for g in first:
        z = f.add(z, f.sum_(f.mul(g, f.constant(rng.standard_normal(tuple(g.shape))))))
    second = Graph(graph.inputs, tuple(grad(z, variables)))
    scalar = Graph(graph.inputs, (z,))
    check_slopes(lambda at: float(evaluate(scalar, at)[0]), evaluate(second, xs), xs, floats, rng, 1e-5)


@pytest.mark.parametrize(("name", "i"), SMOOTH)
def test_lowered_vjp_equals_evaluated_vjp(name: str, i: int) -> None:
    """The backward graph through kernels: the combinations that training runs."""
    graph, arrays = case(name, i)
    y = joined(graph)
    if not y.dtype.is_float:
        return
    xs = [x for x in graph.inputs if x.dtype.is_float]
    ct = leaf("ct", y.type)
    back = Graph((*graph.inputs, ct), tuple(grad(y, xs, ct)))
    feed = [*arrays, np.random.default_rng(i).standard_normal(tuple(y.shape)).astype(y.dtype.np)]
    for actual, expected in zip(interpret(back, feed), evaluate(back, feed)):
        scale = max(1.0, float(np.max(np.abs(expected.astype(np.float64)), initial=0)))
        agree((actual / np.asarray(scale, actual.dtype)), expected / np.asarray(scale, expected.dtype), f"vjp of {y.op}")


def native(graph: Graph, arrays: list[np.ndarray], target: str = "native") -> list[np.ndarray]:
    """The whole pipeline: machine code for ``target``, run by the runtime. Outputs that depend on nothing are checked too."""
    plan = compile_graph(graph, target=Target.named(target))
    out = Executable(plans=[plan])(*arrays)
    return out if isinstance(out, list) else [out]


def runnable(target: str) -> bool:
    try:
        cpu.require(cpu.named_machine(target).text)
    except UnsupportedPlatformError:
        return False
    return True


@pytest.mark.parametrize(("name", "i"), CASES)
def test_llvm_equals_eval(name: str, i: int) -> None:
    graph, arrays = case(name, i)
    agree_all(native(graph, arrays), graph, arrays)


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v2"])
@pytest.mark.parametrize("name", OPS)
def test_llvm_for_lesser_targets_equals_eval(name: str, target: str) -> None:
    """No lane masks, no gathers, no fused multiply-add: the other half of the emitters."""
    if not runnable(target):
        pytest.skip(f"this machine does not run {target} code")
    for i in range(len(samples(name))):
        graph, arrays = case(name, i)
        agree_all(native(graph, arrays, target), graph, arrays, f"sample {i}: ")


@pytest.mark.parametrize("name", OPS)
def test_triton_interpreted_equals_eval(name: str) -> None:
    """All samples of an op in one message to the worker that interprets."""
    oracle("triton")
    from kerogen.compiler.codegen.triton.interpreter import interpret
    from kerogen.compiler.codegen.triton.interpreter import interpret_program as triton_program

    target = dataclasses.replace(Target.host(), arch="cuda")
    calls, memory, errors, expected = [], {}, [], []
    for i in range(len(samples(name))):
        graph, arrays = case(name, i)
        program = program_of(graph, target)
        steps = [*program.setup, *program.calls]
        if not all(isinstance(c, Call) and isinstance(c.kernel, Kernel) for c in steps):
            agree_all(triton_program(program, [a.copy() for a in arrays]), graph, arrays, f"sample {i}: ")
            continue
        names: dict = {}

        def place(value, array=None, names=names, i=i) -> str:
            if value not in names:
                names[value] = f"s{i}v{len(names)}"
                shape = tuple(map(int, value.shape))
                memory[names[value]] = np.asarray(array) if array is not None else np.full(shape, 77).astype(value.dtype.np)
            return names[value]

        for v, a in (*zip(program.inputs, arrays), *program.constants):
            place(v, a)
        for c in steps:
            calls.append((c.kernel, {b.name: place(v) for b, v in zip(c.kernel.buffers, c.values)}))
            errors.append(c.errors)
        expected.append(([place(v) for v in program.outputs], graph, arrays))
    done = interpret(calls, memory, errors=errors)
    for i, (keys, graph, arrays) in enumerate(expected):
        agree_all([done[k] for k in keys], graph, arrays, f"sample {i}: ")


def with_gradient(graph: Graph) -> tuple[Graph, list[int]]:
    """Inputs and a cotangent to the value and its derivative with respect to every floating input (their numbers), in one graph."""
    y, floats = joined(graph), [k for k, x in enumerate(graph.inputs) if x.dtype.is_float]
    ct = leaf("ct", y.type)
    out = (y, *grad(y, [graph.inputs[k] for k in floats], ct))
    return Graph((*graph.inputs, ct), out, name=f"{graph.name}_grad"), floats


@pytest.mark.parametrize(("name", "i"), SMOOTH)
def test_compiled_gradient_equals_finite_differences(name: str, i: int) -> None:
    """Value and derivative compiled together in float64; the float32 executable's derivative within 1e-4 of it."""
    rng = np.random.default_rng(i)
    op, xs = in_float64(samples(name)[i])
    graph = graph_of(op, xs)
    if not joined(graph).dtype.is_float:
        return
    both, floats = with_gradient(graph)
    ct = rng.standard_normal(tuple(both.outputs[0].shape))
    value, *derivative = native(both, [*xs, ct])
    agree(value, joined_values(op, xs), f"{op}")
    check_slopes(lambda at: float(np.sum(ct * joined_values(op, at))), derivative, xs, floats, rng, 1e-6)

    small, arrays = case(name, i)
    if any(small.inputs[k].dtype.name != "float32" for k in floats) or joined(small).dtype.name != "float32":
        return
    got = native(with_gradient(small)[0], [*arrays, ct.astype(np.float32)])[1:]
    again = native(both, [*[a.astype(np.float64) if k in floats else a for k, a in enumerate(arrays)], ct.astype(np.float32).astype(np.float64)])[1:]
    for k, a, b in zip(floats, got, again):
        scale = max(1.0, float(np.max(np.abs(b), initial=0)))
        assert_close(a / scale, b / scale, 1e-4, check_dtype=False, what=f"derivative of {op} by operand {k}")
