"""Sequential and functional models against real Keras: structures, sharing, nesting, configs both ways, summaries, names; and the errors."""

import json

import numpy as np
import pytest

import kerogen as kg
from kerogen import layers, ops
from kerogen.frontends.keras.compile import model_trace
from kerogen.frontends.keras.functional import Functional
from kerogen.runtime.errors import ArgumentError, KerogenError, ShapeError, StateError, UnknownNameError
from tests.compare import assert_close
from tests.oracle import oracle

keras = oracle("keras")


def same_start(ours, theirs, rng):
    assert [(v.path, v.shape) for v in ours.weights] == [(v.path, tuple(v.shape)) for v in theirs.weights]
    values = [np.abs(rng.standard_normal(v.shape)) + 0.3 if "variance" in v.name else 0.5 * rng.standard_normal(v.shape) for v in theirs.weights]
    ours.set_weights(values)
    theirs.set_weights(values)


def both(make, rng):
    for k in (kg, keras):
        k.utils.clear_session()
    ours, theirs = make(kg), make(keras)
    same_start(ours, theirs, rng)
    return ours, theirs


def cnn(k):
    L = k.layers
    return k.Sequential([k.Input((13, 11, 3)), L.Conv2D(6, 3, padding="same"), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D(), L.Dropout(0.3),
                         L.Conv2D(5, 3, strides=2), L.GlobalAveragePooling2D(), L.LayerNormalization(), L.Dense(4, activation="softmax")])


def deferred(k):
    model = k.Sequential([k.layers.Dense(5, activation="tanh"), k.layers.Dense(3)])
    model.build((None, 7))
    return model


def residual(k):
    L = k.layers
    x = inputs = k.Input((9, 8, 4), name="image")
    for i in range(2):
        y = L.Conv2D(4, 3, padding="same", use_bias=False)(x)
        y = L.BatchNormalization()(y)
        x = L.Activation("relu")(L.Add()([x, y]) if i else x + y)
    a, b = L.GlobalMaxPooling2D()(x), L.GlobalAveragePooling2D()(x)
    return k.Model(inputs, L.Dense(3)(L.Concatenate()([a, b])), name="residual")


def siamese(k):
    """Two inputs, one shared encoder, arithmetic and ops between."""
    L, o = k.layers, k.ops
    left, right = k.Input((6,), name="left"), k.Input((6,), name="right")
    encoder = L.Dense(5, activation="gelu", name="encoder")
    a, b = encoder(left), encoder(right)
    distance = o.sqrt(o.sum(o.square(a - b), axis=-1, keepdims=True) + 1e-3)
    score = L.Dense(1, activation="sigmoid")(o.concatenate([o.abs(a - b), a * b, distance * 2.0, 1.0 - distance], axis=-1))
    return k.Model([left, right], [score, distance])


def nested(k):
    L = k.layers
    trunk = k.Sequential([k.Input((5,)), L.Dense(6, activation="relu"), L.BatchNormalization()], name="trunk")
    i = k.Input((4,))
    head = k.Model(i, L.Dense(3)(L.Dense(7, activation="tanh")(i)), name="head")
    x, y = k.Input((5,), name="x"), k.Input((5,), name="y")
    z = L.Dense(4)(L.Concatenate()([trunk(x), trunk(y)]))
    return k.Model({"x": x, "y": y}, {"out": head(z), "again": head(z * 0.5)}, name="outer")


def slicing(k):
    x = k.Input((7, 6))
    y = k.ops.transpose(x[:, 1:6:2, ::-1], (0, 2, 1))
    return k.Model(x, [k.layers.Dense(3)(y), x[:, -1], k.ops.reshape(x, (-1, 42)), k.ops.mean(x, axis=(1, 2)), k.ops.max(x[..., :2], axis=1)])


def free_time(k):
    x = k.Input((None, 5))
    y = k.layers.Conv1D(4, 3, padding="same", activation="relu")(x)
    y = k.layers.Concatenate()([x, y])
    return k.Model(x, [k.layers.GlobalAveragePooling1D()(y), k.layers.Dense(2)(y + k.ops.mean(y, axis=1, keepdims=True))])


def called_elsewhere(k):
    """Layers that also belong to other graphs: the numbers of their calls here differ from those there."""
    dense, elsewhere = k.layers.Dense(4, name="shared"), k.Input((4,))
    dense(dense(elsewhere))
    x = k.Input((4,), name="here")
    y = dense(x)
    dense(elsewhere)
    return k.Model(x, k.layers.Add()([dense(y), y]))


