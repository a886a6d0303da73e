"""Plans as bytes: equal after a round trip; whatever else the bytes are, a typed error."""

from __future__ import annotations

import hashlib
import json
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerogen.runtime import dtype, serialize
from kerogen.runtime.dim import Dim, ceil_div, dim_max, recording
from kerogen.runtime.errors import ArgumentError, ModelFormatError
from kerogen.runtime.executable import Executable
from kerogen.runtime.plan import ErrorSite, HostCall, KernelCall, Plan, Port, Slot
from tests.runtime.kernels import chain, chained, image, machine


def rich(rng: np.random.Generator) -> Plan:
    """A plan that has something of everything."""
    n = Dim.free("n", 8)
    t = Dim.free("time", 5)
    with recording() as guards:
        assert n > 4 and not n * t < 3 and ceil_div(n, 3) == 3
    size = dim_max(4 * n * t + 8, ceil_div(n, 16) * 64) - n % 3
    ports = (
        Port("x", (n, 3, t), dtype.float32),
        Port("w", (2,), dtype.bfloat16, "parameter"),
        Port("s", (), dtype.uint64, "state"),
    )
    constants = (
        rng.normal(size=(3, 2)).astype("f"),
        rng.normal(size=5).astype(ml_dtypes.bfloat16),
        np.empty((0, 4), np.int8),
        np.array(True),
    )
    slots = (
        Slot("input", size, 0),
        Slot("constant", 24, 0),
        Slot("prepared", 64),
        Slot("arena", size, -1, 1, 2),
        Slot("output", 4 * n, 0),
    )
    host = HostCall(
        "f",
        (("a", 1.5), ("b", (1, None, float("inf"))), ("c", constants[0]), ("d", dtype.int8), ("e", n), ("f", b"\0x")),
        (0,),
        (3,),
        "o",
        (((n, 3), dtype.float32), ((), dtype.bool_)),
    )
    kernel = KernelCall(
        "k",
        "scale",
        (0, 3),
        (0, size - n),
        (n * t, -5),
        ceil_div(n, 4),
        4 * n,
        7,
        "kernel",
        "layer 'café'",
        2 * n,
        n,
        (0,),
        (3,),
    )
    report = {"fused": ["a", ("b", 2)], "seconds": {"lower": 0.25, "emit": float("nan")}, "n": 3, 5: None, "flag": True}
    return Plan(
        "p",
        machine().text,
        ("n", "time"),
        tuple(guards.items()),
        ports,
        (Port("y", (n,), dtype.int32),),
        ((0, 2),),
        slots,
        (kernel,),
        (kernel, host),
        {"k": image("scale"), "other": b""},
        constants,
        (ErrorSite(7, "out"),),
        report,
    )


def same(a, b) -> bool:
    """Equality that sees the expressions of sizes, dtypes of arrays and nan."""
    if type(a) is Dim or type(b) is Dim:
        return type(a) is type(b) and a.expr == b.expr and int(a) == int(b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float) and a != a:
        return isinstance(b, float) and b != b
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (Plan, Port, Slot, KernelCall, HostCall)):
        return type(a) is type(b) and all(same(getattr(a, f), getattr(b, f)) for f in a.__dataclass_fields__)
    return type(a) is type(b) and a == b


def test_round_trip(rng):
    plan = rich(rng)
    data = serialize.dumps(plan)
    back = serialize.loads(data)
    assert len(back.plans) == 1 and same(back.plans[0], plan)
    assert serialize.dumps(back.plans[0]) == data
    for n in range(1, 30):
        values = {"n": n, "time": 3}
        assert back.plans[0].accepts(values) == plan.accepts(values)
        assert back.plans[0].number(back.plans[0].slots[0].nbytes, values) == plan.number(plan.slots[0].nbytes, values)


def test_bundles_share_equal_parts(rng):
    w = rng.normal(size=100_000).astype("f")
    one = serialize.dumps(serialize.Bundle((chain(3),), (w,)))
    two = serialize.dumps(serialize.Bundle((chain(3), chain(3)), (w, w.copy())))
    assert len(two) < len(one) + 6000
    back = serialize.loads(two)
    assert all(np.array_equal(a, w) for a in back.arrays) and not back.arrays[0].flags.writeable


def test_what_is_no_plain_data_is_refused():
    with pytest.raises(ArgumentError, match="set"):
        serialize.dumps(Plan("p", "t", (), (), (), (), (), (), (), (), {}, report={"x": {1, 2}}))


