"""Values that come out of layers, models and ops: what Python and NumPy can do with them, compilation once per signature, variables, random numbers."""

import numpy as np
import pytest

import kerogen as kg
from kerogen import layers, ops
from kerogen.frontends.keras.ops import define
from kerogen.frontends.keras.trace import ArgSpec, TraceScope, compile_function
from kerogen.runtime.errors import ArgumentError, ShapeError, StateError
from tests.compare import assert_close


@pytest.fixture
def pair(rng):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    return ops.convert_to_tensor(x), x


def test_arithmetic_and_comparison(pair, rng):
    t, x = pair
    y = rng.standard_normal((3, 4)).astype(np.float32)
    for got, want in [(t + 1, x + 1), (1 - t, 1 - x), (t * y, x * y), (y * t, y * x), (y - t, y - x), (t / 2, x / 2), (2 / t, 2 / x), (t**2, x**2),
                      (-t, -x), (abs(t), abs(x)), (t @ y.T, x @ y.T), (y.T @ t, y.T @ x), (t // 0.5, x // 0.5), (t % 0.7, x % np.float32(0.7)),
                      (t > y, x > y), (t <= 0, x <= 0), (t == x, x == x), (t != y, x != y), (round(t, 1), np.round(x, 1)), (t.T, x.T),
                      (t.reshape(4, 3), x.reshape(4, 3)), (t.astype("float64"), x.astype(np.float64)), ((t > 0) & (t < 1), (x > 0) & (x < 1))]:
        assert type(got).__name__ == "EagerTensor"
        assert_close(got, want)


def test_conversions(pair):
    t, x = pair
    assert np.shares_memory(np.asarray(t), t.numpy()) and (np.asarray(t) == x).all()
    assert np.asarray(t, dtype=np.float64).dtype == np.float64
    assert t.shape == (3, 4) and t.ndim == 2 and t.size == 12 and t.dtype == np.float32 and len(t) == 3
    assert [r.shape for r in t] == [(4,)] * 3 and (t[1] == x[1]).numpy().all()
    total = ops.sum(t)
    assert float(total) == pytest.approx(float(x.sum()), rel=1e-6) and int(ops.cast(5.7, "int32")) == 5
    assert bool(ops.any(t > -100)) and not bool(ops.all(t > 100))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(t)
    with pytest.raises(TypeError):
        float(t)
    assert f"{total:.2f}" == f"{x.sum():.2f}" and list(range(5))[ops.argmax(ops.convert_to_tensor([1.0, 7.0, 2.0]))] == 1
    assert np.concatenate([t, x]).shape == (6, 4) and isinstance(np.exp(t), np.ndarray)
    assert t.tolist() == x.tolist() and "shape=(3, 4)" in repr(t)


def test_dlpack(pair):
    t, x = pair
    again = np.from_dlpack(t)
    assert (again == x).all() and np.shares_memory(again, t.numpy())
    assert t.__dlpack_device__() == (1, 0)
    jax = pytest.importorskip("jax")
    assert (np.asarray(jax.dlpack.from_dlpack(layers.Activation("relu")(x))) == np.maximum(x, 0)).all()


def test_one_graph_per_signature(rng):
    define._CACHE.clear()
    x = rng.standard_normal((3, 4)).astype(np.float32)
    for i in range(5):
        assert_close(ops.multiply(x, i + 0.5), x * np.float32(i + 0.5))
    assert len(define._CACHE) == 1, "a number was compiled into the graph"
    ops.multiply(x.astype(np.float64), 2.0)
    ops.sum(x, axis=0), ops.sum(x, axis=1)
    assert len(define._CACHE) == 4


def test_weak_types():
    i, f, h = np.arange(3, dtype=np.int32), np.ones(3, np.float32), np.ones(3, np.float16)
    assert [str((i + 1).dtype), str(ops.add(i, 1.5).dtype), str(ops.add(h, 1.5).dtype), str(ops.add(i, h).dtype), str(ops.divide(i, 2).dtype)] == [
        "int32", "float32", "float16", "float16", "float32"]
    assert str(ops.add(f, np.ones(3)).dtype) == "float64" and str(ops.mean(i).dtype) == "float32" and str(ops.add(f, i).dtype) == "float32"


def test_layers_take_lists_numbers_and_other_types(rng):
    layer = layers.Dense(2)
    want = np.array([[1.0, 2.0, 3.0]], np.float32) @ (layer(np.array([[1.0, 2.0, 3.0]])) is not None and layer.get_weights()[0])
    for given in ([[1.0, 2.0, 3.0]], np.array([[1, 2, 3]], np.float64), np.array([[1, 2, 3]], np.int64), ops.convert_to_tensor([[1.0, 2.0, 3.0]])):
        assert_close(layer(given), want)


def test_variables(rng):
    v = kg.Variable(rng.standard_normal((2, 3)), dtype="float32", name="v")
    before = v.value
    v.assign(np.ones((2, 3)))
    assert v.version == 1 and (np.asarray(before) != 1).any(), "an earlier value changed with the variable"
    v.assign_add(np.full((2, 3), 2.0))
    v.assign_sub(0.5 * v.value)
    assert_close(v.numpy(), np.full((2, 3), 1.5, np.float32))
    assert_close(v * 2 + 1, np.full((2, 3), 4, np.float32))
    assert v.shape == (2, 3) and v.dtype == "float32" and v.trainable and v.path == "v" and v.array.flags.c_contiguous
    with pytest.raises(ShapeError, match=r"'v' has shape \(2, 3\); a value of shape \(3,\)"):
        v.assign(np.ones(3))
    with pytest.raises(ArgumentError, match="needs the argument shape"):
        kg.Variable("zeros")
    assert kg.Variable(3.0).dtype == "float32" and kg.Variable([1, 2]).dtype == "int32"
    assert kg.Variable("ones", shape=(2,), dtype="bfloat16").array.dtype.itemsize == 2


def test_compiled_functions_update_their_variables(rng):
    w = kg.Variable(np.arange(3.0), dtype="float32", name="w")
    n = kg.Variable(np.zeros((), np.int32), trainable=False, name="n")
    scale = kg.Variable(2.0, name="scale")

    def step(x):
        old = w.value
        w.assign(w - scale * ops.mean(x, axis=0))
        n.assign_add(1)
        return {"moved": w - old, "count": n * 10}

    exe = compile_function(step, (ArgSpec(("batch", 3), "float32", "x"),), name="step")
    want = w.numpy()
    for i in range(1, 4):
        x = rng.standard_normal((i, 3)).astype(np.float32)
        out = exe(x)
        want = want - 2 * x.mean(0)
        assert_close(w.numpy(), want)
        assert_close(out["moved"], -2 * x.mean(0))
        assert int(out["count"]) == 10 * i == 10 * int(n.array) and w.version == i and scale.version == 0


def test_trace_scope_by_hand():
    v = kg.Variable(np.ones(3, np.float32), name="v")
    with TraceScope(state=[v]) as scope:
        first = scope.value(v)
        v.assign(v * 3)
        assert scope.value(v) is not first and scope.initial(v) is first
    assert [(x, n.op.role) for x, n in scope.inputs] == [(v, "state")] and list(scope.updates) == [v]
    assert (v.array == 1).all() and v.version == 0, "tracing changed the variable itself"
    with TraceScope(), pytest.raises(ArgumentError, match="while a function is traced"):
        np.asarray(v)


def test_add_loss_outside_call_is_refused():
    with pytest.raises(StateError, match="add_loss.. works inside call"):
        layers.Dense(2).add_loss(np.float32(1))


def test_random_numbers(rng):
    u = np.asarray(kg.random.uniform((300, 301), minval=-2, maxval=3, seed=1))
    assert u.min() >= -2 and u.max() < 3 and abs(u.mean() - 0.5) < 0.02 and abs(u.std() - 5 / 12**0.5) < 0.02
    z = np.asarray(kg.random.normal((300, 301), mean=1.5, stddev=0.5, seed=2))
    assert abs(z.mean() - 1.5) < 0.01 and abs(z.std() - 0.5) < 0.01 and abs(((z - 1.5) ** 3).mean()) < 0.01
    t = np.asarray(kg.random.truncated_normal((200, 201), seed=3))
    assert np.abs(t).max() <= 2 and abs(t.std() - 0.8796) < 0.02
    i = np.asarray(kg.random.randint((5000,), 3, 9, seed=4))
    assert i.dtype == np.int32 and (np.bincount(i)[3:] > 700).all() and i.min() == 3 and i.max() == 8
    c = np.asarray(kg.random.categorical(np.log(np.float32([[0.1, 0.6, 0.3], [0.8, 0.1, 0.1]])), 4000, seed=5))
    assert_close(np.bincount(c[0], minlength=3) / 4000, np.array([0.1, 0.6, 0.3]), 0.03)
    p = np.asarray(kg.random.shuffle(np.arange(50), seed=6))
    assert sorted(p) == list(range(50)) and (p != np.arange(50)).any()
    d = np.asarray(kg.random.dropout(np.ones((100, 100), np.float32), 0.3, seed=7))
    assert abs((d == 0).mean() - 0.3) < 0.03


def test_seeds():
    generator = kg.random.SeedGenerator(9)
    a, b = np.asarray(kg.random.normal((20,), seed=generator)), np.asarray(kg.random.normal((20,), seed=generator))
    assert (a != b).all()
    assert (np.asarray(kg.random.normal((20,), seed=9)) == np.asarray(kg.random.normal((20,), seed=9))).all()
    draws = []
    for _ in range(2):
        kg.utils.set_random_seed(3)
        draws.append([np.asarray(kg.random.uniform((5,))), np.asarray(kg.random.uniform((5,))), layers.Dense(3)(np.ones((1, 4))).numpy()])
    for first, second in zip(*draws):
        assert (first == second).all()
    assert (draws[0][0] != draws[0][1]).all()


def test_utils():
    assert kg.utils.to_categorical([0, 2, 1]).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert kg.utils.to_categorical(np.array([[1], [0]]), 3).shape == (2, 3)
    keras = pytest.importorskip("keras")
    rows = [[1, 2, 3], [4], [], [5, 6, 7, 8, 9]]
    for kwargs in ({}, {"maxlen": 3}, {"padding": "post", "value": -1}, {"maxlen": 2, "truncating": "post", "dtype": "float32"}):
        assert_close(kg.utils.pad_sequences(rows, **kwargs), keras.utils.pad_sequences(rows, **kwargs), 0)
    x = np.random.default_rng(0).standard_normal((4, 5))
    assert_close(kg.utils.normalize(x, axis=1, order=1), keras.utils.normalize(x, axis=1, order=1), 1e-12)
    assert_close(kg.utils.normalize(x, axis=0), x / np.linalg.norm(x, axis=0), 1e-12)
    with pytest.raises(ArgumentError, match="class 5 doesn't fit num_classes=3"):
        kg.utils.to_categorical([5], 3)


def test_config():
    assert kg.config.floatx() == "float32" and kg.config.epsilon() == 1e-7 and kg.config.image_data_format() == "channels_last"
    try:
        kg.config.set_floatx("float64")
        assert layers.Dense(2)(np.ones((1, 3))).dtype == np.float64
    finally:
        kg.config.set_floatx("float32")
    with pytest.raises(ArgumentError, match="unknown floatx"):
        kg.config.set_floatx("float8")
