"""Damaged and hostile files: a typed error, in bounded time, and no file outside the model's folder is read."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from kerogen.frontends.onnx import load
from kerogen.frontends.onnx.exporter import _Free
from kerogen.runtime.errors import ModelFormatError, UserError

from . import models
from .models import onnx

TensorProto = onnx.TensorProto


def external_model(location: str, offset: str | None = None, length: str | None = None, shape=(4,)):
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> m (float[4] x) => (float[4] y) { y = Add(x, w) }')
    t = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    t.dims.extend(shape)
    for k, v in (("location", location), ("offset", offset), ("length", length)):
        if v is not None:
            t.external_data.add(key=k, value=v)
    return model


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "inside"
    (inside / "deep").mkdir(parents=True)
    values = np.arange(4, dtype=np.float32)
    (inside / "w.bin").write_bytes(b"pad!" + values.tobytes())
    (inside / "deep" / "w.bin").write_bytes(values.tobytes())
    (tmp_path / "secret.bin").write_bytes(values.tobytes())
    return inside


def put(folder, model):
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_is_read(folder):
    x = np.ones(4, np.float32)
    assert load(put(folder, external_model("w.bin", "4", "16")))(x).tolist() == [1, 2, 3, 4]
    assert load(put(folder, external_model("./deep/w.bin")))(x).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin",
        "deep/../../secret.bin",
        "deep/./w.bin",
        "/etc/passwd",
        "",
        ".",
        "..",
        "a\\b",
        "C:w.bin",
        "w.bin\0",
        "deep//w.bin",
        "deep/",
        "x/" * 40 + "w",
        "*/_ORT_MEM_ADDR_/*",
    ],
)
def test_names_that_leave_the_folder(folder, location):
    with pytest.raises(ModelFormatError, match="relative path inside the model's folder|can't be opened"):
        load(put(folder, external_model(location)))


def test_links_are_not_followed(folder):
    os.symlink(folder.parent / "secret.bin", folder / "soft.bin")
    os.symlink(folder.parent, folder / "up")
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    for location, words in (
        ("soft.bin", "links are not followed"),
        ("up/secret.bin", "links are not followed"),
        ("hard.bin", "2 hard links"),
    ):
        path = put(folder, external_model(location))
        with pytest.raises(ModelFormatError, match=words):
            load(path)
        assert load(path, allow_links=True)(np.ones(4, np.float32)).tolist() == [1, 2, 3, 4]


def test_special_files_do_not_block(folder):
    os.mkfifo(folder / "pipe")
    started = time.monotonic()
    with pytest.raises(ModelFormatError, match="not a regular file"):
        load(put(folder, external_model("pipe")))
    with pytest.raises(ModelFormatError, match="not a regular file"):
        load(put(folder, external_model("deep")))
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "offset, length, shape, words",
    [
        ("8", "16", (4,), "has 20 bytes, the model asks for 16 at 8"),
        ("0", "12", (4,), "needs 16 bytes, its external data has 12"),
        ("-4", "16", (4,), "offset is '-4', not a number"),
        ("0x4", "16", (4,), "not a number"),
        ("9" * 30, "16", (4,), "not a number"),
        (None, None, (2**40,), "asks for"),
        (None, None, (2**62, 4), "more elements than any machine holds"),
        (None, None, (-4,), "negative size"),
    ],
)
def test_sizes_that_do_not_fit(folder, offset, length, shape, words):
    with pytest.raises(ModelFormatError, match=words):
        load(put(folder, external_model("w.bin", offset, length, shape)))


def test_overlapping_regions_ask_for_no_more_than_the_file(folder):
    (folder / "big.bin").write_bytes(bytes(4096))
    model = external_model("big.bin", "0", "16")
    for i in range(50):
        t = model.graph.initializer.add(
            name=f"v{i}", data_type=TensorProto.UINT8, data_location=TensorProto.EXTERNAL, dims=[4000]
        )
        for k, v in (("location", "big.bin"), ("offset", str(i)), ("length", "4000")):
            t.external_data.add(key=k, value=v)
    with pytest.raises(ModelFormatError, match="overlap"):
        load(put(folder, model))


def test_every_tensor_goes_through_the_opener(folder):
    """Constant attributes and subgraphs too (the gap of ORT 1.26)."""
    t = external_model("../secret.bin").graph.initializer[0]
    node = onnx.helper.make_node("Constant", [], ["c"], value=t)
    graph = onnx.helper.make_graph([node], "g", [], [onnx.helper.make_tensor_value_info("c", 1, [4])])
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("If", ["b"], ["y"], then_branch=graph, else_branch=graph)],
        "m",
        [onnx.helper.make_tensor_value_info("b", TensorProto.BOOL, [])],
        [onnx.helper.make_tensor_value_info("y", 1, [4])],
    )
    for g in (graph, inner):
        with pytest.raises(ModelFormatError, match="inside the model's folder"):
            load(put(folder, onnx.helper.make_model(g, opset_imports=[onnx.helper.make_opsetid("", 17)])))


def test_bytes_have_no_folder(folder):
    with pytest.raises(ModelFormatError, match="given as bytes; give its path"):
        load(external_model("w.bin", "4", "16").SerializeToString())


def text_model(body: str, head: str = "float[4] x", out: str = "float[4] y"):
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> m ({head}) => ({out}) {{ {body} }}')


def test_structure():
    twice = text_model("y = Exp(x)")
    twice.graph.node.add(op_type="Exp", input=["x"], output=["y"])
    undefined = text_model("y = Exp(x)")
    undefined.graph.node[0].input[0] = "z"
    short = text_model("y = Add(x, w)")
    short.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[4], raw_data=bytes(15))
    few = text_model("y = Add(x, w)")
    few.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[4], float_data=[1, 2, 3])
    deep = text_model("y = Exp(x)")
    deep.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1] * 70, raw_data=bytes(4))
    both = text_model("y = Exp(x)")
    both.opset_import.add(domain="ai.onnx", version=12)
    none = text_model("y = Exp(x)")
    del none.opset_import[:]
    for model, words in (
        (twice, "defines 'y' a second time"),
        (undefined, "reads 'z', which nothing before it defines"),
        (short, "needs 16 bytes and has 15"),
        (few, "needs 4 elements and has 3"),
        (deep, "70 dimensions"),
        (both, "two versions of domain"),
        (none, "imports no operator set"),
    ):
        with pytest.raises(ModelFormatError, match=words):
            load(model)
    for data, words in (
        (b"", "empty"),
        (b"PK\x03\x04 no model", "not an ONNX model"),
        (text_model("y = Exp(x)").SerializeToString()[:40], "not an ONNX model"),
    ):
        with pytest.raises(ModelFormatError, match=words):
            load(data)
    with pytest.raises(ModelFormatError, match="no such file"):
        load("/nowhere/m.onnx")


def test_functions_that_call_themselves_end():
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "f" : 1]> m (float[4] x) => (float[4] y) { y = f.a(x) }
    <domain: "f", opset_import: ["" : 17, "f" : 1]> a (v) => (w) { w = f.a(v) }""")
    with pytest.raises(ModelFormatError, match="calls itself"):
        load(model).trace({})


