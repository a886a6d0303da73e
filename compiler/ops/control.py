"""Control flow: ops that hold sub-graphs. A sub-graph is closed: what it takes from outside is an input of the op, after its own inputs.

The functions ``scan``, ``while_loop`` and ``cond`` (``compiler.ops.looping``) write them from Python functions. A loop runs natively, step by step over
the kernels of its body; nothing returns to Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime import dim
from ...runtime.dtype import bool_, float32, float64, int32
from ...runtime.errors import ShapeError
from ..ir.body import Body
from ..ir.evaluate import evaluate
from ..ir.graph import Graph, Node, leaf
from ..ir.types import TensorType, TupleType
from . import functional as f
from .base import BadSample, Op, Sample, shape_text


class Region(Op):
    """An op with sub-graphs: a step of its own, with one result for every output of theirs."""

    def bodies(self) -> tuple[Body, ...]:
        raise NotImplementedError


def _check_body(op: Op, what: str, body: Body, types: Sequence[TensorType]) -> None:
    inputs = body.graph.inputs
    if len(inputs) != len(types):
        raise ShapeError(f"{op.name}: the {what} takes {len(inputs)} values, got {len(types)}")
    for i, (a, t) in enumerate(zip(inputs, types)):
        if not a.type.same(t):
            raise ShapeError(f"{op.name}: the {what} wants {a.type} as value {i}, got {t}")


def _check_carries(op: Op, carries: Sequence[TensorType], outputs: Sequence[Node]) -> None:
    for i, (t, o) in enumerate(zip(carries, outputs)):
        if not o.type.same(t):
            raise ShapeError(f"{op.name}: carry {i} is {t} before a step and {o.type} after it")


@dataclass(frozen=True, eq=False)
class Scan(Region):
    """``length`` steps of ``body``, a function of (carries, items, captures) that gives (carries, ys).

    Inputs: ``carries`` initial values; ``items`` arrays [length, ...], of which step t sees row t; captures, which every step sees. Results: the last
    carries, then each y stacked to [length, ...]. ``reverse`` goes from the last row to the first (row t of a stacked y belongs to row t of the items).
    """

    body: Body
    carries: int
    items: int
    length: int
    reverse: bool = False

    kind = "region"

    def bodies(self) -> tuple[Body, ...]:
        return (self.body,)

    def infer(self, *types: TensorType) -> TupleType:
        first = types[: self.carries]
        items = types[self.carries : self.carries + self.items]
        for t in items:
            if not t.rank or dim.key(t.shape[0]) != dim.key(self.length):
                raise ShapeError(f"Scan over {dim.text(self.length)} steps can't step through {t}")
        rows = [t.with_shape(t.shape[1:]) for t in items]
        _check_body(self, "body", self.body, [*first, *rows, *types[self.carries + self.items :]])
        outputs = self.body.graph.outputs
        _check_carries(self, first, outputs)
        if len(outputs) < self.carries:
            raise ShapeError(f"Scan: the body gives {len(outputs)} values for {self.carries} carries")
        return TupleType((*first, *[o.type.with_shape((self.length, *o.shape)) for o in outputs[self.carries :]]))

    def eval(self, *arrays) -> tuple[np.ndarray, ...]:
        state = list(arrays[: self.carries])
        items = arrays[self.carries : self.carries + self.items]
        captures = arrays[self.carries + self.items :]
        ys = [np.empty((self.length, *map(int, o.shape)), o.dtype.np) for o in self.body.graph.outputs[self.carries :]]
        for t in range(self.length)[:: -1 if self.reverse else 1]:
            out = evaluate(self.body.graph, [*state, *[x[t] for x in items], *captures])
            state = out[: self.carries]
            for y, o in zip(ys, out[self.carries :]):
                y[t] = o
        return (*[np.asarray(s) for s in state], *ys)

    def vjp(self, node: Node, ct: Sequence[Node | None]) -> tuple[Node | None, ...]:  # type: ignore[override]
        """See ``passes.autodiff_region``: the derivative of a body is the business of the pass that takes derivatives."""
        raise NotImplementedError

    def flops(self, node: Node) -> int:
        return self.length * _flops(self.body)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        def case(batch: int, units: int, steps: int, tag: str, reverse: bool = False, dtype=float32) -> Sample:
            """h = tanh(x + h @ r) * a; ys: h, and the old h times x."""
            row = TensorType((batch, units), dtype)
            h, x, r, a = leaf("h", row), leaf("x", row), leaf("r", TensorType((units, units), dtype), "parameter"), leaf("a", row, "parameter")
            new = f.mul(f.tanh(f.add(x, f.matmul(h, r))), a)
            op = cls(Body(Graph((h, x, r, a), (new, new, f.mul(h, x)), name="cell")), 1, 1, steps, reverse)
            draw = [rng.standard_normal(s).astype(dtype.np) for s in ((batch, units), (steps, batch, units), (units, units), (batch, units))]
            return Sample(op, tuple(draw), tags=(tag,))

        n, s = leaf("n", TensorType((), int32)), leaf("s", TensorType((3,), float32))
        count = cls(Body(Graph((s, n, x := leaf("x", TensorType((3,), float32))),
                               (f.add(s, f.mul(x, f.cast(n, float32))), f.neg(s)), name="sum")), 1, 2, 7)
        return [
            case(2, 3, 5, "odd"),
            case(1, 4, 3, "broadcast", reverse=True),
            case(3, 1, 1, "size1"),
            case(2, 3, 0, "size0"),
            case(0, 3, 2, "size0"),
            case(2, 5, 4, "odd", True, float64),
            Sample(count, (rng.standard_normal(3).astype(np.float32), rng.integers(-4, 5, 7).astype(np.int32),
                           rng.standard_normal((7, 3)).astype(np.float32)), tags=("odd",)),
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        row = TensorType((3,), float32)
        h, x = leaf("h", row), leaf("x", row)
        body = Body(Graph((h, x), (f.add(h, x),)))
        wide = Body(Graph((h, x), (f.broadcast_to(h, (2, 3)),)))
        return [
            BadSample(cls(body, 1, 1, 4), (row, row.with_shape((5, 3))), ShapeError, "4 steps can't step through"),
            BadSample(cls(body, 1, 1, 4), (row.with_shape((2,)), row.with_shape((4, 3))), ShapeError, "the body wants"),
            BadSample(cls(body, 1, 1, 4), (row, row.with_shape((4, 3)), row), ShapeError, "takes 2 values, got 3"),
            BadSample(cls(wide, 1, 1, 4), (row, row.with_shape((4, 3))), ShapeError, "carry 0 is float32.3. before a step"),
        ]


@dataclass(frozen=True, eq=False)
class While(Region):
    """``body`` while ``condition`` holds, both functions of (carries, captures); the condition gives one bool, the body the new carries.

    Inputs: ``carries`` initial values, then the captures of both. Results: the last carries.
    """

    condition: Body
    body: Body
    carries: int

    kind = "region"
    differentiable = False
    no_gradient = "the number of its steps depends on data (scan, or while_loop with a limit, can be differentiated)"

    def bodies(self) -> tuple[Body, ...]:
        return (self.condition, self.body)

    def infer(self, *types: TensorType) -> TupleType:
        _check_body(self, "condition", self.condition, types)
        _check_body(self, "body", self.body, types)
        first, outputs = types[: self.carries], self.body.graph.outputs
        if len(outputs) != self.carries:
            raise ShapeError(f"While: the body gives {len(outputs)} values for {self.carries} carries")
        _check_carries(self, first, outputs)
        test = self.condition.graph.outputs
        if len(test) != 1 or not test[0].type.same(TensorType((), bool_)):
            raise ShapeError(f"While: the condition must give one bool, not {', '.join(str(t.type) for t in test)}")
        return TupleType(tuple(first))

    def eval(self, *arrays) -> tuple[np.ndarray, ...]:
        state, captures = list(arrays[: self.carries]), arrays[self.carries :]
        while evaluate(self.condition.graph, [*state, *captures])[0]:
            state = evaluate(self.body.graph, [*state, *captures])
        return tuple([np.asarray(s) for s in state])

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        def case(shape: tuple[int, ...], limit: int, tag: str, dtype=float32) -> Sample:
            """while n < limit and sum(x) < 50: x = x * a + 1, n = n + 1."""
            x, n, a = leaf("x", TensorType(shape, dtype)), leaf("n", TensorType((), int32)), leaf("a", TensorType(shape, dtype), "parameter")
            go = f.logical_and(f.lt(n, limit), f.lt(f.sum_(x), 50.0))
            op = cls(Body(Graph((x, n, a), (go,), name="go")), Body(Graph((x, n, a), (f.add(f.mul(x, a), 1.0), f.add(n, 1)), name="step")), 2)
            return Sample(op, (rng.uniform(0, 1, shape).astype(dtype.np), np.array(2, np.int32), rng.uniform(0.5, 1.5, shape).astype(dtype.np)), False, (tag,))

        return [case((3, 5), 9, "odd"), case((1,), 40, "size1"), case((0, 2), 5, "size0"), case((), 30, "broadcast", float64), case((7,), 1, "odd")]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        row = TensorType((3,), float32)
        x = leaf("x", row)
        step, go = Body(Graph((x,), (f.neg(x),))), Body(Graph((x,), (f.lt(f.sum_(x), 0.0),)))
        return [
            BadSample(cls(go, step, 1), (row.with_shape((2,)),), ShapeError, "the condition wants"),
            BadSample(cls(step, step, 1), (row,), ShapeError, "must give one bool"),
            BadSample(cls(go, go, 1), (row,), ShapeError, "carry 0 is float32.3. before a step and bool"),
        ]


@dataclass(frozen=True, eq=False)
class Cond(Region):
    """The outputs of ``then`` where the first input (one bool) is true, else those of ``otherwise``; only one of them is computed.

    Inputs: the bool, then the captures, which both take. Results: the outputs, of equal types in both.
    """

    then: Body
    otherwise: Body

    kind = "region"

    def bodies(self) -> tuple[Body, ...]:
        return (self.then, self.otherwise)

    def infer(self, *types: TensorType) -> TupleType:
        if not types or not types[0].same(TensorType((), bool_)):
            raise ShapeError(f"Cond chooses by one bool, not by {types[0] if types else 'nothing'}")
        _check_body(self, "first branch", self.then, types[1:])
        _check_body(self, "second branch", self.otherwise, types[1:])
        a, b = (tuple([o.type for o in body.graph.outputs]) for body in self.bodies())
        if len(a) != len(b) or any(not x.same(y) for x, y in zip(a, b)):
            raise ShapeError(f"Cond: the branches give {TupleType(a)} and {TupleType(b)}")
        return TupleType(a)

    def eval(self, *arrays) -> tuple[np.ndarray, ...]:
        return tuple(evaluate((self.then if arrays[0] else self.otherwise).graph, arrays[1:]))

    def vjp(self, node: Node, ct: Sequence[Node | None]) -> tuple[Node | None, ...]:  # type: ignore[override]
        """See ``passes.autodiff_region``."""
        raise NotImplementedError

    def flops(self, node: Node) -> int:
        return dim.dim_max(_flops(self.then), _flops(self.otherwise))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        def case(shape: tuple[int, ...], choice: bool, tag: str, dtype=float32) -> Sample:
            t = TensorType(shape, dtype)
            x, y = leaf("x", t, "parameter"), leaf("y", t, "parameter")
            op = cls(Body(Graph((x, y), (f.mul(f.sin(x), y), x), name="a")), Body(Graph((x, y), (f.sub(x, y), f.exp(y)), name="b")))
            return Sample(op, (np.array(choice), *[rng.standard_normal(shape).astype(dtype.np) for _ in range(2)]), tags=(tag,))

        return [case((3, 5), True, "odd"), case((3, 5), False, "odd"), case((1,), True, "size1"), case((0, 3), False, "size0"),
                case((), False, "broadcast", float64)]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        row = TensorType((3,), float32)
        x = leaf("x", row)
        a, b = Body(Graph((x,), (f.neg(x),))), Body(Graph((x,), (f.sum_(x),)))
        return [
            BadSample(cls(a, a), (row, row), ShapeError, "by one bool, not by float32"),
            BadSample(cls(a, b), (TensorType((), bool_), row), ShapeError, r"branches give \(float32\[3\]\) and \(float32\[\]\)"),
            BadSample(cls(a, a), (TensorType((), bool_), row.with_shape((2,))), ShapeError, "first branch wants"),
        ]


def _flops(body: Body) -> int:
    total: int = 0
    for n in body.graph.nodes:
        total = total + n.op.flops(n)
    return total


def step_error(what: str, i: int, before: TensorType, after: TensorType) -> ShapeError:
    """The error of a function whose ``what`` number i changes its type."""
    return ShapeError(f"{what} {i} has type {before} (shape {shape_text(before.shape)}) before a step and {after} after it; a loop keeps types")