def test_truncations_and_flipped_bits(rng):
    data = serialize.dumps(rich(rng))
    for length in [*range(0, 200), *range(200, len(data), 97), len(data) - 1]:
        with pytest.raises(ModelFormatError):
            serialize.loads(data[:length])
    for at in [*range(0, 64), *rng.integers(64, len(data), 300)]:
        bad = bytearray(data)
        bad[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(ModelFormatError):
            serialize.loads(bytes(bad))
    with pytest.raises(ModelFormatError):
        serialize.loads(data + b"\0")


def sealed(header: bytes, sections: bytes = b"") -> bytes:
    """A file with a right checksum: what an attacker writes."""
    start = len(serialize.MAGIC) + 8 + len(header)
    body = serialize.MAGIC + struct.pack("<Q", len(header)) + header + bytes(-start % 64) + sections
    return body + hashlib.sha256(body).digest()


def opened(data: bytes) -> tuple[dict, bytes]:
    (length,) = struct.unpack_from("<Q", data, 8)
    start = 16 + length
    return json.loads(data[16:start]), data[start + -start % 64 : -32]


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"plans":[]}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"plans":{},"arrays":[],"sections":[]}',
        b'{"plans":[],"arrays":[["float32",[2],0]],"sections":[]}',
        b'{"plans":[],"arrays":[],"sections":[[0,1000]]}',
        b'{"plans":[],"arrays":[],"sections":[[-64,1]]}',
        b'{"plans":[],"arrays":[["float32",[1e9],0]],"sections":[[0,4]]}',
        b'{"plans":[],"arrays":[["float32",[4611686018427387904,4],0]],"sections":[[0,0]]}',
        b'{"plans":[1],"arrays":[],"sections":[]}',
    ],
)
def test_hostile_headers(header):
    with pytest.raises(ModelFormatError):
        serialize.loads(sealed(header, bytes(128)))


def _paths(x, at=()):
    yield at
    if isinstance(x, dict):
        for k in x:
            yield from _paths(x[k], (*at, k))
    elif isinstance(x, list):
        for i, v in enumerate(x):
            yield from _paths(v, (*at, i))


_JUNK = [None, True, -1, 0, 2**70, 1.5, "", "n", [], [1], {}, {"tuple": 3}, {"x": 1}, [[]], {"array": ["float32", [3], 0]}]


@pytest.mark.parametrize("junk", _JUNK, ids=repr)
def test_every_field_of_the_header_is_checked(rng, junk):
    """Replace each value in turn: a plan that still means something, or ``ModelFormatError``; nothing else."""
    body, sections = opened(serialize.dumps(rich(rng)))
    refused = 0
    paths = list(_paths(body))
    for path in paths[1:]:
        changed = json.loads(json.dumps(body))
        spot = changed
        for k in path[:-1]:
            spot = spot[k]
        spot[path[-1]] = junk
        try:
            back = serialize.loads(sealed(json.dumps(changed).encode(), sections))
        except ModelFormatError:
            refused += 1
        else:
            for plan in back.plans:
                assert isinstance(plan, Plan)
                for step in (*plan.setup, *plan.steps):
                    slots = step.slots if isinstance(step, KernelCall) else (*step.inputs, *step.outputs)
                    assert all(0 <= s < len(plan.slots) for s in slots)
    assert refused > len(paths) / 3


@given(st.binary(max_size=300))
def test_random_bytes(data):
    for raw in (data, serialize.MAGIC + data, sealed(data)):
        with pytest.raises(ModelFormatError):
            serialize.loads(raw)


def test_a_deep_expression_is_refused():
    deep: list = [[["n"], 1]]
    for _ in range(200):
        deep = [[[["//", deep, [[[], 3]]]], 1]]
    body, sections = opened(serialize.dumps(chain(2)))
    body["plans"][0]["slots"][0][1] = [8, deep]
    with pytest.raises(ModelFormatError, match="nested"):
        serialize.loads(sealed(json.dumps(body).encode(), sections))


def test_a_loaded_plan_runs(rng):
    plan = serialize.loads(serialize.dumps(chain(7))).plans[0]
    exe = Executable(plans=[plan])
    for n in (3, 40_000):
        x = rng.normal(size=n).astype("f")
        assert np.array_equal(exe(x), chained(x, 7))
