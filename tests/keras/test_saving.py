"""Files: those of real Keras load and predict the same without Keras, ours load in Keras, and training goes on where it stopped."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import kerogen as kg
from kerogen import layers
from kerogen.frontends.keras import atomic_file
from kerogen.runtime.errors import ArgumentError, ModelFormatError, StateError
from tests.compare import assert_close
from tests.oracle import oracle

NAMES = ["mlp", "cnn", "functional", "many"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files written by real Keras in another process, with inputs and predictions."""
    oracle("keras")
    folder = tmp_path_factory.mktemp("keras")
    subprocess.run([sys.executable, Path(__file__).with_name("models_for_files.py"), folder], check=True, timeout=300)
    return folder


def inputs_of(arrays):
    x = [arrays[f"x{i}"] for i in range(sum(k.startswith("x") for k in arrays.files))]
    return x if len(x) > 1 else x[0]


def check_predictions(model, arrays):
    x = inputs_of(arrays)
    for n in (7, 1):
        part = [v[:n] for v in x] if isinstance(x, list) else x[:n]
        out = model.predict(part, verbose=0)
        for i, o in enumerate(out if isinstance(out, list) else [out]):
            assert_close(o, arrays[f"out{n}_{i}"], 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_files_of_keras_load_and_predict(files, name):
    check_predictions(kg.load_model(files / f"{name}.keras"), np.load(files / f"{name}.npz"))


def test_no_keras_is_needed(files):
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('keras', 'tensorflow', 'jax', 'torch'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import numpy as np, kerogen as kg\n"
        f"for name in {NAMES!r}:\n"
        f"    a = np.load({str(files)!r} + f'/{{name}}.npz')\n"
        "    x = [a[k] for k in sorted(a.files) if k.startswith('x')]\n"
        f"    out = kg.load_model({str(files)!r} + f'/{{name}}.keras').predict(x if len(x) > 1 else x[0], verbose=0)\n"
        "    for i, o in enumerate(out if isinstance(out, list) else [out]):\n"
        "        b = a[f'out7_{i}']\n"
        "        assert np.all(np.abs(o - b) <= 1e-5 * (1 + np.abs(b))), name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("name", NAMES)
def test_weights_files_of_keras(files, name):
    arrays = np.load(files / f"{name}.npz")
    model = kg.load_model(files / f"{name}.keras")
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    model.load_weights(files / f"{name}.weights.h5")
    check_predictions(model, arrays)


@pytest.mark.parametrize("name", NAMES)
def test_our_files_load_in_keras_with_the_optimizer(files, tmp_path, name):
    keras = oracle("keras")
    arrays = np.load(files / f"{name}.npz")
    model = kg.load_model(files / f"{name}.keras")
    path = str(tmp_path / "again.keras")
    model.save(path)
    theirs = keras.models.load_model(path)
    x = inputs_of(arrays)
    out = theirs.predict(x, verbose=0)
    for i, o in enumerate(out if isinstance(out, list) else [out]):
        assert_close(o, arrays[f"out7_{i}"], 1e-5)
    original = keras.models.load_model(files / f"{name}.keras")
    assert len(theirs.optimizer.variables) == len(original.optimizer.variables) > 2
    for a, b in zip(theirs.optimizer.variables, original.optimizer.variables):
        assert np.array_equal(np.asarray(a), np.asarray(b))
    assert int(theirs.optimizer.iterations) == 3
    with zipfile.ZipFile(path) as z:
        assert {i.filename: i.compress_type for i in z.infolist()} == {
            "metadata.json": 0,
            "config.json": 0,
            "model.weights.h5": 0,
        }
        ours = json.loads(z.read("config.json"))
    with zipfile.ZipFile(files / f"{name}.keras") as z:
        original_config = json.loads(z.read("config.json"))
    assert ours["module"] == original_config["module"] and ours["class_name"] == original_config["class_name"]
    tree = h5_tree(path)
    assert {k: v for k, v in tree.items() if "seed_generator" not in k} == h5_tree(
        files / f"{name}.keras"
    )  # Keras saves no seeds, and ignores ours


def h5_tree(path):
    import io

    import h5py

    tree = {}
    with zipfile.ZipFile(path) as z, h5py.File(io.BytesIO(z.read("model.weights.h5"))) as f:
        f.visititems(lambda n, o: tree.__setitem__(n, (getattr(o, "shape", None), str(getattr(o, "dtype", "")), dict(o.attrs))))
    return tree


@pytest.mark.parametrize("name", ["mlp", "functional"])
def test_training_goes_on_as_in_keras(files, name):
    keras = oracle("keras")
    ours, theirs = kg.load_model(files / f"{name}.keras"), keras.models.load_model(files / f"{name}.keras")
    rng = np.random.default_rng(3)
    for _ in range(3):
        if name == "mlp":
            x, y = rng.standard_normal((5, 13)).astype(np.float32), rng.integers(0, 5, 5)
        else:
            x = [rng.standard_normal((5, 6)).astype(np.float32) for _ in range(2)]
            y = [rng.standard_normal((5, n)).astype(np.float32) for n in (4, 1)]
        a, b = ours.train_on_batch(x, y, return_dict=True), theirs.train_on_batch(x, y, return_dict=True)
        assert sorted(a) == sorted(b)
        for k in b:
            assert_close(a[k], float(b[k]), 1e-5, check_dtype=False, what=k)
    for a, b in zip(ours.get_weights(), theirs.get_weights()):
        assert np.linalg.norm(a - b) <= 1e-4 * (np.linalg.norm(b) + 0.05 * np.sqrt(b.size))


def small(seed=0):
    model = kg.Sequential([kg.Input((5,)), layers.Dense(7, activation="relu"), layers.Dropout(0.25), layers.Dense(3)])
    model.compile(kg.optimizers.Adam(0.01), "mse", metrics=["mae"])
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((11, 5)).astype(np.float32), rng.standard_normal((11, 3)).astype(np.float32)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, shuffle=False)
    return model, x, y


def test_a_saved_model_trains_on_bit_for_bit(tmp_path):
    model, x, y = small()
    model.save(tmp_path / "m.keras")
    again = kg.load_model(tmp_path / "m.keras")
    a = model.fit(x, y, batch_size=4, epochs=2, verbose=0, shuffle=False).history
    b = again.fit(x, y, batch_size=4, epochs=2, verbose=0, shuffle=False).history
    assert a == b  # dropout's random numbers too: the seed's state is in the file
    for p, q in zip(model.get_weights(), again.get_weights()):
        assert np.array_equal(p, q)


def test_weights_alone(tmp_path):
    model, x, _ = small()
    model.save_weights(tmp_path / "w.weights.h5")
    other, _, _ = small(seed=9)
    other.load_weights(tmp_path / "w.weights.h5")
    assert np.array_equal(model.predict(x, verbose=0), other.predict(x, verbose=0))
    wrong = kg.Sequential([kg.Input((5,)), layers.Dense(8), layers.Dropout(0.25), layers.Dense(3)])
    before = wrong.get_weights()
    with pytest.raises(ModelFormatError, match=r"Dense .*\(5, 8\) in the model, \(5, 7\) in the file"):
        wrong.load_weights(tmp_path / "w.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(before, wrong.get_weights()))


@kg.saving.register_keras_serializable("tests")
class Scale(kg.Layer):
    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor
        self.inner = layers.Dense(4)

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x * self.gain) * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def test_layers_of_ones_own(tmp_path):
    model = kg.Sequential([kg.Input((3,)), Scale(3.0), layers.Dense(2)])
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    model.save(tmp_path / "own.keras")
    again = kg.load_model(tmp_path / "own.keras")
    assert again.layers[0].factor == 3.0
    assert np.array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))
    groups = h5_tree(tmp_path / "own.keras")
    assert "layers/scale/vars/0" in groups and "layers/scale/inner/vars/1" in groups


