"""Running folds: a lane per row, one step after the other (neighbouring columns are neighbouring lanes)."""

from __future__ import annotations

from .....runtime.dim import ceil_div
from ....kernel.routine import Prefix
from .text import LANES, names, register

_FOLD = {
    "sum": "state + x0", "prod": "state * x0", "affine": "x0 * state + x1",
    "max": "tl.maximum(state, x0, propagate_nan=tl.PropagateNan.ALL)", "min": "tl.minimum(state, x0, propagate_nan=tl.PropagateNan.ALL)",
    "logsumexp": "tl.where(state == x0, state + 0.6931471805599453, tl.maximum(state, x0) + tl.log(1.0 + tl.exp(-tl.abs(state - x0))))",
}


def prefix_body(r: Prefix) -> tuple[list[str], int]:
    *sources, out = names(r)
    t = register(r.buffers[0].dtype)
    first = {"sum": "0", "affine": "0", "prod": "1", "logsumexp": "float('-inf')"}.get(r.fold)
    if r.fold in ("max", "min"):  # folding an element twice changes nothing
        start = f"tl.load({sources[0]} + base + {'(n1 - 1) * n2' if r.reverse else '0'}, mask=inside & (n1 > 0), other=0).to({t})"
    else:
        start = f"tl.full(({LANES},), {first}, {t})"
    lines = [
        f"lane = tl.program_id(0).to(tl.int64) * {LANES} + tl.arange(0, {LANES})",
        "inside = lane < n0 * n2",
        "base = lane // n2 * n1 * n2 + lane % n2",
        f"state = {start}",
        "for i in range(n1):",
        f"    at = base + {'(n1 - 1 - i)' if r.reverse else 'i'} * n2",
        *[f"    x{k} = tl.load({p} + at, mask=inside, other=0).to({t})" for k, p in enumerate(sources)],
        f"    new = ({_FOLD[r.fold]}).to({t})",
        f"    tl.store({out} + at, {'state' if r.exclusive else 'new'}, mask=inside)",
        "    state = new",
    ]
    return lines, ceil_div(r.sizes[0] * r.sizes[2], LANES)
