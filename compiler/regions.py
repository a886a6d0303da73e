"""Loops and branches as steps of a program: the body's own program, placed into the one around it.

The body is compiled as a graph by itself, with its captures as parameters: what depends on these alone (packed weights, say) is in its setup, which
runs once before the loop, or with the weights' own setup. Its temporaries become arrays of the program around it. Carries of a scan live in two halves
that take turns, so that no step copies them; items and stacked results are views that move row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..runtime.errors import UnsupportedOpError
from ..runtime.plan import Move
from .ir.graph import Graph, Node, leaf
from .ir.rewrite import substitute
from .ops.control import Cond, Scan, While
from .program.program import Block, Branch, Call, HostStep, Loop, Program, Step, Value, flat, view

ENDLESS = 1 << 62  # iterations of a loop that only its condition ends
Build = Callable[[Graph], Program]
Copy = Callable[[Value, Value], Call]


class RegionLowering:
    """Places the regions of one graph into ``program``. ``build`` compiles a sub-graph; ``copy(source, target)`` makes a copying call."""

    def __init__(self, program: Program, build: Build, copy: Copy):
        self.program, self.build, self.copy = program, build, copy
        self.fixed = {v for v, role in zip(program.inputs, program.roles) if role == "parameter"} | {v for v, _ in program.constants}

    def __call__(self, n: Node, inputs: Sequence[Value], results: dict[int, Value], setup: bool) -> None:
        """Appends the steps of ``n`` over the values of its operands; ``results`` holds those of its results that are used."""
        self.target = self.program.setup if setup else self.program.calls
        self.before: list[Step] = []
        op = n.op
        if isinstance(op, Scan):
            steps = self._scan(n, op, inputs, results)
        elif isinstance(op, While):
            steps = self._while(n, op, inputs, results)
        else:
            steps = self._cond(n, op, inputs, results)
        steps = [*self.before, *steps]
        reads = tuple(dict.fromkeys(inputs))
        self.target.append(Block(tuple(steps), reads, tuple(results.values())))

    # ---- the three ops

    def _scan(self, n: Node, op: Scan, inputs: Sequence[Value], results: dict[int, Value]) -> list[Step]:
        graph = op.body.graph
        c, x = op.carries, op.carries + op.items
        body = self.build(graph)
        before: list[Step] = []
        after: list[Step] = []
        place: dict[Value, Value] = {}
        views: list[Value] = []

        def moving(base: Value, like: Value, offset: int, move: Move) -> Value:
            views.append(view(base, like.shape, offset, move))
            return views[-1]

        def row(whole: Value, like: Value) -> Value:
            back = op.reverse
            return moving(whole, like, (op.length - 1) * like.nbytes if back else 0, Move(-like.nbytes if back else like.nbytes))

        for i, v in enumerate(body.inputs[:c]):
            halves = Value((2, *v.shape), v.dtype)
            before.append(self.copy(inputs[i], view(halves, v.shape)))
            place[v] = moving(halves, v, 0, Move(v.nbytes, 0, 2))
            place[body.outputs[i]] = moving(halves, v, 0, Move(v.nbytes, 1, 2))
            if i in results:
                after.append(self.copy(view(halves, v.shape, (op.length % 2) * v.nbytes), results[i]))
        for i, v in enumerate(body.inputs[c:x], c):
            place[v] = row(inputs[i], v)
        place.update(zip(body.inputs[x:], inputs[x:]))
        for j, v in enumerate(body.outputs[c:], c):
            whole = results.get(j) or Value((op.length, *v.shape), v.dtype)
            place[v] = row(whole, v)
        steps = self._placed(body, place, invariant=True)
        loop = Loop(op.length, tuple(steps), frozenset(views), None, _title(op), n.origins)
        return [*before, loop, *after]

    def _while(self, n: Node, op: While, inputs: Sequence[Value], results: dict[int, Value]) -> list[Step]:
        c = op.carries
        test, body = self.build(op.condition.graph), self.build(op.body.graph)
        state = [results.get(i) or Value(v.shape, v.dtype) for i, v in enumerate(body.inputs[:c])]
        new = [Value(v.shape, v.dtype) for v in state]
        go = Value((), test.outputs[0].dtype)
        tests = self._placed(test, {**dict(zip(test.inputs, [*state, *inputs[c:]])), test.outputs[0]: go}, invariant=True)
        moves = dict(zip([*body.inputs, *body.outputs], [*state, *inputs[c:], *new]))
        steps = self._placed(body, moves, invariant=True)
        advance = [self.copy(a, b) for a, b in zip(new, state)]
        loop = Loop(ENDLESS, (*steps, *advance, *tests), frozenset(), go, _title(op), n.origins)
        return [*[self.copy(a, b) for a, b in zip(inputs, state)], *tests, loop]

    def _cond(self, n: Node, op: Cond, inputs: Sequence[Value], results: dict[int, Value]) -> list[Step]:
        pred, *captured = inputs
        sides = []
        for part in (op.then, op.otherwise):
            body = self.build(_with_roles(part.graph, ["parameter" if v in self.fixed else "input" for v in captured]))
            place = dict(zip(body.inputs, captured))
            for i, v in enumerate(body.outputs):
                place[v] = results.get(i) or Value(v.shape, v.dtype)
            sides.append(tuple(self._placed(body, place, invariant=False)))
        return [Branch(pred, sides[0], sides[1], _title(op), n.origins)]

    # ---- placing a body

    def _placed(self, body: Program, place: dict[Value, Value], invariant: bool) -> list[Step]:
        """The body's steps over values of the program around it. Its setup goes to that program's setup where it depends on weights alone, else (for a
        loop) before the loop."""
        for v, array in body.constants:
            place[v] = self._constant(array)

        def outer(v: Value) -> Value:
            if v not in place:
                place[v] = Value(v.shape, v.dtype, "view", base=outer(v.base), offset=v.offset) if v.base is not None and v.move is None \
                    else Value(v.shape, v.dtype)
            return place[v]

        for s in flat(body.setup):
            step = s.moved(outer)
            if all(v in self.fixed or v in step.writes for v in step.reads):
                for v in step.writes:
                    v.kind = "prepared"
                    self.fixed.add(v)
                self.program.setup.append(step)
            elif invariant:
                self.before.append(step)
            else:
                raise AssertionError("a branch prepares what depends on weights alone")
        steps = [s.moved(outer) for s in flat(body.calls)]
        for s in steps:
            if isinstance(s, HostStep):
                where = f" (in {', '.join(s.origins)})" if s.origins else ""
                raise UnsupportedOpError(f"{s.function}{where} runs on the host and can't be part of a loop or a branch yet; compute it outside")
        return steps

    def _constant(self, array: object) -> Value:
        for v, known in self.program.constants:
            if known is array:
                return v
        v = Value(array.shape, _dtype(array), "constant", len(self.program.constants))  # type: ignore[attr-defined]
        self.program.constants.append((v, array))
        self.fixed.add(v)
        return v


def _dtype(array: object):
    from ..runtime.dtype import as_dtype

    return as_dtype(array.dtype)  # type: ignore[attr-defined]


def _title(op: Scan | While | Cond) -> str:
    return op.name.lower()


def _with_roles(graph: Graph, roles: Sequence[str]) -> Graph:
    """The graph with inputs of these roles."""
    leaves = [leaf(n.op.name, n.type, role) for n, role in zip(graph.inputs, roles)]
    return Graph(tuple(leaves), tuple(substitute(list(graph.outputs), dict(zip(graph.inputs, leaves)))), name=graph.name)
