"""RNN, LSTM and GRU: one scan over time for each direction.

Every direction computes products of the whole sequence with its weights before the loop (``ops.scan`` hoists them). Sequences that end early keep their
state and give zeros after their end; backwards, they begin at it.
"""

from __future__ import annotations

from collections.abc import Callable

from ...compiler import ops
from ...compiler.ir.graph import Node
from .call import Call
from .registry import operator

Activation = Callable[[Node], Node]

# name: (function of the node, alpha, beta); alpha and beta are the standard's defaults.
_ACTIVATIONS: dict[str, tuple[Callable[[Node, float, float], Node], float, float]] = {
    "relu": (lambda x, a, b: ops.relu(x), 0.0, 0.0),
    "tanh": (lambda x, a, b: ops.tanh(x), 0.0, 0.0),
    "sigmoid": (lambda x, a, b: ops.sigmoid(x), 0.0, 0.0),
    "affine": (lambda x, a, b: ops.add(ops.mul(x, a), b), 1.0, 0.0),
    "leakyrelu": (lambda x, a, b: ops.where(ops.ge(x, 0.0), x, ops.mul(x, a)), 0.01, 0.0),
    "thresholdedrelu": (lambda x, a, b: ops.where(ops.gt(x, a), x, ops.zeros_like(x)), 1.0, 0.0),
    "scaledtanh": (lambda x, a, b: ops.mul(ops.tanh(ops.mul(x, b)), a), 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: ops.clip(ops.add(ops.mul(x, a), b), 0.0, 1.0), 0.2, 0.5),
    "elu": (lambda x, a, b: ops.where(ops.ge(x, 0.0), x, ops.mul(ops.expm1(ops.minimum(x, 0.0)), a)), 1.0, 0.0),
    "softsign": (lambda x, a, b: ops.div(x, ops.add(ops.abs_(x), 1.0)), 0.0, 0.0),
    "softplus": (lambda x, a, b: ops.softplus(x), 0.0, 0.0),
}
_TAKES = {"affine": (True, True), "leakyrelu": (True, False), "thresholdedrelu": (True, False), "scaledtanh": (True, True), "hardsigmoid": (True, True),
          "elu": (True, False)}


def _activations(call: Call, defaults: tuple[str, ...], directions: int) -> list[list[Activation]]:
    """The functions of each direction; ``activation_alpha`` and ``activation_beta`` go to those that take them, in their order."""
    names = call.attr("activations", None) or defaults * directions
    if len(names) != len(defaults) * directions:
        raise call.invalid(f"has {len(names)} activations, needs {len(defaults)} for each of {directions} directions", "activations")
    alphas, betas = list(call.attr("activation_alpha", ()) or ()), list(call.attr("activation_beta", ()) or ())
    out: list[Activation] = []
    for name in names:
        key = name.lower()
        if key not in _ACTIVATIONS:
            raise call.refuse(f"activation {name!r} is none of the standard's", attribute="activations")
        fn, alpha, beta = _ACTIVATIONS[key]
        takes = _TAKES.get(key, (False, False))
        if takes[0] and alphas:
            alpha = alphas.pop(0)
        if takes[1] and betas:
            beta = betas.pop(0)
        out.append(lambda x, fn=fn, a=alpha, b=beta: fn(x, a, b))  # type: ignore[misc]
    n = len(defaults)
    return [out[d * n : (d + 1) * n] for d in range(directions)]