MODELS = [
    (called_elsewhere, lambda n, r: r.standard_normal((n, 4))),
    (cnn, lambda n, r: r.standard_normal((n, 13, 11, 3))),
    (deferred, lambda n, r: r.standard_normal((n, 7))),
    (residual, lambda n, r: r.standard_normal((n, 9, 8, 4))),
    (siamese, lambda n, r: [r.standard_normal((n, 6)), r.standard_normal((n, 6))]),
    (nested, lambda n, r: {"x": r.standard_normal((n, 5)), "y": r.standard_normal((n, 5))}),
    (slicing, lambda n, r: r.standard_normal((n, 7, 6))),
    (free_time, lambda n, r: r.standard_normal((n, 3 + n, 5))),
]
IDS = [m[0].__name__ for m in MODELS]


def floats(x):
    if isinstance(x, dict):
        return {k: floats(v) for k, v in x.items()}
    return [floats(v) for v in x] if isinstance(x, list) else x.astype(np.float32)


def check(a, b, tolerance=1e-5):
    if isinstance(b, dict):
        assert isinstance(a, dict) and set(a) == set(b)
        for k in b:
            check(a[k], b[k], tolerance)
    elif isinstance(b, (list, tuple)):
        assert isinstance(a, (list, tuple)) and len(a) == len(b)
        for u, v in zip(a, b):
            check(u, v, tolerance)
    else:
        assert_close(a, b, tolerance)


@pytest.mark.parametrize("make,data", MODELS, ids=IDS)
def test_call_and_predict(make, data, rng):
    ours, theirs = both(make, rng)
    for n in (1, 7):
        x = floats(data(n, rng))
        check(ours(x), theirs(x))
        check(ours.predict(x, verbose=0), theirs.predict(x, verbose=0))
    assert len(ours._executables) == 1, "a new batch size made a new executable"


@pytest.mark.parametrize("make,data", MODELS, ids=IDS)
def test_structure(make, data, rng):
    ours, theirs = both(make, rng)
    assert [(type(x).__name__, x.name) for x in ours.layers] == [(type(x).__name__, x.name) for x in theirs.layers]
    assert ours.count_params() == theirs.count_params()
    assert ours.input_shape == theirs.input_shape and ours.output_shape == theirs.output_shape
    assert [x.shape for x in ours.inputs] == [x.shape for x in theirs.inputs]
    assert [(x.shape, x.dtype) for x in ours.outputs] == [(x.shape, x.dtype) for x in theirs.outputs]
    assert ours.name == theirs.name
    assert [v.path for v in ours.trainable_weights] == [v.path for v in theirs.trainable_weights]
    assert [v.path for v in ours.non_trainable_weights] == [v.path for v in theirs.non_trainable_weights]


def plain(config):
    """As JSON; a nested model that isn't compiled has an empty compile_config, or none."""
    return json.loads(json.dumps(config, default=str), object_hook=lambda d: {k: v for k, v in d.items() if (k, v) != ("compile_config", {})})


@pytest.mark.parametrize("make,data", MODELS, ids=IDS)
def test_configs_are_keras_configs(make, data, rng):
    ours, theirs = both(make, rng)
    mine, real = plain(ours.get_config()), plain(theirs.get_config())
    assert mine["layers"] == real["layers"]
    assert mine == real


@pytest.mark.parametrize("make,data", MODELS, ids=IDS)
def test_configs_make_the_model_again_on_both_sides(make, data, rng):
    ours, theirs = both(make, rng)
    x = floats(data(3, rng))
    want = theirs(x)
    again = type(ours).from_config(ours.get_config())
    from_keras = kg.models.model_from_json(theirs.to_json())
    from_ours = keras.models.model_from_json(ours.to_json())
    for model in (again, from_keras, kg.models.clone_model(ours)):
        assert [v.shape for v in model.weights] == [v.shape for v in ours.weights]
        model.set_weights(ours.get_weights())
        check(model(x), want)
    from_ours.set_weights(theirs.get_weights())
    check(ours(x), from_ours(x))


def test_inputs_by_name_and_structure(rng):
    ours, theirs = both(siamese, rng)
    a, b = rng.standard_normal((2, 3, 6)).astype(np.float32)
    want = theirs([a, b])
    for given in ([a, b], (a, b), {"left": a, "right": b}, {"right": b, "left": a}):
        check(ours(given), want)
        check(ours.predict(given, verbose=0), theirs.predict([a, b], verbose=0))
    outer, _ = both(nested, rng)
    check(outer({"y": b[:, :5], "x": a[:, :5]}), outer({"x": a[:, :5], "y": b[:, :5]}))


