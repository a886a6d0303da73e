"""Deterministic text of expressions and kernels: what dumps show and cache keys are made of."""

from __future__ import annotations

from ...runtime.dim import text
from .expr import Axis, Bitcast, Cast, Check, Const, Expr, Fold, Load, Op, Ref, Where, post_order
from .ir import Buffer, Contract, Kernel, Reduce, Stage, Store

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "mod": "%", "eq": "==", "ne": "!=", "lt": "<",
          "le": "<=", "gt": ">", "ge": ">=", "and": "&", "or": "|", "xor": "^"}


_LONG = 400  # characters of a part used more than once from which it gets a name: text stays linear where parts of parts are shared


def expr_text(root: Expr, names: dict[int, str] | None = None) -> str:
    """One line. ``names`` gives shared parts a name instead of repeating their text; long shared parts are defined before: "t0 := ...; ... t0 ..."."""
    memo: dict[int, str] = dict(names or {})
    order = post_order([root])
    uses: dict[int, int] = {}
    for e in order:
        for c in e.children:
            uses[id(c)] = uses.get(id(c), 0) + 1
    defined: list[str] = []
    for e in order:
        if id(e) not in memo:
            one = _one(e, [memo[id(c)] for c in e.children])
            if len(one) > _LONG and uses.get(id(e), 0) > 1:
                defined.append(f"t{len(defined)} := {one}; ")
                one = f"t{len(defined) - 1}"
            memo[id(e)] = one
    return "".join(defined) + memo[id(root)]


def _one(e: Expr, c: list[str]) -> str:
    if isinstance(e, Const):
        v = e.value
        if e.dtype.kind == "b":
            return "true" if v else "false"
        body = repr(v) if e.dtype.is_float else text(v)
        return body if e.dtype.name in ("int64", "float32") else f"{e.dtype}({body})"
    if isinstance(e, Axis):
        return e.name
    if isinstance(e, Load):
        n = len(e.index)
        tail = f" if {c[n]} else {c[n + 1]}" if e.guard is not None else ""
        return f"{e.buffer.name}[{', '.join(c[:n])}]{tail}" if not tail else f"({e.buffer.name}[{', '.join(c[:n])}]{tail})"
    if isinstance(e, Ref):
        item = f".{e.item}" if e.item else ""
        return f"{e.stage}{item}[{', '.join(c)}]" if c else f"{e.stage}{item}"
    if isinstance(e, Op):
        if e.fn.name in _INFIX:
            return f"({c[0]} {_INFIX[e.fn.name]} {c[1]})"
        return f"{e.fn.name}({', '.join(c)})"
    if isinstance(e, Where):
        return f"where({', '.join(c)})"
    if isinstance(e, Cast):
        return f"{e.dtype}({c[0]})"
    if isinstance(e, Bitcast):
        return f"bits_{e.dtype}({c[0]})"
    if isinstance(e, Check):
        return f"check({c[0]}, {text(e.size)}, {e.code})"
    if isinstance(e, Fold):
        n = len(e.over)
        over = ", ".join(f"{a.name}<{text(a.extent)}" for a in e.over)
        item = f".{e.item}" if e.item else ""
        return f"{e.monoid.name}{item}[{over}]({', '.join(c[n:])})"
    raise TypeError(type(e))


def _axes(axes: tuple[Axis, ...]) -> str:
    return ", ".join(f"{a.name}<{text(a.extent)}" for a in axes)


def buffer_text(b: Buffer) -> str:
    strides = "" if b.strides is None else " strides(" + ", ".join(map(text, b.strides)) + ")"
    return f"{b.name}: {b.dtype}[{', '.join(map(text, b.shape))}]{strides}"


def kernel_text(k: Kernel) -> str:
    """The whole kernel, one stage a line."""
    reads = ", ".join(map(buffer_text, k.reads))
    writes = ", ".join(map(buffer_text, k.writes))
    lines = [f"kernel {k.name}({reads}) -> ({writes})", f"  for {_axes(k.axes) or '()'}:"]
    for st in k.stages:
        own = f" for {_axes(st.axes)}" if st.axes else ""
        if isinstance(st, Stage):
            lines.append(f"    {st.name} = {expr_text(st.expr)}{own}")
        elif isinstance(st, Reduce):
            lines.append(f"    {st.name} = {st.monoid.name}[{_axes(st.over)}]({', '.join(map(expr_text, st.exprs))}){own}")
        elif isinstance(st, Contract):
            precision = "" if st.precision == "highest" else f" precision={st.precision}"
            lines.append(f"    {st.name}: {st.acc} = dot[{_axes(st.over)}]({expr_text(st.a)}, {expr_text(st.b)}){own}{precision}")
        elif isinstance(st, Store):
            at = f"{st.buffer.name}[{', '.join(map(expr_text, st.index))}]"
            tail = "" if st.guard is None else f" if {expr_text(st.guard)}"
            join = "=" if st.combine is None else f"{st.combine.name}="
            loop = f" over {_axes(st.over)}" if st.over else ""
            lines.append(f"    {at} {join} {expr_text(st.expr)}{tail}{own}{loop}")
    return "\n".join(lines) + "\n"