class _Sequence:
    """The operands that the three operators share. ``x`` [time, batch, features] whatever the layout; ``w`` [directions, gates * hidden, features]."""

    def __init__(self, call: Call, gates: int, defaults: tuple[str, ...]) -> None:
        self.call, self.gates = call, gates
        self.batch_first = bool(call.attr("layout", 0))
        x, w, r = call.node(0), call.node(1), call.node(2)
        if x.rank != 3 or w.rank != 3 or r.rank != 3:
            raise call.invalid(f"X, W and R must have rank 3, are {x.type}, {w.type}, {r.type}")
        self.x = ops.transpose(x, (1, 0, 2)) if self.batch_first else x
        self.time, self.batch, features = self.x.shape
        direction = call.attr("direction")
        if direction not in ("forward", "reverse", "bidirectional"):
            raise call.invalid(f"direction {direction!r} is none of forward, reverse, bidirectional", "direction")
        self.reversed = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
        self.hidden = call.attr("hidden_size", None) or r.shape[2]
        want_w, want_r = (len(self.reversed), gates * self.hidden, features), (len(self.reversed), gates * self.hidden, self.hidden)
        if any(a != b for a, b in zip((*w.shape, *r.shape), (*want_w, *want_r))):
            raise call.invalid(f"{direction}, hidden size {self.hidden}: W must be {list(want_w)} and R {list(want_r)}, are {list(w.shape)}, {list(r.shape)}")
        self.w, self.r = w, r
        self.bias = call.optional(3)
        if self.bias is not None and tuple(self.bias.shape) != (len(self.reversed), 2 * gates * self.hidden):
            raise call.invalid(f"B must be {[len(self.reversed), 2 * gates * self.hidden]}, is {list(self.bias.shape)}")
        self.activations = _activations(call, defaults, len(self.reversed))
        clip = call.attr("clip", None)
        self.clip: Activation = (lambda z: z) if clip is None else (lambda z: ops.clip(z, -float(clip), float(clip)))
        lengths = call.optional(4)
        # [time, batch, 1]: whether the step is before the sequence's end
        self.inside = None
        if lengths is not None:
            steps = ops.cast(ops.iota((self.time,)), lengths.dtype)
            self.inside = ops.lt(ops.reshape(steps, (self.time, 1, 1)), ops.reshape(lengths, (1, self.batch, 1)))

    def initial(self, i: int, d: int) -> Node:
        """The initial state (batch, hidden) of direction ``d`` from input ``i``, zeros where it is absent."""
        given = self.call.optional(i)
        if given is None:
            return ops.zeros((self.batch, self.hidden), self.x.dtype)
        given = ops.transpose(given, (1, 0, 2)) if self.batch_first else given
        if given.rank != 3 or any(a != b for a, b in zip(given.shape, (len(self.reversed), self.batch, self.hidden))):
            raise self.call.invalid(f"input {i} must be {[len(self.reversed), self.batch, self.hidden]}, is {list(given.shape)}")
        return ops.reshape(_row(given, d), (self.batch, self.hidden))

    def gate_rows(self, x: Node, d: int, first: int, count: int) -> Node:
        """Rows of the gates ``first``, ... of a weight's direction ``d``, transposed: [columns, count * hidden]."""
        h = self.hidden
        return ops.transpose(ops.slice_(_row(x, d), (first * h, 0), ((first + count) * h, x.shape[2])), (1, 0))

    def biases(self, d: int) -> tuple[Node | None, Node | None]:
        """(bias of the inputs' products, bias of the states'), [gates * hidden] each."""
        if self.bias is None:
            return None, None
        row, n = _row(self.bias, d), self.gates * self.hidden
        return ops.slice_(row, (0,), (n,)), ops.slice_(row, (n,), (2 * n,))

    def run(self, initial: Callable[[int], list[Node]], cell: Callable[[int], Callable[[list[Node], Node], list[Node]]]) -> tuple[Node, ...]:
        """Y [time, directions, batch, hidden] and the last states [directions, batch, hidden], in the layout asked for. ``cell(direction)`` prepares a
        step: (states, x_t) to new states, of which the first is the output."""
        outputs, lasts = [], []
        for d, backwards in enumerate(self.reversed):
            step = cell(d)

            def body(states: list[Node], rows: list[Node], step=step) -> tuple[list[Node], list[Node]]:
                new = step(states, rows[0])
                out = new[0]
                if self.inside is not None:
                    keep = [ops.broadcast_to(rows[1], n.shape) for n in new]
                    out = ops.where(keep[0], out, ops.zeros_like(out))
                    new = [ops.where(k, n, s) for k, n, s in zip(keep, new, states)]
                return new, [out] if self.call.wants(0) else []

            xs = [self.x] if self.inside is None else [self.x, ops.broadcast_to(self.inside, (self.time, self.batch, 1))]
            last, ys = ops.scan(body, initial(d), xs, self.time, backwards)
            lasts.append(last)
            outputs.append(ys[0] if ys else None)
        ends = [ops.stack(states, 1 if self.batch_first else 0) for states in zip(*lasts)]
        if outputs[0] is None:
            return (None, *ends)  # type: ignore[return-value]
        y = ops.stack(outputs, 1)
        return (ops.transpose(y, (2, 0, 1, 3)) if self.batch_first else y, *ends)


def _row(x: Node, d: int) -> Node:
    """x[d]."""
    return ops.squeeze(ops.slice_(x, (d, *[0] * (x.rank - 1)), (d + 1, *x.shape[1:])), 0)