def test_batch_statistics_flow_through_nested_models(rng):
    ours, theirs = both(nested, rng)
    x = {"x": rng.standard_normal((6, 5)).astype(np.float32) + 1, "y": rng.standard_normal((6, 5)).astype(np.float32)}
    check(ours(x, training=True), theirs(x, training=True))
    for v, a, b in zip(theirs.weights, ours.get_weights(), theirs.get_weights()):
        assert_close(a, b, 1e-5, what=v.path)
    ours.get_layer("trunk").trainable = theirs.get_layer("trunk").trainable = False
    assert [v.path for v in ours.trainable_weights] == [v.path for v in theirs.trainable_weights]
    check(ours(x, training=True), theirs(x, training=True))


def test_models_from_intermediate_tensors(rng):
    ours, theirs = both(cnn, rng)
    x = rng.standard_normal((2, 13, 11, 3)).astype(np.float32)
    for k, model in ((kg, ours), (keras, theirs)):
        model.cut = k.Model(model.inputs, [model.layers[3].output, model.layers[6].output])
        model.tail = k.Model(model.layers[3].output, model.outputs[0])
    check(ours.cut(x), theirs.cut(x))
    features = np.asarray(theirs.cut(x)[0])
    check(ours.tail(features), theirs.tail(features))
    check(ours.tail(features), theirs(x))


def test_sequential_grows_and_shrinks(rng):
    model = kg.Sequential(name="s")
    assert model.weights == [] and not model.built
    model.add(kg.Input((4,)))
    model.add(layers.Dense(3, name="a"))
    model.add(layers.Dense(2, name="b"))
    x = rng.standard_normal((5, 4)).astype(np.float32)
    assert model(x).shape == (5, 2) and model.output_shape == (None, 2)
    top = model.pop()
    assert top.name == "b" and model(x).shape == (5, 3) and len(model.weights) == 2
    model.add(layers.Softmax())
    assert_close(np.asarray(model(x)).sum(-1), np.ones(5, np.float32))
    with pytest.raises(ArgumentError, match="'a' already"):
        model.add(layers.Dense(3, name="a"))
    with pytest.raises(ArgumentError, match=r"takes inputs of shape \(None, 4\) already"):
        model.add(kg.Input((5,)))


def test_subclassed_model_builds_when_called(rng):
    def make(k):
        class Net(k.Model):
            def __init__(self, units):
                super().__init__(name="net")
                self.first = k.layers.Dense(units, activation="relu")
                self.drop = k.layers.Dropout(0.5)
                self.rest = [k.layers.Dense(4), k.layers.Dense(2)]

            def call(self, x, training=False):
                x = self.drop(self.first(x), training=training)
                for layer in self.rest:
                    x = layer(x)
                return {"logits": x, "sum": k.ops.sum(x, axis=-1)}

        return Net(6)

    x = rng.standard_normal((5, 3)).astype(np.float32)
    ours, theirs = make(kg), make(keras)
    assert ours.weights == []
    ours(x), theirs(x)
    same_start(ours, theirs, rng)
    check(ours(x), theirs(x))
    check(ours.predict(x, verbose=0), theirs.predict(x, verbose=0))
    assert [v.path for v in ours.variables] == [v.path for v in theirs.variables]


def test_functional_subclass_keeps_its_methods(rng):
    class Twice(kg.Model):
        def __init__(self, units):
            x = kg.Input((3,))
            super().__init__(x, layers.Dense(units)(x))
            self.extra = 7

        def doubled(self, x):
            return np.asarray(self(x)) * 2

    model = Twice(4)
    x = rng.standard_normal((2, 3)).astype(np.float32)
    assert isinstance(model, Twice) and isinstance(model, Functional) and model.extra == 7
    assert_close(model.doubled(x), 2 * (x @ model.get_weights()[0]))


def test_deep_model_needs_no_recursion(rng):
    x = inputs = kg.Input((3,))
    for _ in range(1500):
        x = x + 0.001
    model = kg.Model(inputs, x)
    value = rng.standard_normal((2, 3)).astype(np.float32)
    assert_close(model(value), value + 1.5, 1e-4)


def test_mixed_bfloat16(rng):
    def make(k):
        return k.Sequential([k.Input((17,)), k.layers.Dense(9, activation="relu", dtype="mixed_bfloat16"),
                             k.layers.Dense(3, dtype="mixed_bfloat16"), k.layers.Activation("softmax", dtype="float32")])

    ours, theirs = both(make, rng)
    x = rng.standard_normal((4, 17)).astype(np.float32)
    a, b = ours(x), theirs(x)
    assert str(a.dtype) == "float32" and all(v.array.dtype == np.float32 for v in ours.weights)
    assert_close(a, b, 2e-2)
    exact = kg.Sequential([kg.Input((17,)), layers.Dense(9, activation="relu"), layers.Dense(3, activation="softmax")])
    exact.set_weights(ours.get_weights())
    assert np.abs(np.asarray(exact(x)) - np.asarray(a)).max() > 1e-5, "nothing was computed in bfloat16"


