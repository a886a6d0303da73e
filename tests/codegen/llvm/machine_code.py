"""What tests ask of machine code: its loops, its calls, the symbols that it wants."""

from __future__ import annotations

import re
import struct

from kerogen.compiler.codegen.llvm.lift import lift
from kerogen.compiler.codegen.llvm.module import emit_text, machine_of
from kerogen.compiler.kernel.ir import Kernel
from kerogen.compiler.target import Target
from kerogen.runtime import cpu

_LABEL = re.compile(r"^(\.?\w+):")
_JUMP = re.compile(r"^\s+j\w+\s+(\.?L\w+)")


def listing(kernel: Kernel, target: Target, schedule: object | None = None) -> str:
    """The assembly text of a kernel."""
    lifted, _ = lift(kernel)
    machine = machine_of(target)
    return cpu.disassemble(emit_text(lifted, "k", schedule, target)[0], machine.cpu, machine.flags)


def inner_loops(text: str) -> list[list[str]]:
    """The instructions of every loop that holds no other: from a label to the jump back to it, in the order of the text."""
    lines = [line.split("#")[0].rstrip() for line in text.splitlines()]
    place = {m.group(1): i for i, line in enumerate(lines) if (m := _LABEL.match(line))}
    spans = []
    for i, line in enumerate(lines):
        m = _JUMP.match(line)
        if m and place.get(m.group(1), i + 1) <= i:
            spans.append((place[m.group(1)], i))
    inner = [s for s in spans if not any(t != s and s[0] <= t[0] and t[1] <= s[1] for t in spans)]
    return [[x.strip() for x in lines[a:b + 1] if x.startswith("\t") and not x.strip().startswith(".")] for a, b in inner]


def calls_in(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if re.match(r"\s+call", line)]


def undefined_symbols(image: bytes) -> list[str]:
    """Names that an ELF object (64-bit, little endian) leaves to the linker."""
    assert image[:6] == b"\x7fELF\x02\x01"
    (table,), (count,) = struct.unpack_from("<Q", image, 40), struct.unpack_from("<H", image, 60)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, table + 64 * i) for i in range(count)]
    out = []
    for kind, offset, size, link in ((s[1], s[4], s[5], s[6]) for s in sections):
        if kind != 2:  # SHT_SYMTAB
            continue
        for at in range(offset + 24, offset + size, 24):  # after the null symbol
            name, _, _, section, _, _ = struct.unpack_from("<IBBHQQ", image, at)
            if section == 0:
                start = sections[link][4] + name
                out.append(image[start:image.index(b"\0", start)].decode())
    return [n for n in out if n != "_GLOBAL_OFFSET_TABLE_"]