class Unregistered(kg.Layer):
    def call(self, x):
        return x + 1.0


def test_an_unknown_class_is_asked_for_by_name(tmp_path):
    model = kg.Sequential([kg.Input((3,)), Unregistered(name="odd")])
    model.save(tmp_path / "u.keras")
    with pytest.raises(ModelFormatError, match=r"Unregistered 'odd'.*custom_objects"):
        kg.load_model(tmp_path / "u.keras")
    x = np.ones((2, 3), np.float32)
    again = kg.load_model(tmp_path / "u.keras", custom_objects={"Unregistered": Unregistered})
    assert np.array_equal(again.predict(x, verbose=0), x + 1)


def test_half_precision_weights_keep_their_type(tmp_path):
    keras = oracle("keras")
    model = kg.Sequential([kg.Input((3,)), layers.Dense(4, dtype="bfloat16")])
    path = str(tmp_path / "b.keras")
    model.save(path)
    for loaded in (kg.load_model(path), keras.models.load_model(path)):
        for a, b in zip(loaded.get_weights(), model.get_weights()):
            assert np.asarray(a).dtype.name == "bfloat16" and np.array_equal(np.asarray(a, np.float32), b.astype(np.float32))


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    model, x, _ = small()
    path = tmp_path / "m.keras"
    model.save(path)
    old = path.read_bytes()

    def broken(fd):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        model.save(path)
    assert path.read_bytes() == old and os.listdir(tmp_path) == ["m.keras"]
    monkeypatch.undo()
    with pytest.raises(ArgumentError, match="overwrite"):
        model.save(path, overwrite=False)
    atomic_file.write(tmp_path / "plain", b"x")
    assert (tmp_path / "plain").stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask():
    value = os.umask(0)
    os.umask(value)
    return value


def test_mistakes_are_named(tmp_path):
    model, _, _ = small()
    with pytest.raises(ArgumentError, match=r"\.keras.*save_weights"):
        model.save(tmp_path / "m.h5")
    with pytest.raises(ArgumentError, match=r"weights\.h5"):
        model.save_weights(tmp_path / "m.keras")
    with pytest.raises(ArgumentError, match="no file"):
        kg.load_model(tmp_path / "none.keras")
    with pytest.raises(StateError, match="built"):
        kg.Sequential([layers.Dense(2)]).save(tmp_path / "m.keras")
