"""Assembling and loading native code; targets."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
import threading

import pytest

from kerogen.runtime import cpu, runner
from kerogen.runtime.errors import ArgumentError, InternalError, UnsupportedPlatformError

_ADD = "define i64 @f(i64 %a, i64 %b) {\n  %c = add i64 %a, %b\n  ret i64 %c\n}\n"


def _function(image: bytes, name: str = "f"):
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(cpu.load(image, [name])[name])


@pytest.mark.parametrize("opt", [0, 1, 2, 3])
def test_assemble_and_load(opt):
    here = cpu.host()
    for _ in range(3):  # a pass manager used twice would end the process
        f = _function(cpu.assemble(_ADD, here.cpu, here.flags, opt))
        assert f(40, 2) == 42 and f(2**62, 2**62) == -(2**63)


def test_refused_code_quotes_llvm_and_the_line():
    for text, said in [
        ("define i64 @f( {\n", "expected"),
        (_ADD.replace("ret i64 %c", "ret i32 0"), "ret i32 0"),
        (_ADD.replace("%a, %b", "%a, %zz"), "zz"),
    ]:
        with pytest.raises(InternalError, match=said):
            cpu.assemble(text, "", "")
    with pytest.raises(InternalError, match="link"):
        cpu.load(
            cpu.assemble("declare void @no_such_thing()\ndefine void @f() {\n call void @no_such_thing()\n ret void\n}", "", ""),
            ["f"],
        )
    with pytest.raises(InternalError, match="link"):
        cpu.load(cpu.assemble(_ADD, "", ""), ["g"])


def test_libm_and_imports():
    text = """
declare double @cos(double)
declare i64 @mine(i64)
define i64 @f(i64 %a, i64 %b) {
  %x = sitofp i64 %a to double
  %y = call double @cos(double %x)
  %z = fptosi double %y to i64
  %m = call i64 @mine(i64 %b)
  %r = add i64 %z, %m
  ret i64 %r
}
"""
    mine = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda x: 10 * x)
    at = cpu.load(cpu.assemble(text, "", ""), ["f"], {"mine": ctypes.cast(mine, ctypes.c_void_p).value})["f"]
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(at)(0, 7) == 71


def test_object_code_is_cached(monkeypatch, tmp_path):
    monkeypatch.setenv("KEROGEN_CACHE_DIR", str(tmp_path))
    machine = cpu.Machine(cpu.host().arch, "generic" if cpu.host().arch == "aarch64" else "x86-64", ())
    text = _ADD.replace("@f", "@cached")
    image = cpu.object_code(text, machine)
    monkeypatch.setattr(cpu, "assemble", lambda *a, **k: pytest.fail("assembled again"))
    assert cpu.object_code(text, machine) == image
    keys = {cpu.object_key(text, machine), cpu.object_key(text + " ", machine), cpu.object_key(text, machine, 1),
            cpu.object_key(text, cpu.Machine(machine.arch, machine.cpu, ("avx",)))}  # fmt: skip
    assert len(keys) == 4


def test_targets(monkeypatch):
    monkeypatch.delenv("KEROGEN_TARGET", raising=False)
    assert cpu.named_machine() == cpu.host()
    monkeypatch.setenv("KEROGEN_TARGET", "x86-64-v3")
    machine = cpu.named_machine()
    assert "avx2" in machine.features and "avx512f" not in machine.features
    assert cpu.parse_machine(machine.text) == machine and cpu.parse_machine(cpu.host().text) == cpu.host()
    for wrong in ("x86-64-v9", "riscv"):
        with pytest.raises(ArgumentError, match=wrong):
            cpu.named_machine(wrong)
    for wrong in ("", "x86_64", "mips:a:b", "x86_64:a:b:c"):
        with pytest.raises(ArgumentError):
            cpu.require(wrong)
    cpu.require(cpu.host().text)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="levels of x86-64")
def test_a_level_restricts_the_features():
    """The text uses a vector of 16 floats: in zmm registers on v4 only; no level uses more than it names."""
    text = """
define void @f(ptr %p) {
  %v = load <16 x float>, ptr %p
  %w = fadd <16 x float> %v, %v
  store <16 x float> %w, ptr %p
  ret void
}
"""
    for level, register in (("x86-64-v4", "zmm"), ("x86-64-v3", "ymm"), ("x86-64-v2", "xmm")):
        machine = cpu.named_machine(level)
        seen = cpu.disassemble(text, machine.cpu, machine.flags)
        assert register in seen
        assert not any(wider in seen for wider in ("zmm", "ymm", "xmm")[: ("zmm", "ymm", "xmm").index(register)])
    # The host's name brings in no feature that was left out.
    here = cpu.host()
    less = cpu.Machine(here.arch, here.cpu, tuple(f for f in here.features if not f.startswith("avx512")))
    assert "zmm" not in cpu.disassemble(text, less.cpu, less.flags)


def test_both_architectures_assemble():
    for arch in ("x86_64", "aarch64"):
        machine = cpu.Machine(arch, "generic" if arch == "aarch64" else "x86-64", ())
        image = cpu.assemble(runner.text(arch), machine.cpu, machine.flags, 2, machine.triple)
        assert image[:4] == b"\x7fELF" and int.from_bytes(image[18:20], "little") == {"x86_64": 62, "aarch64": 183}[arch]


def test_other_platforms_get_a_typed_error(monkeypatch):
    for system, machine in (("darwin", "arm64"), ("win32", "AMD64"), ("linux", "riscv64"), ("linux", "i686")):
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        with pytest.raises(UnsupportedPlatformError, match=machine.lower()):
            cpu._arch()


def test_importing_the_runtime_loads_neither_llvm_nor_the_compiler():
    code = (
        "import sys, kerogen.runtime.executable; heavy = ('llvmlite', 'networkx', 'onnx', 'h5py')\n"
        "print([m for m in sys.modules if m.split('.')[0] in heavy or m.startswith('kerogen.compiler')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=dict(os.environ, PYTHONPATH=os.getcwd())
    )
    assert done.stdout == "[]\n", done.stderr


def test_several_threads_assemble_at_once():
    results = []

    def work(k):
        text = _ADD.replace("add", "sub" if k % 2 else "mul").replace("@f", f"@g{k}")
        results.append((k, _function(cpu.assemble(text, "", "", 1), f"g{k}")(6, 7)))

    workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert sorted(results) == [(k, -1 if k % 2 else 42) for k in range(8)]
