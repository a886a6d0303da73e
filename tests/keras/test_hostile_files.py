"""Damaged and hostile files: a typed error that says what is wrong, bounded time and memory, nothing run, nothing read or written elsewhere."""

import io
import json
import marshal
import os
import pickle
import sys
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import kerogen as kg
from kerogen import layers
from kerogen.runtime.errors import KerogenError, ModelFormatError

MEMBERS = ("metadata.json", "config.json", "model.weights.h5")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The members of an honest file."""
    model = kg.Sequential([kg.Input((5,)), layers.Dense(7, activation="relu", name="first"), layers.Dense(3, name="second")])
    model.compile(kg.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.fit(np.ones((4, 5), np.float32), np.ones((4, 3), np.float32), verbose=0)
    path = tmp_path_factory.mktemp("good") / "good.keras"
    model.save(path)
    with zipfile.ZipFile(path) as z:
        return {n: z.read(n) for n in MEMBERS}


def write(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as z:
        for name, content in members.items():
            z.writestr(name, content)
    return path


def with_config(good, change):
    config = json.loads(good["config.json"])
    config = change(config) or config
    return {**good, "config.json": json.dumps(config).encode()}


def with_weights(good, change):
    content = io.BytesIO(good["model.weights.h5"])
    with h5py.File(content, "r+") as f:
        change(f)
    return {**good, "model.weights.h5": content.getvalue()}


def refused(path, match, **kwargs):
    start = time.perf_counter()
    with pytest.raises(ModelFormatError, match=match):
        kg.load_model(path, **kwargs)
    assert time.perf_counter() - start < 5


def test_the_honest_file_loads(good, tmp_path):
    assert kg.load_model(write(tmp_path / "m.keras", good)).layers[1].name == "second"


def test_truncated_anywhere(good, tmp_path):
    whole = write(tmp_path / "m.keras", good).read_bytes()
    for part in (0, 1, 10, 100, len(whole) // 3, len(whole) // 2, len(whole) - 200, len(whole) - 30, len(whole) - 1):
        path = tmp_path / "cut.keras"
        path.write_bytes(whole[:part])
        refused(path, "cut.keras")


def test_truncated_members(good, tmp_path):
    weights = good["model.weights.h5"]
    for part in (0, 7, 100, len(weights) // 2, len(weights) - 1):
        refused(write(tmp_path / "m.keras", {**good, "model.weights.h5": weights[:part]}), "model.weights.h5")
    for part in (0, 1, 50, len(good["config.json"]) - 1):
        refused(write(tmp_path / "m.keras", {**good, "config.json": good["config.json"][:part]}), "config.json")


def test_flipped_bytes_never_escape_as_anything_else(good, tmp_path):
    rng = np.random.default_rng(0)
    x = np.ones((2, 5), np.float32)
    for i in range(150):
        members = dict(good)
        name = ("config.json", "model.weights.h5")[i % 2]
        content = bytearray(members[name])
        for _ in range(int(rng.integers(1, 6))):
            content[int(rng.integers(len(content)))] = int(rng.integers(256))
        members[name] = bytes(content)
        try:
            kg.load_model(write(tmp_path / "m.keras", members), compile=bool(i % 4 < 2)).predict(x, verbose=0)
        except KerogenError:
            pass


def test_the_crc_is_checked(good, tmp_path):
    path = write(tmp_path / "m.keras", good)
    raw = bytearray(path.read_bytes())
    at = raw.find(good["config.json"][:40]) + 20
    raw[at] ^= 1
    path.write_bytes(raw)
    refused(path, "config.json is damaged")


@pytest.mark.parametrize("member", MEMBERS[1:])
def test_missing_and_doubled_members(good, tmp_path, member):
    refused(write(tmp_path / "m.keras", {n: c for n, c in good.items() if n != member}), member)
    with zipfile.ZipFile(tmp_path / "d.keras", "w") as z, pytest.warns(UserWarning, match="Duplicate"):
        for n, c in good.items():
            z.writestr(n, c)
        z.writestr(member, good[member])
    refused(tmp_path / "d.keras", "twice")


def test_zip_bombs(good, tmp_path):
    bomb = {**good, "model.weights.h5": bytes(50 * 2**20)}
    refused(write(tmp_path / "m.keras", bomb, zipfile.ZIP_DEFLATED), "zip bomb")
    refused(write(tmp_path / "n.keras", {**good, "config.json": b" " * (20 * 2**20)}, zipfile.ZIP_DEFLATED), "zip bomb")
    refused(write(tmp_path / "o.keras", good, zipfile.ZIP_BZIP2), "compressed by method")
    refused(write(tmp_path / "p.keras", {**good, **{f"x{i}": b"" for i in range(10_001)}}), "members")


def test_a_declared_size_that_is_a_lie(good, tmp_path):
    path = write(tmp_path / "m.keras", good)
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as z:
        info = z.getinfo("model.weights.h5")
    at = raw.rfind(b"PK\x01\x02", 0, raw.rfind(b"model.weights.h5"))
    for field in (20, 24):  # compressed and plain size in the central directory
        raw[at + field : at + field + 4] = (0x7FFFFFF0).to_bytes(4, "little")
    assert info.file_size < 2**20
    path.write_bytes(raw)
    refused(path, "m.keras")


def test_other_files_under_the_name(tmp_path):
    (tmp_path / "a.keras").write_bytes(b"not a zip at all")
    refused(tmp_path / "a.keras", "no .keras file")
    with h5py.File(tmp_path / "b.keras", "w") as f:
        f["x"] = 1
    refused(tmp_path / "b.keras", "HDF5 file")
    (tmp_path / "c.keras").write_bytes(pickle.dumps({"x": 1}))
    refused(tmp_path / "c.keras", "no .keras file")
    (tmp_path / "d.keras").mkdir()
    refused(tmp_path / "d.keras", "folder")


def test_pickled_weights_are_not_read(good, tmp_path):
    out = io.BytesIO()
    np.savez(out, x=np.array([{"a": 1}], dtype=object))
    members = {n: c for n, c in good.items() if n != "model.weights.h5"}
    refused(write(tmp_path / "m.keras", {**members, "model.weights.npz": out.getvalue()}), "pickles")


# -- configuration


def dense(config, i=1):
    return config["config"]["layers"][i]


def replaced(good, **entry):
    def change(config):
        config["config"]["layers"][1] = {**dense(config), **entry}

    return with_config(good, change)


def test_a_lambda_is_refused_by_name(good, tmp_path):
    code = marshal.dumps(compile("open('owned','w')", "x", "exec"))
    body = {"name": "evil", "function": {"class_name": "__lambda__", "config": {"code": code.hex()}}}
    refused(write(tmp_path / "m.keras", replaced(good, class_name="Lambda", config=body)), r"Lambda 'evil'.*never runs")
    refused(write(tmp_path / "m.keras", replaced(good, class_name="Lambda", config=body)), "Lambda", safe_mode=False)
    inner = {
        **dense(json.loads(good["config.json"]))["config"],
        "activation": {"class_name": "__lambda__", "config": {"value": "eA=="}},
    }
    refused(write(tmp_path / "m.keras", replaced(good, config=inner)), "Lambda")


@pytest.mark.parametrize(
    "module,name",
    [
        ("os", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("keras.utils", "get_file"),
        ("keras.layers", "TFSMLayer"),
        ("keras.src.saving.saving_lib", "load_model"),
        ("numpy", "load"),
        ("kerogen.frontends.keras.saving", "load_model"),
        ("keras.layers", "__class__"),
        ("keras.layers", "Layer"),
        ("keras.layers", "Unheard"),
        ("keras.config", "enable_unsafe_deserialization"),
        (None, "Blk"),
        (7, "Dense"),
    ],
)
def test_classes_outside_the_table(good, tmp_path, module, name):
    path = write(tmp_path / "m.keras", replaced(good, module=module, class_name=name, registered_name=None))
    refused(path, f"first.*class '{name}'" if name != "__class__" else "first")


@pytest.mark.parametrize("name", ["system", "load_model", "eval", "get_file", "exec", "open", "__import__"])
def test_functions_outside_the_table(good, tmp_path, name):
    function = {"module": "builtins", "class_name": "function", "config": name, "registered_name": name}
    inner = {**dense(json.loads(good["config.json"]))["config"], "activation": function}
    refused(write(tmp_path / "m.keras", replaced(good, config=inner)), name)


@pytest.mark.parametrize(
    "key,value",
    [
        ("units", "7"),
        ("units", -1),
        ("units", 0),
        ("units", 1.5),
        ("units", [7]),
        ("units", None),
        ("units", 10**30),
        ("units", 10**9),
        ("activation", "zzz"),
        ("activation", {"a": 1}),
        ("kernel_initializer", "os.system"),
        ("name", 3),
        ("name", "a/../b"),
        ("trainable", "yes"),
        ("dtype", "float7"),
        ("surplus", 1),
        ("kernel_regularizer", {"module": "keras.regularizers", "class_name": "L2", "config": {"l2": -3}}),
    ],
)
def test_arguments_of_the_wrong_kind(good, tmp_path, key, value):
    inner = {**dense(json.loads(good["config.json"]))["config"], key: value}
    refused(write(tmp_path / "m.keras", replaced(good, config=inner)), "Dense|Sequential|first|dense")


@pytest.mark.parametrize(
    "config",
    [
        [],
        3,
        None,
        "x",
        {},
        {"class_name": "Sequential"},
        {"class_name": "Sequential", "config": []},
        {"class_name": 3, "config": {}},
        {"module": "keras", "class_name": "Sequential", "config": {"layers": 3}},
        {"module": "keras", "class_name": "Sequential", "config": {"layers": [3]}},
        {"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}},
        {"module": "keras.initializers", "class_name": "Zeros", "config": {}},
    ],
)
def test_no_model_in_the_configuration(good, tmp_path, config):
    refused(write(tmp_path / "m.keras", {**good, "config.json": json.dumps(config).encode()}), "m.keras")


def test_nesting_without_end(good, tmp_path):
    refused(write(tmp_path / "m.keras", {**good, "config.json": b"[" * 200_000}), "config.json")
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    refused(write(tmp_path / "m.keras", {**good, "config.json": deep}), "config.json")
    inner = {"module": "keras.initializers", "class_name": "Zeros", "config": {}}
    for _ in range(300):
        inner = {"module": "keras.initializers", "class_name": "Constant", "config": {"value": inner}}
    config = {**dense(json.loads(good["config.json"]))["config"], "kernel_initializer": inner}
    refused(write(tmp_path / "m.keras", replaced(good, config=config)), "nested deeper")
    model = json.loads(good["config.json"])
    for _ in range(300):
        model = {
            "module": "keras",
            "class_name": "Sequential",
            "config": {"name": "s", "layers": [model]},
            "registered_name": None,
        }
    refused(write(tmp_path / "m.keras", {**good, "config.json": json.dumps(model).encode()}), "nested deeper")


def test_a_configuration_that_asks_for_more_memory_than_its_weights(good, tmp_path):
    import resource

    inner = {**dense(json.loads(good["config.json"]))["config"], "units": 300_000_000}
    path = write(tmp_path / "m.keras", replaced(good, config=inner))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, r"first.*shape \(5, 300000000\)")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_a_broken_compile_configuration(good, tmp_path):
    def change(key, value):
        return with_config(good, lambda c: c["compile_config"].__setitem__(key, value))

    bad = {"module": "os", "class_name": "system", "config": {}, "registered_name": None}
    refused(write(tmp_path / "m.keras", change("optimizer", bad)), "system")
    refused(write(tmp_path / "m.keras", change("loss", bad)), "system")
    refused(write(tmp_path / "m.keras", with_config(good, lambda c: c.__setitem__("compile_config", [1]))), "compile_config")
    assert kg.load_model(write(tmp_path / "m.keras", change("optimizer", bad)), compile=False).layers[0].name == "first"


# -- weights


def kernel(f):
    return f["layers/dense/vars"]


def test_shapes_that_differ(good, tmp_path):
    def change(f):
        del kernel(f)["0"]
        kernel(f)["0"] = np.ones((5, 8), np.float32)

    refused(
        write(tmp_path / "m.keras", with_weights(good, change)), r"Dense 'first'.*\(5, 7\) in the model, \(5, 8\) in the file"
    )


def test_variables_missing_or_too_many(good, tmp_path):
    refused(
        write(tmp_path / "m.keras", with_weights(good, lambda f: kernel(f).__delitem__("1"))),
        r"Dense 'first'.*2 variables, the file has 1",
    )
    refused(write(tmp_path / "m.keras", with_weights(good, lambda f: kernel(f).__setitem__("2", np.ones(3)))), "the file has 3")
    refused(
        write(tmp_path / "m.keras", with_weights(good, lambda f: f["layers"].__delitem__("dense_1"))),
        r"Dense 'second'.*the file has 0",
    )


def replace_kernel(make):
    def change(f):
        del kernel(f)["0"]
        make(kernel(f))

    return change


def test_links_are_not_followed(good, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as f:
        f["x"] = np.ones((5, 7), np.float32)
    secret = str(tmp_path / "secret.h5")

    def external(g):
        g["0"] = h5py.ExternalLink(secret, "/x")

    def soft(g):
        g["0"] = h5py.SoftLink("/layers/dense_1/vars/0")

    def group(f):
        del f["layers/dense/vars"]
        f["layers/dense/vars"] = h5py.ExternalLink(secret, "/")

    refused(write(tmp_path / "m.keras", with_weights(good, replace_kernel(external))), "ExternalLink")
    refused(write(tmp_path / "m.keras", with_weights(good, replace_kernel(soft))), "SoftLink")
    refused(write(tmp_path / "m.keras", with_weights(good, group)), "ExternalLink")


def test_data_kept_elsewhere(good, tmp_path):
    (tmp_path / "raw").write_bytes(bytes(5 * 7 * 4))

    def external(g):
        g.create_dataset("0", (5, 7), np.float32, external=[(str(tmp_path / "raw"), 0, 140)])

    def virtual(g):
        layout = h5py.VirtualLayout((5, 7), np.float32)
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", (5, 7))
        g.create_virtual_dataset("0", layout)

    refused(write(tmp_path / "m.keras", with_weights(good, replace_kernel(external))), "elsewhere")
    refused(write(tmp_path / "m.keras", with_weights(good, replace_kernel(virtual))), "elsewhere")


def test_other_types_and_filters(good, tmp_path):
    def text(g):
        g.create_dataset("0", (5, 7), h5py.string_dtype())

    def lzf(g):
        g.create_dataset("0", data=np.ones((5, 7), np.float32), compression="lzf")

    def ints(g):
        g.create_dataset("0", data=np.ones((5, 7), np.int32))

    def nothing(g):
        g.create_dataset("0", (5, 7), np.float32)

    def zipped(g):
        g.create_dataset("0", data=np.full((5, 7), 2, np.float32), compression="gzip", shuffle=True)

    refused(write(tmp_path / "m.keras", with_weights(good, replace_kernel(text))), "first")
    refused(write(tmp_path / "m.keras", with_weights(good, replace_kernel(lzf))), "filters")
    refused(write(tmp_path / "m.keras", with_weights(good, replace_kernel(ints))), "float32 in the model, int32")
    refused(write(tmp_path / "m.keras", with_weights(good, replace_kernel(nothing))), "stores nothing")
    model = kg.load_model(write(tmp_path / "m.keras", with_weights(good, replace_kernel(zipped))))
    assert np.array_equal(model.get_weights()[0], np.full((5, 7), 2, np.float32))


def test_groups_where_datasets_belong(good, tmp_path):
    refused(write(tmp_path / "m.keras", with_weights(good, replace_kernel(lambda g: g.create_group("0")))), "no dataset")

    def dataset(f):
        del f["layers/dense"]
        f["layers/dense"] = np.ones(3)

    refused(write(tmp_path / "m.keras", with_weights(good, dataset)), "should be a group")


def test_indices_are_numbers_not_text(tmp_path):
    class Many(kg.Layer):
        def build(self, shape):
            self.parts = [
                self.add_weight(shape=(1,), initializer=kg.initializers.Constant(float(i)), name=f"v{i}") for i in range(12)
            ]

        def call(self, x):
            return x + self.parts[11]

    model = kg.Sequential([kg.Input((1,)), Many()])
    model.save(tmp_path / "m.keras")
    again = kg.load_model(tmp_path / "m.keras", custom_objects={"Many": Many})
    assert [float(w[0]) for w in again.get_weights()] == list(range(12))


def test_a_layer_shared_across_levels_is_found_by_its_name(good, tmp_path):
    def move(f):
        f.move("layers/dense_1", "layers/elsewhere")

    assert kg.load_model(write(tmp_path / "m.keras", with_weights(good, move))).layers[1].name == "second"


def test_an_optimizer_state_that_does_not_fit_is_skipped_with_a_warning(good, tmp_path):
    path = write(tmp_path / "m.keras", with_weights(good, lambda f: f["optimizer/vars"].__delitem__("3")))
    with pytest.warns(UserWarning, match="optimizer's state isn't restored"):
        model = kg.load_model(path)
    assert int(model.optimizer.iterations) == 0


# -- nothing is run


def test_loading_runs_no_code_and_opens_no_other_file(good, tmp_path):
    """Audit events while loading: no import of foreign modules, no unpickling, no process, no socket, no file but the one named."""
    path = write(tmp_path / "m.keras", good)
    kg.load_model(path)  # imports what is needed
    seen = []
    active = [True]

    def hook(event, args):
        if active[0] and event in (
            "exec",
            "marshal.loads",
            "pickle.find_class",
            "os.system",
            "subprocess.Popen",
            "socket.connect",
            "os.exec",
            "import",
        ):
            seen.append((event, str(args)[:80]))
        elif active[0] and event == "open" and isinstance(args[0], (str, bytes)) and os.fsdecode(args[0]) != str(path):
            seen.append((event, str(args)[:80]))

    sys.addaudithook(hook)
    try:
        kg.load_model(path)
    finally:
        active[0] = False
    assert not seen


def test_no_pickle_and_no_import_by_name_in_the_readers():
    folder = Path(__file__).parents[2] / "frontends" / "keras"
    for name in ("serialization", "registration", "saving", "archive", "weights_file"):
        text = (folder / f"{name}.py").read_text()
        for word in (
            "import pickle",
            "importlib",
            "marshal.",
            "eval(",
            "exec(",
            "__import__",
            "allow_pickle",
            "extractall",
            ".extract(",
        ):
            assert word not in text, f"{name}.py: {word}"