def test_functions_that_double_end():
    """Thirty functions that each call the next twice: 2**30 calls after inlining."""
    functions = "\n".join(
        f'<domain: "f", opset_import: ["" : 17, "f" : 1]> a{i} (v) => (w) {{ t = f.a{i + 1}(v) w = f.a{i + 1}(t) }}'
        for i in range(30)
    )
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17, "f" : 1]> m (float[4] x) => (float[4] y) {{ y = f.a0(x) }}\n{functions}\n'
        '<domain: "f", opset_import: ["" : 17]> a30 (v) => (w) { w = Exp(v) }'
    )
    started = time.monotonic()
    with pytest.raises(ModelFormatError, match="operator calls after"):
        load(model).trace({})
    assert time.monotonic() - started < 120


def test_huge_results_are_refused_before_anything_is_made():
    model = text_model("s = Constant<value_ints=[1099511627776, 1099511627776]>() y = ConstantOfShape(s)", out="float[a, b] y")
    with pytest.raises(ModelFormatError, match="more elements than any machine holds"):
        load(model).trace({})


def test_indices_out_of_range_raise():
    model = text_model("y = Gather(x, i)", head="float[4] x, int64[n] i", out="float[n] y")
    x = np.arange(4, dtype=np.float32)
    assert load(model)(x, np.array([-1, 0])).tolist() == [3, 0]
    for bad in (4, -5, 2**40):
        with pytest.raises(UserError):
            load(model)(x, np.array([0, bad]))


