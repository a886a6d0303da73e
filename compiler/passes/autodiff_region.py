"""Derivatives of control flow. A scan's is a scan in the other direction; what it needs of the forward steps is stored by these, or computed anew.

Stored: the values of the forward step, carries among them, that the backward step reads first; what the derivative itself computes from these
(1 - y, say) and movements are computed anew. The cotangent of a captured value is the sum
over the steps: where a term of it is a product or a sum over axes, its operands are stacked and one contraction outside the loop does the sum
(a recurrent weight's gradient is one matrix product over all steps); other terms are added up in a carry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..ir.body import Body
from ..ir.graph import Graph, Node, leaf, node, post_order
from ..ir.rewrite import substitute
from ..ir.walk import dependents
from ..ops import functional as f
from ..ops.contract import DotGeneral
from ..ops.control import Cond, Region, Scan
from ..ops.elementwise import Add
from ..ops.looping import cond, scan
from ..ops.movement import Broadcast, Reshape, Transpose
from ..ops.reduce import Sum
from ..ops.result import results
from ..ops.unary import Neg

PullBack = Callable[[Sequence[Node], Sequence["Node | None"], Sequence[Node]], list["Node | None"]]


def region_vjp(n: Node, cts: Sequence[Node | None], pull_back: PullBack) -> list[Node | None]:
    """The cotangents of the inputs of a region, for those of its results (None: zero)."""
    op: Region = n.op
    if isinstance(op, Scan):
        return _Scan(n, op, cts, pull_back).run()
    assert isinstance(op, Cond)
    return _cond(n, op, cts, pull_back)


def _cond(n: Node, op: Cond, cts: Sequence[Node | None], pull_back: PullBack) -> list[Node | None]:
    pred, *captured = n.inputs
    floats = [i for i, x in enumerate(captured) if x.dtype.is_float]

    def branch(body: Body) -> Callable[[], list[Node]]:
        leaves = body.graph.inputs
        wanted = [leaves[i] for i in floats]
        found = pull_back(body.graph.outputs, cts, wanted)
        whole = [f.zeros_like(x) if g is None else g for x, g in zip(wanted, found)]
        return lambda: substitute(whole, dict(zip(leaves, captured)))

    grads = dict(zip(floats, cond(pred, branch(op.then), branch(op.otherwise)) if floats else []))
    return [None, *[grads.get(i) for i in range(len(captured))]]


class _Scan:
    def __init__(self, n: Node, op: Scan, cts: Sequence[Node | None], pull_back: PullBack):
        self.n, self.op, self.cts, self.pull_back = n, op, cts, pull_back
        graph = op.body.graph
        c, x = op.carries, op.carries + op.items
        self.carries, self.items, self.captures = graph.inputs[:c], graph.inputs[c:x], graph.inputs[x:]
        self.init, self.xs, self.captured = n.inputs[:c], n.inputs[c:x], n.inputs[x:]
        self.new, self.ys = graph.outputs[:c], graph.outputs[c:]

    def run(self) -> list[Node | None]:
        op, length = self.op, self.op.length
        # One step backward, on the leaves of the forward step.
        state = [i for i, c in enumerate(self.carries) if c.dtype.is_float]
        given = [j for j, y in enumerate(self.ys) if y.dtype.is_float and self.cts[op.carries + j] is not None]
        ct_state = [leaf(f"d{i}", self.carries[i].type) for i in state]
        ct_ys = [leaf(f"dy{j}", self.ys[j].type) for j in given]
        wanted = [v for v in (*self.carries, *self.items, *self.captures) if v.dtype.is_float]
        found = dict(zip(wanted, self.pull_back(
            [*[self.new[i] for i in state], *[self.ys[j] for j in given]], [*ct_state, *ct_ys], wanted)))
        back_state = [found[self.carries[i]] or f.zeros_like(self.carries[i]) for i in state]
        item_grads = [(i, g) for i, v in enumerate(self.items) if (g := found.get(v)) is not None]
        terms = [(i, g) for i, v in enumerate(self.captures) if (g := found.get(v)) is not None]
        sums = _Sums({*self.carries, *self.items, *ct_state, *ct_ys}, length)
        outside = [(i, sums.plan(g)) for i, g in terms]
        added = [(i, g) for (i, g), (_, plan) in zip(terms, outside) if plan is None]

        # What it needs of the forward step.
        wanted_rows = list(dict.fromkeys([*[g for _, g in item_grads], *sums.stacked]))
        roots = [*back_state, *wanted_rows, *[g for _, g in added]]
        stored, rows = self._needed(roots, {*ct_state, *ct_ys})
        histories = self._with_stored(stored)
        stacked = {**dict(zip(stored, histories)), **dict(zip(self.items, self.xs))}
        stacked.update((y, ct) for y, j in zip(ct_ys, given) if (ct := self.cts[op.carries + j]) is not None)
        grown = [g for g in wanted_rows if g not in stacked]
        roots = [*back_state, *grown, *[g for _, g in added]]
        init = [self.cts[i] if self.cts[i] is not None else f.zeros_like(self.init[i]) for i in state]
        init += [f.zeros_like(self.captured[i]) for i, _ in added]
        xs = [*[self.cts[op.carries + j] for j in given], *histories, *[self.xs[self.items.index(r)] for r in rows]]

        def step(ct: list[Node], now: list[Node]) -> tuple[Sequence, Sequence]:
            mapping = dict(zip(self.captures, self.captured))
            mapping.update(zip(ct_state, ct))
            mapping.update(zip([*ct_ys, *stored, *rows], now))
            out = iter(substitute(roots, mapping))
            carry = [next(out) for _ in back_state]
            ys = [next(out) for _ in grown]
            return [*carry, *[f.add(total, g) for total, g in zip(ct[len(state):], out)]], ys

        last, stacks = scan(step, init, xs, length, reverse=not op.reverse)
        stacked.update(zip(grown, stacks))
        sums.found = stacked
        result: list[Node | None] = [None] * len(self.n.inputs)
        for i, g in zip(state, last):
            result[i] = g
        for i, g in item_grads:
            result[op.carries + i] = stacked[g]
        base = op.carries + op.items
        for i, plan in outside:
            if plan is not None:
                result[base + i] = plan()
        for (i, _), g in zip(added, last[len(state):]):
            result[base + i] = g
        return result

    def _needed(self, roots: Sequence[Node], cotangents: set[Node]) -> tuple[list[Node], list[Node]]:
        """(forward nodes, carries among them, that the forward steps store; items that the backward steps read again)."""
        order = post_order(roots)
        backward = dependents(order, cotangents)
        forward = dependents(order, [*self.carries, *self.items]) - backward
        pending = [i for n in order if n in backward for i in n.inputs if i in forward]
        pending += [r for r in roots if r in forward]
        stored: dict[Node, None] = {}
        rows: dict[Node, None] = {}
        own = set(post_order([*self.new, *self.ys]))
        seen: set[Node] = set()
        while pending:
            n = pending.pop()
            if n in seen:
                continue
            seen.add(n)
            if n in self.items:
                rows[n] = None
            elif n in own and n.op.kind != "movement":
                stored[n] = None
            else:
                pending.extend([i for i in n.inputs if i in forward])
        position = {n: i for i, n in enumerate(order)}
        return sorted(stored, key=position.__getitem__), sorted(rows, key=position.__getitem__)

    def _with_stored(self, stored: Sequence[Node]) -> list[Node]:
        """The stored values of all steps, stacked: results of the forward scan with more outputs (``passes.scan`` merges the two)."""
        if not stored:
            return []
        graph = self.op.body.graph
        wider = Graph(graph.inputs, (*graph.outputs, *stored), name=graph.name)
        return results(node(replace(self.op, body=Body(wider)), *self.n.inputs))[len(graph.outputs):]


class _Sums:
    """Sums over all steps of values of a step: which of them to stack, and what to do with the stacks outside."""

    def __init__(self, varying: set[Node], length: int):
        self.varying, self.length = varying, length
        self.stacked: dict[Node, None] = {}  # what the sums need of every step
        self.found: dict[Node, Node] = {}  # these, stacked: known once the loop is done

    def plan(self, n: Node) -> Callable[[], Node] | None:
        """What gives the sum of ``n`` over the steps once the loop is done; None where it is better added up in a carry."""
        op = n.op
        if isinstance(op, Add):
            a, b = (self.plan(i) for i in n.inputs)
            return (lambda: f.add(a(), b())) if a and b else None
        if isinstance(op, (Neg, Transpose, Reshape)) or (isinstance(op, Broadcast)):
            inner = self.plan(n.inputs[0])
            return (lambda: node(op, inner())) if inner else None
        if isinstance(op, Sum):
            over = self._stack(n.inputs[0])
            return lambda: f.sum_(over(), (0, *[a + 1 for a in op.axes]))
        if isinstance(op, DotGeneral) and all(self._varies(i) for i in n.inputs):
            a, b = (self._stack(i) for i in n.inputs)
            axes = [tuple([i + 1 for i in part]) for part in (op.contract_a, op.contract_b, op.batch_a, op.batch_b)]
            return lambda: node(DotGeneral((0, *axes[0]), (0, *axes[1]), axes[2], axes[3], op.precision), a(), b())
        return None

    def _varies(self, n: Node) -> bool:
        return n in dependents(post_order([n]), self.varying)

    def _stack(self, n: Node) -> Callable[[], Node]:
        """``n`` of all steps; movements are repeated outside, where they are index arithmetic."""
        if isinstance(n.op, Transpose):
            inner, perm = self._stack(n.inputs[0]), n.op.perm
            return lambda: f.transpose(inner(), (0, *[p + 1 for p in perm]))
        self.stacked[n] = None
        return lambda: self.found[n]
