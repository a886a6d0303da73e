"""Saved executables: another process runs them with the runtime alone."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from kerogen.runtime import cpu, executable
from kerogen.runtime.errors import ModelFormatError, ShapeError, StateError, UnsupportedPlatformError
from kerogen.runtime.executable import Executable, Value
from kerogen.runtime.plan import Slot
from tests.runtime.kernels import call, chain, lookup, plan, port


def test_in_a_process_without_the_compiler(rng, tmp_path):
    table, s = Value(rng.normal(size=5).astype("f")), Value(rng.normal(size=4).astype("f"))
    exe = Executable(plans=[lookup()], bindings=[table, s])
    exe(np.zeros(4, int), np.ones(4, "f"))
    path = tmp_path / "model.kgx"
    exe.save(path)
    np.savez(tmp_path / "data.npz", table=table.array, s=s.array)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.npz", "model.kgx"]
    code = textwrap.dedent("""
        import sys
        class Block:
            def find_spec(self, name, *rest):
                ours = name.split(".")[:2] in (["kerogen", "compiler"], ["kerogen", "frontends"])
                if ours or name in ("networkx", "onnx", "h5py", "triton"):
                    raise ImportError(name + " is blocked")
        sys.meta_path.insert(0, Block())
        import numpy as np
        from kerogen.runtime.executable import load
        data = np.load(sys.argv[2])
        exe = load(sys.argv[1])
        x = np.arange(4, dtype="f")
        for step in (1, 2):
            y, s = exe(np.array([4, 0, 1, 1]), x)
            assert np.array_equal(y, data["table"][[4, 0, 1, 1]])
            assert np.array_equal(s, data["s"] + x if step == 1 else data["s"] + x + x)
        try:
            exe(np.array([5, 0, 0, 0]), x)
        except IndexError as e:
            print(e)
        assert np.array_equal(s, data["s"] + x + x)
    """)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path / "data.npz")],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ, PYTHONPATH=os.getcwd()),
    )
    assert done.stdout == "index out of range of layer 'embedding' (size 5)\n", done.stderr


def test_constants_setup_and_several_plans(rng, tmp_path):
    constant, w = rng.normal(size=6).astype("f"), Value(rng.normal(size=6).astype("f"))
    slots = [
        Slot("input", 24, 0),
        Slot("input", 24, 1),
        Slot("constant", 24, 0),
        Slot("prepared", 24),
        Slot("prepared", 24),
        Slot("output", 24, 0),
    ]
    setup = [call("reverse", (1, 3), 6, (6,)), call("add", (3, 2, 4), 6)]
    p = plan(
        [port("x", 6), port("w", 6, role="parameter")],
        [port("y", 6)],
        slots,
        [call("add", (0, 4, 5), 6)],
        setup=setup,
        constants=[constant],
    )
    exe = Executable(plans=[p], bindings=[w])
    x = rng.normal(size=6).astype("f")
    want = x + (2 * w.array[::-1] + constant)
    assert np.array_equal(exe(x), want)
    exe.save(tmp_path / "m")
    exe.save(tmp_path / "m")  # replaces it
    back = executable.load(tmp_path / "m")
    assert np.array_equal(back(x), want) and np.array_equal(back(x), want)
    with pytest.raises(ShapeError):
        back(x[:5])


def test_nothing_to_save(tmp_path):
    exe = Executable(chain(2).inputs, chain(2).outputs, specialize=lambda values: chain(2))
    with pytest.raises(StateError, match="specialize"):
        exe.save(tmp_path / "m")
    exe.specialize(n=3).save(tmp_path / "m")
    assert executable.load(tmp_path / "m")(np.ones(3, "f")).shape == (3,)


def test_a_failing_save_leaves_the_old_file(tmp_path, monkeypatch):
    exe = Executable(plans=[chain(2)])
    exe.save(tmp_path / "m")
    before = (tmp_path / "m").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        exe.save(tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_damaged_and_foreign_files(tmp_path, rng):
    Executable(plans=[chain(2)]).save(tmp_path / "m")
    raw = (tmp_path / "m").read_bytes()
    for bad in (b"", raw[:-1], raw[:100], b"PK" + raw, rng.bytes(1000)):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(ModelFormatError):
            executable.load(tmp_path / "bad")
    with pytest.raises(ModelFormatError, match="folder"):
        executable.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        executable.load(tmp_path / "none")


def test_code_for_another_cpu_is_refused():
    here = cpu.host()
    base = chain(2)
    for target, text in [
        (cpu.Machine(here.arch, here.cpu, (*here.features, "zz-future")).text, "zz-future"),
        ({"x86_64": "aarch64:generic:neon", "aarch64": "x86_64:x86-64:"}[here.arch], "this code is for"),
    ]:
        p = plan(base.inputs, base.outputs, base.slots, base.steps, dims=("n",))
        object.__setattr__(p, "target", target)
        with pytest.raises(UnsupportedPlatformError, match=text):
            Executable(plans=[p])