def outcome(model) -> str:
    """ "fine" where a model (a proto, or bytes) loads and traces, "refused" for a typed error; other exceptions pass through."""
    try:
        load(model).trace(_Free())
        return "fine"
    except UserError:
        return "refused"


@pytest.mark.parametrize("make", [models.mlp, models.cnn, models.transformer])
def test_random_bytes_give_typed_errors(make, rng):
    data = make(rng).SerializeToString()
    seen = set()
    for _ in range(300):
        b = bytearray(data)
        at = int(rng.integers(0, min(len(b), 900)))
        kind = rng.integers(4)
        if kind < 2:
            b[at] = rng.integers(256)
        elif kind == 2:
            del b[at]
        else:
            b.insert(at, rng.integers(256))
        seen.add(outcome(bytes(b)))
    assert "refused" in seen


def mutate(model, rng) -> None:
    """One random change of a model's structure."""
    graph = model.graph
    node = graph.node[rng.integers(len(graph.node))]
    weight = graph.initializer[rng.integers(len(graph.initializer))]
    number = int(rng.choice([0, -1, 1, 2, 3, 7, 2**31, 2**40, -(2**63), 2**63 - 1]))
    names = [*[x for n in graph.node for x in n.output], *[t.name for t in graph.initializer], ""]
    kind = rng.integers(9)
    if kind == 0 and node.input:
        node.input[rng.integers(len(node.input))] = str(rng.choice(names))
    elif kind == 1:
        node.op_type = str(
            rng.choice(
                [
                    "Gemm",
                    "Conv",
                    "Gather",
                    "Slice",
                    "Softmax",
                    "Pad",
                    "Resize",
                    "Split",
                    "Where",
                    "Cast",
                    "Nope",
                    "Attention",
                    "If",
                ]
            )
        )
    elif kind == 2 and node.attribute:
        a = node.attribute[rng.integers(len(node.attribute))]
        a.i, a.type = number, rng.choice([a.type, 1, 2, 7])
        if len(a.ints):
            a.ints[rng.integers(len(a.ints))] = number
    elif kind == 3:
        node.attribute.append(
            onnx.helper.make_attribute(str(rng.choice(["axis", "axes", "perm", "kernel_shape", "to", "group"])), [number])
        )
    elif kind == 4 and weight.dims:
        weight.dims[rng.integers(len(weight.dims))] = number
    elif kind == 5:
        weight.data_type = int(rng.integers(0, 24))
    elif kind == 6:
        dims = graph.input[rng.integers(len(graph.input))].type.tensor_type.shape.dim
        dims[rng.integers(len(dims))].dim_value = number
    elif kind == 7 and weight.data_type == TensorProto.INT64 and len(weight.raw_data) >= 8:
        weight.raw_data = number.to_bytes(8, "little", signed=True) + weight.raw_data[8:]
    elif kind == 8 and node.input:
        del node.input[rng.integers(len(node.input))]


@pytest.mark.parametrize("make", [models.mlp, models.cnn, models.transformer])
def test_random_structure_gives_typed_errors(make, rng):
    data = make(rng).SerializeToString()
    counts = {"fine": 0, "refused": 0}
    for _ in range(400):
        model = onnx.ModelProto.FromString(data)
        for _ in range(rng.integers(1, 3)):
            mutate(model, rng)
        counts[outcome(model)] += 1
    assert min(counts.values()) > 10, counts
