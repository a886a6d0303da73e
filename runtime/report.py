"""What ``Executable.explain()`` says: which kernels compute which layers, what was fused and what not, what runs on the host, and what was compiled when.

The plan brings the first part as plain data (``compiler.explain``); the executable adds the sizes it was compiled for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Report(dict):
    """Plain data, printed as an outline. Keys (where known): ``name``, ``target``, ``steps`` and ``setup`` (each step a dict with ``kind``: "kernel",
    "routine", "host", "loop" or "branch"), ``not_fused`` (dicts of ``op``, ``origin``, ``reason``), ``phases`` (seconds), ``specialisations`` (dicts of
    ``sizes``, ``seconds`` and ``reason``)."""

    def __str__(self) -> str:
        if not self:
            return "nothing is compiled yet: call the executable, or exe.specialize(...)"
        lines = [f"{self.get('name', 'plan')} for {self.get('target', 'an unknown processor')}"]
        for title, key in (("steps of a call", "steps"), ("setup, once per version of the weights", "setup")):
            steps = self.get(key)
            if steps:
                lines.append(title)
                lines.extend(_steps(steps, 1))
        hosted = sorted({s["name"] for s in every_step([*self.get("steps", ()), *self.get("setup", ())]) if s["kind"] == "host"})
        lines.append(f"on the host: {', '.join(hosted) if hosted else 'nothing'}")
        refused = Counter((r["op"], r["origin"], r["reason"]) for r in self.get("not_fused", ()))
        if refused:
            lines.append("not fused into its reader")
            for (op, origin, reason), n in refused.items():
                lines.append(f"  {f'{n} x ' if n > 1 else ''}{op}{f' ({origin})' if origin else ''}: {reason}")
        known = self.get("specialisations")
        if known:
            lines.append("compiled for")
            lines.extend(f"  {_sizes(s['sizes'])}: {1e3 * s['seconds']:.1f} ms, {s['reason']}" for s in known)
        phases = self.get("phases")
        if phases:
            lines.append("time of the compilation, ms")
            lines.append("  " + ", ".join(f"{name} {1e3 * t:.1f}" for name, t in phases.items()))
        return "\n".join(lines)


def every_step(steps: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The steps, and those inside loops and branches."""
    for s in steps:
        yield s
        for key in ("steps", "then", "otherwise"):
            yield from every_step(s.get(key, ()))


def _steps(steps: Sequence[Mapping[str, Any]], depth: int) -> list[str]:
    pad = "  " * depth
    out = []
    for s in steps:
        origin = f"  <- {', '.join(s['origins'])}" if s.get("origins") else ""
        if s["kind"] == "loop":
            out.append(f"{pad}{s['name']}, {s['times']}{origin}")
            out.extend(_steps(s["steps"], depth + 1))
        elif s["kind"] == "branch":
            out.append(f"{pad}{s['name']}{origin}")
            for word in ("then", "otherwise"):
                out.append(f"{pad}  {word}")
                out.extend(_steps(s[word], depth + 2))
        elif s["kind"] == "host":
            out.append(f"{pad}{s['name']} (on the host){origin}")
        else:
            ops = s.get("ops") or ()
            fused = f" = {' + '.join(ops)}" if len(ops) > 1 else ""
            out.append(f"{pad}{s['name']}{fused}  [{s['schedule']}]{origin}")
    return out


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{k} = {v}" for k, v in sizes.items()) or "the sizes given"
