"""A compilation as plain data: what ``Executable.explain()`` prints (``runtime.report``) and plans keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..runtime.dim import text
from .kernel.ir import Kernel
from .passes.fuse import Refusal
from .program.program import Block, Branch, Call, HostStep, Loop, Program, Step, flat


def report_of(program: Program, emitted: Mapping[Call, Mapping[str, Any]], refusals: Sequence[Refusal], phases: Mapping[str, float],
              name: str, target: str) -> dict[str, Any]:
    """The report of one plan; ``emitted`` says of each call which code it got (symbol, whether it was cached, seconds, text)."""
    return {
        "name": name, "target": target,
        "steps": [_step(s, emitted) for s in flat(program.calls)], "setup": [_step(s, emitted) for s in flat(program.setup)],
        "not_fused": [{"op": r.producer.op.name, "origin": ", ".join(r.producer.origins), "reason": r.reason} for r in refusals],
        "phases": dict(phases),
    }  # fmt: skip


def _step(s: Step, emitted: Mapping[Call, Mapping[str, Any]]) -> dict[str, Any]:
    assert not isinstance(s, Block)
    origins = list(s.origins)
    if isinstance(s, Call):
        kind = "kernel" if isinstance(s.kernel, Kernel) else "routine"
        schedule = str(s.schedule or ("loops" if kind == "kernel" else "routine"))
        return {"kind": kind, "name": s.kernel.name, "ops": list(s.ops), "origins": origins, "schedule": schedule, **emitted.get(s, {})}
    if isinstance(s, HostStep):
        return {"kind": "host", "name": s.function, "origins": origins}
    if isinstance(s, Branch):
        sides = {word: [_step(x, emitted) for x in side] for word, side in (("then", s.then), ("otherwise", s.otherwise))}
        return {"kind": "branch", "name": s.name, "origins": origins, **sides}
    assert isinstance(s, Loop)
    times = f"{text(s.trip)} times" if s.condition is None else "while its condition holds"
    return {"kind": "loop", "name": s.name, "origins": origins, "times": times, "steps": [_step(x, emitted) for x in s.steps]}
