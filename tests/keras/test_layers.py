"""Layers beside real Keras: configs, names, shapes, behaviour that the parity table (test_layer_parity.py) has no place for; and the errors."""

import json

import numpy as np
import pytest

import kerogen as kg
from kerogen import layers
from kerogen.runtime.errors import ArgumentError, KerogenError, ShapeError, UnknownNameError
from tests.compare import assert_close
from tests.keras.layer_cases import CASES, CHANNELS_FIRST
from tests.oracle import oracle

keras = oracle("keras")



def case_id(case):
    return f"{case[0]}-{'-'.join(f'{k}={v}' for k, v in case[1].items())}-{'x'.join(map(str, case[2]))}".replace(" ", "")


def randomise(weights, rng):
    return [np.abs(rng.standard_normal(v.shape)) + 0.3 if "variance" in v.name else rng.standard_normal(v.shape) for v in weights]


def pair(name, arguments, arrays, rng):
    ours, theirs = getattr(layers, name)(**arguments), getattr(keras.layers, name)(**arguments)
    given = arrays if len(arrays) > 1 else arrays[0]
    ours(given), theirs(given)
    values = randomise(theirs.weights, rng)
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    assert [w.shape for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    ours.set_weights(values)
    theirs.set_weights(values)
    return ours, theirs, given


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_config_and_shapes(case, rng):
    name, arguments, shapes = case
    ours, theirs = getattr(layers, name)(name="n", **arguments), getattr(keras.layers, name)(name="n", **arguments)

    def plain(config):
        return json.loads(json.dumps(config, default=str))

    mine, real = plain(ours.get_config()), plain(theirs.get_config())
    assert mine == real
    again = type(ours).from_config(ours.get_config())
    assert plain(again.get_config()) == mine
    batch = [(None, *s[1:]) for s in shapes]
    shape = batch if len(batch) > 1 else batch[0]
    assert ours.compute_output_shape(shape) == tuple(theirs.compute_output_shape(shape))
    assert ours.weights == []
    symbolic = [layers.Input(s[1:]) for s in shapes]
    out = ours(symbolic if len(symbolic) > 1 else symbolic[0])
    assert out.shape == tuple(theirs.compute_output_shape(shape))
    assert out.dtype == "float32"


@pytest.mark.parametrize("name,arguments,shape", CHANNELS_FIRST, ids=lambda v: str(v).replace(" ", ""))
def test_channels_first_is_channels_last_transposed(name, arguments, shape, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    rank = len(shape)
    first = getattr(layers, name)(data_format="channels_first", **arguments)
    last = getattr(keras.layers, name)(data_format="channels_last", **arguments)
    moved = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    first(moved), last(x)
    values = randomise(last.weights, rng)
    first.set_weights(values), last.set_weights(values)
    want = np.asarray(last(x))
    assert_close(first(moved), np.moveaxis(want, -1, 1) if want.ndim == rank else want, 1e-5)


def test_embedding(rng):
    ours, theirs = layers.Embedding(11, 5), keras.layers.Embedding(11, 5)
    for ids in (rng.integers(0, 11, (3, 7)), rng.integers(0, 11, (4,)).astype(np.int32), rng.integers(0, 11, (2, 3)).astype(np.float32)):
        ours(ids), theirs(ids)
        table = rng.standard_normal((11, 5))
        ours.set_weights([table]), theirs.set_weights([table])
        assert_close(ours(ids), theirs(ids), 0)
    with pytest.raises(IndexError, match="outside"):
        ours(np.array([[3, 11]]))


def test_mask_from_embedding_reaches_the_pooling(rng):
    def make(k):
        return k.Sequential([k.layers.Input((6,), dtype="int32"), k.layers.Embedding(9, 4, mask_zero=True), k.layers.Dense(3),
                             k.layers.GlobalAveragePooling1D()])

    ours, theirs = make(kg), make(keras)
    values = [rng.standard_normal(v.shape) for v in theirs.weights]
    ours.set_weights(values), theirs.set_weights(values)
    ids = rng.integers(0, 9, (5, 6)).astype(np.int32)
    ids[:, 4:] = 0
    assert_close(ours(ids), theirs(ids), 1e-5)


def test_frozen_batch_normalization_uses_the_moving_statistics(rng):
    x = rng.standard_normal((6, 5)).astype(np.float32) + 3
    ours, theirs, _ = pair("BatchNormalization", {}, [x], rng)
    ours.trainable = theirs.trainable = False
    before = ours.get_weights()
    assert_close(ours(x, training=True), theirs(x, training=True), 1e-5)
    assert all((a == b).all() for a, b in zip(before, ours.get_weights()))
    ours.trainable = theirs.trainable = True
    assert_close(ours(x, training=True), theirs(x, training=True), 1e-5)
    assert not (before[2] == ours.get_weights()[2]).all()


def test_batch_normalization_of_bfloat16_policy_keeps_float32_statistics(rng):
    x = rng.standard_normal((9, 5)).astype(np.float32)
    ours, theirs, _ = pair("BatchNormalization", dict(dtype="mixed_bfloat16"), [x], rng)
    a, b = ours(x, training=True), theirs(x, training=True)
    assert str(a.dtype) == "bfloat16" == str(b.dtype)
    assert_close(np.asarray(a, np.float32), np.asarray(b, np.float32), 2e-2)
    assert ours.moving_mean.array.dtype == np.float32
    assert_close(ours.get_weights()[2], theirs.get_weights()[2], 1e-2)


@pytest.mark.parametrize("rate", [0.1, 0.37, 0.8])
def test_dropout_statistics_and_state(rate):
    layer = layers.Dropout(rate, seed=5)
    x = np.full((200, 301), 2.0, np.float32)
    a, b = np.asarray(layer(x, training=True)), np.asarray(layer(x, training=True))
    kept = a != 0
    assert abs(kept.mean() - (1 - rate)) < 0.01
    np.testing.assert_allclose(a[kept], 2 / (1 - rate), rtol=1e-6)
    assert (a != b).any(), "the seed generator didn't move"
    assert abs((kept & (b != 0)).mean() - (1 - rate) ** 2) < 0.01, "two draws depend on each other"
    again = layers.Dropout(rate, seed=5)
    assert (np.asarray(again(x, training=True)) == a).all()
    assert (np.asarray(layer(x)) == x).all()
    assert layer.weights == [] and [v.name for v in layer.variables] == ["seed_generator_state"]
    assert layer.variables[0].numpy().tolist() == [5, 2]


def test_noise_shape_and_spatial_dropout_drop_whole_channels():
    x = np.ones((4, 50, 60), np.float32)
    for layer in (layers.SpatialDropout1D(0.5, seed=1), layers.Dropout(0.5, noise_shape=(None, 1, None), seed=1)):
        y = np.asarray(layer(x, training=True))
        assert (y == y[:, :1]).all() and 0.2 < (y[:, 0] == 0).mean() < 0.8


def test_gaussian_noise_has_its_moments():
    x = np.zeros((300, 300), np.float32)
    y = np.asarray(layers.GaussianNoise(0.3, seed=2)(x, training=True))
    assert abs(y.mean()) < 0.01 and abs(y.std() - 0.3) < 0.01
    z = np.asarray(layers.GaussianDropout(0.2, seed=2)(x + 1, training=True))
    assert abs(z.mean() - 1) < 0.01 and abs(z.std() - 0.5) < 0.01


def test_a_batch_of_another_size_uses_the_same_executable(rng):
    layer = layers.Dense(4)
    for n in (1, 3, 8, 2):
        x = rng.standard_normal((n, 5)).astype(np.float32)
        assert_close(layer(x), x @ layer.get_weights()[0] + layer.get_weights()[1], 1e-5)
    assert len(layer._executables) == 1


def test_changing_an_attribute_of_a_called_layer_takes_effect(rng):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    layer = layers.LeakyReLU(0.5)
    first = np.asarray(layer(x))
    layer.negative_slope = 0.1
    assert_close(layer(x), np.where(x > 0, x, 0.1 * x), 1e-6)
    assert (first != np.asarray(layer(x))).any()


def test_lambda_and_activity_regularizer(rng):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    assert_close(layers.Lambda(lambda t: kg.ops.exp(t) + 1)(x), np.exp(x) + 1, 1e-5)
    ours = layers.Dense(5, activity_regularizer="l2", kernel_regularizer="l1")
    theirs = keras.layers.Dense(5, activity_regularizer="l2", kernel_regularizer="l1")
    ours(x), theirs(x)
    ours.set_weights(theirs.get_weights())
    ours(x), theirs(x)
    assert_close([float(v) for v in ours.losses], [float(v) for v in theirs.losses], 1e-5)


def test_user_layer_tracks_lists_and_dicts(rng):
    def make(k):
        class Block(k.layers.Layer):
            def __init__(self, **kwargs):
                super().__init__(**kwargs)
                self.stack = [k.layers.Dense(5, name="s0"), k.layers.Dense(6, name="s1")]
                self.table = {"b": k.layers.Dense(3, name="tb"), "a": k.layers.Dense(2, name="ta")}

            def build(self, input_shape):
                self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")
                self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")
                self.shift = self.add_weight(shape=(3,), initializer="zeros", name="shift")

            def call(self, x, training=False):
                if training:
                    self.steps.assign_add(1.0)
                x = x * self.scale
                for layer in self.stack:
                    x = layer(x)
                return k.ops.concatenate([self.table["b"](x) + self.shift, self.table["a"](x)], axis=-1)

        return Block(name="block")

    ours, theirs = make(kg), make(keras)
    x = rng.standard_normal((4, 7)).astype(np.float32)
    ours(x), theirs(x)
    assert [v.path for v in ours.weights] == [v.path for v in theirs.weights]
    assert [v.path for v in ours.trainable_weights] == [v.path for v in theirs.trainable_weights]
    values = [rng.standard_normal(v.shape) for v in theirs.weights]
    ours.set_weights(values), theirs.set_weights(values)
    assert_close(ours(x, training=True), theirs(x, training=True), 1e-5)
    assert float(ours.steps) == float(theirs.steps)
    ours.trainable = theirs.trainable = False
    assert ours.trainable_weights == [] and len(ours.non_trainable_weights) == len(theirs.non_trainable_weights)
    ours.trainable = True
    assert len(ours.trainable_weights) == 10


def test_automatic_names():
    kg.utils.clear_session()
    keras.utils.clear_session()
    for k in (kg, keras):
        made = [k.layers.Dense(1), k.layers.Dense(1), k.layers.Conv2D(1, 1), k.layers.PReLU(), k.layers.GlobalAveragePooling2D(), k.layers.ELU(),
                k.layers.Dense(1), k.layers.MaxPooling1D(), k.layers.Concatenate()]
        assert [x.name for x in made] == ["dense", "dense_1", "conv2d", "p_re_lu", "global_average_pooling2d", "elu", "dense_2", "max_pooling1d",
                                          "concatenate"]


BAD = [
    (lambda: layers.Dense(0), ArgumentError, "units must be a positive integer, got 0"),
    (lambda: layers.Dense(4, activation="rellu"), UnknownNameError, "did you mean 'relu'"),
    (lambda: layers.Dense(4, unit=3), ArgumentError, "unknown arguments unit"),
    (lambda: layers.Dense(4, name="a/b"), ArgumentError, "without '/'"),
    (lambda: layers.Dense(4, dtype="float31"), TypeError, "unknown dtype policy 'float31'"),
    (lambda: layers.Conv2D(6, 3, groups=4), ArgumentError, "filters=6 is no multiple of groups=4"),
    (lambda: layers.Conv2D(6, 3, padding="full"), ArgumentError, "padding is one of valid, same, not 'full'"),
    (lambda: layers.Conv2D(6, 3, strides=2, dilation_rate=2), ArgumentError, "can't both exceed 1"),
    (lambda: layers.Conv2D(6, (3, 3, 3)), ArgumentError, "needs 2 values"),
    (lambda: layers.Dropout(1.5), ArgumentError, r"rate must be a number in \[0, 1\], got 1.5"),
    (lambda: layers.Permute((1, 3)), ArgumentError, "permutation"),
    (lambda: layers.Dense(4, name="head")(np.zeros((3,), np.float32)), ShapeError, "Dense 'head'.*ndim=2.*rank 1"),
    (lambda: layers.Conv2D(4, 3, name="c")(np.zeros((2, 8, 3), np.float32)), ShapeError, r"Conv2D 'c'.*got shape \(None, 8, 3\) of rank 3"),
    (lambda: layers.Conv2D(4, 9, name="c")(np.zeros((2, 8, 8, 3), np.float32)), ShapeError, "Conv2D.*window of 9 doesn't fit spatial axis 0 of size 8"),
    (lambda: layers.Conv2D(4, 3, groups=2, name="c")(np.zeros((2, 8, 8, 3), np.float32)), ArgumentError, "3 channels are no multiple of groups=2"),
    (lambda: layers.Dense(4, name="d")(layers.Input((None,))), ArgumentError, "Dense 'd'.*must have a known size"),
    (lambda: layers.Add(name="a")([np.zeros((2, 3)), np.zeros((2, 4))]), ShapeError, r"Add 'a'.*\(None, 3\) and \(None, 4\) can't be joined"),
    (lambda: layers.Add(name="a")(np.zeros((2, 3))), ArgumentError, "Add 'a' is called on a list of inputs"),
    (lambda: layers.Concatenate(name="c")([np.zeros((2, 3, 1)), np.zeros((2, 4, 1))]), ShapeError, "Concatenate 'c'.*must agree on every axis but -1"),
    (lambda: layers.Reshape((5, 2), name="r")(np.zeros((2, 3, 4))), ShapeError, "Reshape 'r'.*12 elements.*has 10"),
    (lambda: layers.Embedding(5, 2)(np.array([[5]])), IndexError, r"outside \[0, 5\)"),
    (lambda: layers.Dense(3)("text"), KerogenError, "str"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_mistakes_are_named(number):
    call, error, text = BAD[number]
    with pytest.raises(error, match=text) as caught:
        call()
    assert isinstance(caught.value, KerogenError)


def test_a_built_layer_names_the_size_it_expects(rng):
    layer = layers.Dense(4, name="head")
    layer(np.zeros((2, 512), np.float32))
    with pytest.raises(ShapeError, match=r"Dense 'head'.*expected size 512 on axis -1.*got shape \(None, 256\)"):
        layer(np.zeros((2, 256), np.float32))
    with pytest.raises(ShapeError, match="has 2 weights.*got 1"):
        layer.set_weights([np.zeros((512, 4))])
    with pytest.raises(ShapeError, match=r"'head/kernel' has shape \(512, 4\), set_weights got \(4, 512\)"):
        layer.set_weights([np.zeros((4, 512)), np.zeros(4)])
