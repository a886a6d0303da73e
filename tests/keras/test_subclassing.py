"""Subclassed layers and models beside the same classes in real Keras: tracking, arguments, masks through attention, losses and metrics."""

import numpy as np
import pytest

import kerogen as kg
from kerogen.runtime.errors import ArgumentError, KerogenError, ModelFormatError, StateError
from tests.compare import assert_close, assert_norm_close
from tests.oracle import oracle

keras = oracle("keras")


def both(make, x, seed=0):
    """``make(k)`` in both libraries, called on x, with the same random weights."""
    ours, theirs = make(kg), make(keras)
    ours(x), theirs(x)
    assert [v.path for v in ours.weights] == [v.path for v in theirs.weights]
    rng = np.random.default_rng(seed)
    values = [rng.standard_normal(v.shape) * 0.5 for v in theirs.weights]
    ours.set_weights(values), theirs.set_weights(values)
    return ours, theirs


def transformer(k):
    class Block(k.layers.Layer):
        def __init__(self, heads, width, **kwargs):
            super().__init__(**kwargs)
            self.heads, self.width = heads, width
            self.supports_masking = True
            self.attention = k.layers.MultiHeadAttention(heads, width, name="attention")
            self.norms = [k.layers.LayerNormalization(name="n0"), k.layers.LayerNormalization(name="n1")]
            self.feed = {"up": k.layers.Dense(4 * width, activation="gelu", name="up")}

        def build(self, input_shape):
            self.down = k.layers.Dense(input_shape[-1], name="down")
            self.gain = self.add_weight(shape=(1,), initializer="ones", name="gain")

        def call(self, x, training=False, mask=None):
            x = self.norms[0](x + self.gain * self.attention(x, x))
            return self.norms[1](x + self.down(self.feed["up"](x)))

        def get_config(self):
            return {**super().get_config(), "heads": self.heads, "width": self.width}

    return Block


def tagger(k):
    Block = transformer(k)
    return k.Sequential([
        k.Input((7,), dtype="int32"), k.layers.Embedding(11, 6, mask_zero=True, name="table"), Block(2, 3, name="block"),
        k.layers.Dense(4, activation="softmax", name="tag"),
    ], name="tagger")  # fmt: skip


def sentences(n=9):
    rng = np.random.default_rng(2)
    x = rng.integers(1, 11, (n, 7)).astype(np.int32)
    for row, length in zip(x, rng.integers(2, 8, n)):
        row[length:] = 0
    return x, rng.integers(0, 4, (n, 7))