@pytest.mark.parametrize("make,data", MODELS, ids=IDS)
def test_summary_has_keras_rows_and_totals(make, data, rng, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    ours, theirs = both(make, rng)
    mine, real = [], []
    ours.summary(print_fn=mine.append, line_length=150)
    theirs.summary(print_fn=real.append, line_length=150)

    def cells(text):
        rows = [[c.strip() for c in line.strip("│┃").replace("┃", "│").split("│")] for line in text.splitlines() if line[:1] in "│┃"]
        totals = [" ".join(line.split()) for line in text.splitlines() if "params:" in line]
        return rows, totals

    (rows, totals), (real_rows, real_totals) = cells(mine[0]), cells(real[0])
    assert totals == real_totals
    assert [[c for c in r] for r in rows] == real_rows


def test_model_trace_for_compile(rng):
    ours, _ = both(nested, rng)
    traced = model_trace(ours)
    from kerogen.compiler.pipeline import executable

    exe = executable(traced.trace, bindings=traced.bindings, unflatten=traced.unflatten, name=traced.name)
    x = {"x": rng.standard_normal((3, 5)).astype(np.float32), "y": rng.standard_normal((3, 5)).astype(np.float32)}
    out = exe(x["x"], x["y"])
    assert list(out) == ["out", "again"] and isinstance(out["out"], np.ndarray)
    check(out, ours(x))
    assert all(not v.trainable or v.path for v in traced.bindings) and len(traced.bindings) == len(ours.weights)


def wide(name="w"):
    return kg.Sequential([kg.Input((4,), name="features"), layers.Dense(2)], name=name)


def disconnected():
    a, b = kg.Input((3,), name="a"), kg.Input((3,), name="b")
    return kg.Model(a, layers.Add(name="sum")([a, b]))


def doubled_name():
    x = kg.Input((3,))
    return kg.Model(x, layers.Dense(3, name="d")(layers.Dense(3, name="d")(x)))


BAD = [
    (lambda: wide()(np.zeros((2, 5), np.float32)), ShapeError, r"'features' must have shape \(None, 4\).*got \(None, 5\).*axis 1: 5 where 4"),
    (lambda: wide()(np.zeros((2, 3, 4), np.float32)), ShapeError, "of rank 2, got .* of rank 3"),
    (lambda: wide()([np.zeros((2, 4)), np.zeros((2, 4))]), ArgumentError, "takes 1 inputs.*got 2"),
    (lambda: wide()({"other": np.zeros((2, 4))}), ArgumentError, r"\['features'\].*\['other'\]"),
    (lambda: wide().get_layer("dens"), UnknownNameError, "no layer 'dens' in model 'w'; its layers are dense"),
    (disconnected, StateError, "disconnected: 'sum' needs .*name=b.*add its Input"),
    (doubled_name, ArgumentError, "'d' is used 2 times"),
    (lambda: kg.Model(np.zeros((2, 3)), np.zeros((2, 3))), ArgumentError, "symbolic tensors"),
    (lambda: kg.Model([kg.Input((3,))], [np.zeros(3)]), ArgumentError, "all `outputs` must be symbolic"),
    (lambda: kg.Sequential([layers.Dense(2), 5]), ArgumentError, "only layers can be added, got 5"),
    (lambda: kg.Sequential([layers.Dense(2)]).summary and kg.Sequential([layers.Dense(2)]).output_shape, AttributeError, "no output shape yet"),
    (lambda: kg.Sequential([kg.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.Dense(2), layers.Conv1D(3, 3, name="late")]), ShapeError, r"Conv1D 'late'.*shape \(None, 6, 6, 2\).*don't fit"),
    (lambda: np.asarray(kg.Input((3,))), ArgumentError, "symbolic"),
    (lambda: float(kg.Input((3,)) * 2), ArgumentError, "symbolic"),
    (lambda: bool(kg.Input((3,)) > 0), ArgumentError, "Python's if"),
    (lambda: ops.reshape(kg.Input((5,)), (-1, 3, 7)).shape and kg.Input((3,)) @ kg.Input((4,)), KerogenError, "3|4"),
    (lambda: kg.Input(), ArgumentError, "give the shape of one sample"),
    (lambda: kg.Input((3, -1)), ShapeError, "negative size"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_mistakes_are_named(number):
    kg.utils.clear_session()
    call, error, text = BAD[number]
    with pytest.raises(error, match=text):
        call()


def test_data_dependent_python_control_flow_is_refused_with_the_way_out(rng):
    class Branch(layers.Layer):
        def call(self, x):
            return x if ops.sum(x) > 0 else -x

    with pytest.raises(ArgumentError, match="Branch 'b'.*Use ops.where"):
        Branch(name="b")(np.ones((2, 3), np.float32))