def _plus(x: Node, bias: Node | None) -> Node:
    return x if bias is None else ops.add(x, bias)


def _parts(z: Node, n: int) -> list[Node]:
    """``n`` equal blocks of columns."""
    h = z.shape[1] // n
    return [ops.slice_(z, (0, i * h), (z.shape[0], (i + 1) * h)) for i in range(n)]


@operator("RNN")
def _rnn(call: Call) -> tuple[Node, ...]:
    s = _Sequence(call, 1, ("Tanh",))

    def cell(d: int) -> Callable:
        w, r = s.gate_rows(s.w, d, 0, 1), s.gate_rows(s.r, d, 0, 1)
        wb, rb = s.biases(d)
        (f,) = s.activations[d]

        def step(states: list[Node], x: Node) -> list[Node]:
            z = ops.add(_plus(ops.matmul(x, w), wb), _plus(ops.matmul(states[0], r), rb))
            return [f(s.clip(z))]

        return step

    return s.run(lambda d: [s.initial(5, d)], cell)


@operator("LSTM")
def _lstm(call: Call) -> tuple[Node, ...]:
    """Gates i, o, f, c."""
    s = _Sequence(call, 4, ("Sigmoid", "Tanh", "Tanh"))
    peepholes, h = call.optional(7), s.hidden
    if peepholes is not None and tuple(peepholes.shape) != (len(s.reversed), 3 * h):
        raise call.invalid(f"P must be {[len(s.reversed), 3 * h]}, is {list(peepholes.shape)}")
    coupled = bool(call.attr("input_forget", 0))

    def cell(d: int) -> Callable:
        w, r = s.gate_rows(s.w, d, 0, 4), s.gate_rows(s.r, d, 0, 4)
        wb, rb = s.biases(d)
        f, g, last = s.activations[d]
        p = [None] * 3 if peepholes is None else [ops.slice_(_row(peepholes, d), (i * h,), ((i + 1) * h,)) for i in range(3)]

        def seen(z: Node, c: Node, weight: Node | None) -> Node:
            return f(s.clip(z if weight is None else ops.add(z, ops.mul(c, weight))))

        def step(states: list[Node], x: Node) -> list[Node]:
            hidden, c = states
            i, o, forget, new = _parts(ops.add(_plus(_plus(ops.matmul(x, w), wb), rb), ops.matmul(hidden, r)), 4)
            i = seen(i, c, p[0])
            forget = ops.sub(1.0, i) if coupled else seen(forget, c, p[2])
            c = ops.add(ops.mul(forget, c), ops.mul(i, g(s.clip(new))))
            return [ops.mul(seen(o, c, p[1]), last(c)), c]

        return step

    return s.run(lambda d: [s.initial(5, d), s.initial(6, d)], cell)


@operator("GRU")
def _gru(call: Call) -> tuple[Node, ...]:
    """Gates z, r, h."""
    s = _Sequence(call, 3, ("Sigmoid", "Tanh"))
    after = call.version >= 3 and bool(call.attr("linear_before_reset", 0))
    h = s.hidden

    def cell(d: int) -> Callable:
        w = s.gate_rows(s.w, d, 0, 3)
        gates, candidate, whole = s.gate_rows(s.r, d, 0, 2), s.gate_rows(s.r, d, 2, 1), s.gate_rows(s.r, d, 0, 3)
        wb, rb = s.biases(d)
        f, g = s.activations[d]

        def step(states: list[Node], x: Node) -> list[Node]:
            (state,) = states
            x_z, x_r, x_h = _parts(_plus(ops.matmul(x, w), wb), 3)
            if after:
                h_z, h_r, h_h = _parts(_plus(ops.matmul(state, whole), rb), 3)
            else:
                h_z, h_r = _parts(_plus(ops.matmul(state, gates), None if rb is None else ops.slice_(rb, (0,), (2 * h,))), 2)
            z, r = f(s.clip(ops.add(x_z, h_z))), f(s.clip(ops.add(x_r, h_r)))
            if after:
                inner = ops.mul(r, h_h)
            else:
                inner = _plus(ops.matmul(ops.mul(r, state), candidate), None if rb is None else ops.slice_(rb, (2 * h,), (3 * h,)))
            return [ops.add(ops.mul(ops.sub(1.0, z), g(s.clip(ops.add(x_h, inner)))), ops.mul(z, state))]

        return step

    return s.run(lambda d: [s.initial(5, d)], cell)