@pytest.mark.parametrize("weighted", [False, True])
def test_masks_reach_attention_loss_and_metrics(weighted):
    x, y = sentences()
    ours, theirs = both(tagger, x)
    assert_close(ours(x), theirs(x), 1e-5)
    w = np.random.default_rng(4).random(y.shape).astype(np.float32) if weighted else None
    for k, m in ((kg, ours), (keras, theirs)):
        m.compile(k.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"], weighted_metrics=["accuracy"])
    a = ours.fit(x, y, sample_weight=w, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    b = theirs.fit(x, y, sample_weight=w, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    # On JAX the mask of the predictions gets lost on their way out of the differentiated function, so Keras' training metrics don't see it (its
    # other backends' do); those of evaluate do.
    assert sorted(a) == sorted(b)
    assert_close(a["loss"], b["loss"], 1e-4, check_dtype=False)
    a = ours.evaluate(x, y, sample_weight=w, batch_size=4, verbose=0, return_dict=True)
    b = theirs.evaluate(x, y, sample_weight=w, batch_size=4, verbose=0, return_dict=True)
    for name in b:
        assert_close(a[name], b[name], 1e-4, check_dtype=False, what=name)
    for v, p, q in zip(theirs.weights, ours.get_weights(), theirs.get_weights()):
        assert_norm_close(p, np.asarray(q), 1e-4, 1e-2, what=v.path)


def test_a_custom_layer_in_files_both_ways(tmp_path):
    x, _ = sentences()
    ours, theirs = both(tagger, x)
    theirs.save(tmp_path / "keras.keras")
    with pytest.raises(ModelFormatError, match="Block 'block': the file asks for class 'Block'.*doesn't have.*custom_objects"):
        kg.models.load_model(tmp_path / "keras.keras")
    again = kg.models.load_model(tmp_path / "keras.keras", custom_objects={"Block": transformer(kg)})
    assert_close(again(x), theirs(x), 1e-5)
    again.save(tmp_path / "kerogen.keras")
    back = keras.models.load_model(tmp_path / "kerogen.keras", custom_objects={"Block": transformer(keras)})
    assert_close(np.asarray(back(x)), np.asarray(theirs(x)), 1e-6)


def variational(k):
    class Net(k.Model):
        def __init__(self):
            super().__init__(name="net")
            self.inner = k.Sequential([k.layers.Dense(5, activation="tanh", name="d0"), k.layers.Dense(3, name="d1", activity_regularizer="l2")], name="inner")
            self.heads = [[k.layers.Dense(2, name="h0")], {"z": k.layers.Dense(2, name="hz"), "a": k.layers.Dense(2, name="ha")}]

        def call(self, inputs, training=None):
            h = self.inner(inputs["x"])
            self.add_loss(0.1 * k.ops.mean(k.ops.square(h)))
            out = self.heads[0][0](h) + self.heads[1]["a"](h) * self.heads[1]["z"](inputs["x"][:, :3])
            if training:
                self.add_loss(0.01 * k.ops.sum(k.ops.abs(out)))
            return out

    return Net()


def test_a_subclassed_model_with_losses_of_its_own():
    rng = np.random.default_rng(7)
    x, y = {"x": rng.standard_normal((15, 6)).astype(np.float32)}, rng.standard_normal((15, 2)).astype(np.float32)
    ours, theirs = both(variational, x)
    assert_close(ours(x), theirs(x), 1e-5)
    assert_close([float(v) for v in ours.losses], [float(v) for v in theirs.losses], 1e-5)
    for k, m in ((kg, ours), (keras, theirs)):
        m.compile(k.optimizers.SGD(0.05), "mse")
    a = ours.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"]
    b = theirs.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"]
    assert_close(a, b, 1e-5, check_dtype=False)
    assert ours.evaluate(x, y, verbose=0) == pytest.approx(theirs.evaluate(x, y, verbose=0), rel=1e-4)


def test_training_is_told_by_call_context_and_default():
    def make(k):
        class Told(k.layers.Layer):
            def call(self, x, training=None):
                return x * (3.0 if training else 1.0 if training is None else 2.0)

        class Default(k.layers.Layer):
            def call(self, x, training=True):
                return x + (5.0 if training else 7.0)

        class Outer(k.layers.Layer):
            def __init__(self):
                super().__init__()
                self.told, self.default = Told(), Default()

            def call(self, x):
                return self.default(self.told(x))

        inputs = k.Input((3,))
        return Outer(), k.Model(inputs, Outer()(inputs)), k.Sequential([Told(), Default()])

    x = np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32)
    for ours, theirs in zip(make(kg), make(keras)):
        for given in ({}, {"training": True}, {"training": False}):
            assert_close(ours(x, **given), theirs(x, **given), 1e-6, what=f"{type(theirs).__name__} {given}")


def test_dtype_arguments_of_own_layers():
    def make(k, dtype):
        class Scale(k.layers.Layer):
            def build(self, input_shape):
                self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones")
                self.exact = self.add_weight(shape=(), initializer="ones", autocast=False)

            def call(self, x):
                return x * self.gain, self.exact + 1.0

        return Scale(dtype=dtype)

    x = np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32)
    for dtype in ("float32", "mixed_bfloat16", "float64", "bfloat16"):
        if dtype == "float64":
            continue  # JAX computes in float32
        ours, theirs = make(kg, dtype), make(keras, dtype)
        for a, b in zip(ours(x), theirs(x)):
            assert str(a.dtype) == str(b.dtype), dtype
        assert [str(v.dtype) for v in ours.weights] == [str(v.dtype) for v in theirs.weights]
        assert (ours.compute_dtype, ours.variable_dtype) == (theirs.compute_dtype, theirs.variable_dtype)
    assert str(make(kg, "float64")(x)[0].dtype) == "float64"


def test_config_of_plain_arguments_comes_for_free():
    class Ring(kg.layers.Layer):
        def __init__(self, width, power=2.0, **kwargs):
            super().__init__(**kwargs)
            self.width, self.power = width, power

        def call(self, x):
            return x**self.power

    layer = Ring(3, name="ring")
    assert {k: layer.get_config()[k] for k in ("name", "width", "power")} == {"name": "ring", "width": 3, "power": 2.0}
    assert Ring.from_config(layer.get_config()).width == 3
    assert layer.compute_output_shape((None, 4)) == (None, 4)


def test_mistakes_in_subclasses():
    class Forgot(kg.layers.Layer):
        def __init__(self):
            self.units = 3

        def call(self, x):
            return x

    with pytest.raises(StateError, match=r"Forgot, call super\(\).__init__\(\) first"):
        Forgot()(np.ones((2, 2), np.float32))

    class Silent(kg.layers.Layer):
        def call(self, x):
            pass

    with pytest.raises(KerogenError, match="Silent"):
        kg.Model(i := kg.Input((3,)), Silent()(i))
    model = kg.Sequential([kg.Input((2,)), kg.layers.Dense(2)])
    for call in (lambda: kg.models.load_model(None), lambda: model.save(3), lambda: model.load_weights([1])):
        with pytest.raises(ArgumentError, match="a path is a string or a pathlib.Path, not"):
            call()


@pytest.mark.parametrize("arguments", [1, 2])
def test_a_model_that_its_first_call_builds_is_read_back(arguments, tmp_path, rng):
    def classes(k):
        class Block(k.layers.Layer):
            def __init__(self, units, **kwargs):
                super().__init__(**kwargs)
                self.units, self.inner = units, [k.layers.Dense(units), {"norm": k.layers.LayerNormalization()}]

            def build(self, shape):
                self.scale = self.add_weight(shape=(self.units,), initializer="random_normal", name="scale")
                super().build(shape)

            def call(self, x):
                return self.inner[1]["norm"](self.inner[0](x)) * self.scale

            def get_config(self):
                return {**super().get_config(), "units": self.units}

        class Net(k.Model):
            def __init__(self, **kwargs):
                super().__init__(**kwargs)
                self.blocks = [Block(5, name="first"), Block(3, name="second")]

            def call(self, x, other=None):
                x = self.blocks[1](self.blocks[0](x))
                return x if other is None else x + other

        return {"Net": Net, "Block": Block}

    mine, theirs = classes(kg), classes(keras)
    data = [rng.standard_normal((7, n)).astype(np.float32) for n in (4, 3)][:arguments]
    file = str(tmp_path / "net.keras")
    for own in (mine, theirs):
        model = own["Net"]()
        want = np.asarray(model(*data))
        model.save(file)
        for reader, names in ((kg, mine), (keras, theirs)):
            again = reader.models.load_model(file, custom_objects=names)
            assert_close(np.asarray(again(*data)), want)
