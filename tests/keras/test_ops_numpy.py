"""The rest of keras.ops beside Keras on JAX: special functions, reductions that leave nan out, rearrangements, counts and searches;
on arrays, and as the operations of a functional model."""

import numpy as np
import pytest

import kerogen as kg
from kerogen import ops
from kerogen.runtime.errors import ArgumentError, DTypeError, ShapeError, UnsupportedOpError
from tests.oracle import oracle

keras = oracle("keras")
rng = np.random.default_rng(29)


def f32(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def whole(low, high, *shape):
    return rng.integers(low, high, shape).astype(np.int32)


HARD = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.5, -2.5], np.float32)
HOLES = f32(4, 7)
HOLES[1, 2], HOLES[2], HOLES[0, 5] = np.nan, np.nan, np.nan
CASES = [
    *[(n, [f32(3, 5)], {}) for n in "cbrt i0 sinc fabs signbit real imag conjugate isreal angle".split()],
    *[(n, [HARD], {}) for n in "cbrt signbit fabs isposinf isneginf angle isreal imag".split()],
    *[(n, [whole(-4, 5, 3, 4)], {}) for n in "cbrt i0 sinc fabs signbit isposinf isneginf angle conjugate".split()],
    ("erfinv", [np.tanh(f32(3, 5))], {}), ("gcd", [whole(-9, 10, 3, 5), whole(-9, 10, 5)], {}), ("lcm", [whole(-9, 10, 3, 5), whole(-9, 10, 5)], {}),
    ("ldexp", [f32(3, 5), whole(-9, 10, 5)], {}), ("nextafter", [HARD, f32(7)], {}), ("logaddexp2", [f32(3, 5), f32(5)], {}),
    ("heaviside", [HARD, f32(7)], {}), ("fmax", [HARD, f32(7)], {}), ("fmin", [f32(7), HARD], {}),
    ("fmax", [whole(0, 9, 3, 4), whole(0, 9, 4)], {}), ("allclose", [f32(3), f32(3)], {}), ("allclose", [HARD, HARD], {"equal_nan": True}),
    ("saturate_cast", [f32(3, 5) * 300], {"dtype": "uint8"}), ("saturate_cast", [whole(-900, 900, 3, 5)], {"dtype": "int8"}),
    ("saturate_cast", [f32(3, 5) * 1e10], {"dtype": "int32"}), ("saturate_cast", [f32(3, 5) * 1e5], {"dtype": "float16"}),
    *[(n, [k], {}) for n in "bartlett blackman hamming hanning".split() for k in (1, 8)], ("kaiser", [7, 3.5], {}), ("psnr", [f32(3, 5), f32(3, 5)], {"max_val": 2.0}),
    *[(n, [HOLES], {"axis": a}) for n in "nanmax nanmin nansum nanprod nanmean nanvar nanstd nancumsum nancumprod".split() for a in (0, 1, None)],
    *[(n, [HOLES], {"axis": (0, 1), "keepdims": True}) for n in "nanmax nansum nanmean nanvar".split()],
    *[(n, [HOLES], {"axis": 0, "keepdims": True}) for n in "nanargmax nanargmin".split()], ("nanargmax", [HOLES], {"axis": 1}), ("nanargmin", [HOLES], {}),
    *[(n, [whole(-4, 5, 3, 4)], {"axis": 1}) for n in "nanmax nansum nanmean nanvar nancumsum nanargmax".split()],
    ("fliplr", [f32(3, 4, 2)], {}), ("flipud", [f32(3, 4)], {}), *[("rot90", [f32(3, 4, 2)], {"k": k, "axes": (0, 2)}) for k in (1, 2, 3, -1)],
    ("rot90", [f32(3, 4)], {}), ("vsplit", [f32(6, 4), 3], {}), ("hsplit", [f32(6), [2, 3]], {}), ("hsplit", [f32(3, 6), 2], {}),
    ("dsplit", [f32(2, 3, 5), [1, 3]], {}), ("array_split", [f32(3, 8), 3], {"axis": 1}),
    ("dstack", [[f32(3, 4), f32(3, 4)]], {}), ("dstack", [[f32(3), f32(3)]], {}), ("diff", [f32(3, 6)], {"n": 2}), ("diff", [whole(0, 9, 3, 4)], {"axis": 0}),
    ("diff", [f32(3, 6) > 0], {}), ("trapezoid", [f32(3, 6)], {"dx": 0.3}), ("trapezoid", [f32(3, 6)], {"x": f32(6)}), ("trapezoid", [f32(3, 6)], {"x": f32(3), "axis": 0}),
    ("kron", [f32(2, 3), f32(3, 4)], {}), ("kron", [f32(3), f32(2, 4)], {}), ("vander", [f32(4)], {}), ("vander", [f32(4)], {"N": 3, "increasing": True}),
    ("diagflat", [f32(2, 3)], {"k": -1}), ("tri", [3, 5], {"k": 1}), ("tri", [4], {}), ("logspace", [0.5, 2.0], {"num": 5}), ("geomspace", [2.0, 90.0], {"num": 6}),
    ("geomspace", [-np.exp(f32(3)), np.float32(-20)], {"num": 4, "endpoint": False, "axis": 1}), ("logspace", [f32(3), f32(3)], {"num": 4, "base": 3.0, "endpoint": False}),
    ("view", [f32(3, 4)], {"dtype": "int32"}), ("view", [f32(3, 4)], {"dtype": "int16"}), ("view", [whole(0, 99999999, 3, 4).astype(np.uint16)], {"dtype": "uint32"}),
    ("depth_to_space", [f32(2, 3, 4, 8), 2], {}), ("space_to_depth", [f32(2, 6, 4, 3), 2], {}),
    ("depth_to_space", [f32(2, 18, 3, 2), 3], {"data_format": "channels_first"}), ("space_to_depth", [f32(2, 3, 6, 3), 3], {"data_format": "channels_first"}),
    ("searchsorted", [np.sort(f32(13)), f32(3, 5)], {}), ("searchsorted", [np.sort(whole(0, 9, 20)), whole(-1, 11, 7)], {"side": "right"}),
    ("digitize", [f32(3, 5), np.sort(f32(6))], {}), ("digitize", [whole(0, 9, 8), np.array([7, 4, 4, 2], np.int32)], {}),
    ("bincount", [whole(0, 9, 40)], {}), ("bincount", [whole(0, 9, 20)], {"weights": f32(20), "minlength": 15}), ("bincount", [whole(0, 9, 4, 20)], {"minlength": 12}),
    ("histogram", [f32(200)], {}), ("histogram", [f32(200)], {"bins": 7, "range": (-1.0, 0.5)}), ("histogram", [np.full(5, 2.5, np.float32)], {"bins": 3}),
    ("isin", [whole(0, 9, 4, 5), whole(0, 9, 4)], {}), ("isin", [np.round(f32(20), 1), np.round(f32(3, 4), 1)], {"invert": True}),
    *[(f"segment_{n}", [f32(9, 3), whole(-1, 6, 9)], {"num_segments": 5}) for n in ("sum", "max", "min", "prod")],
    ("segment_max", [whole(-5, 5, 9), whole(0, 3, 9)], {"num_segments": 4}), ("unravel_index", [whole(0, 24, 7), (2, 3, 4)], {}),
    ("select", [[f32(3, 5) > 0.4, f32(3, 5) > 0], [f32(3, 5), f32(3, 5)], 0.5], {}), ("nonzero", [whole(0, 2, 4, 5)], {}),
    ("unique", [whole(0, 5, 4, 3)], {"return_index": True, "return_inverse": True, "return_counts": True}), ("unique", [whole(0, 2, 6, 2)], {"axis": 0}),
    ("unique", [whole(2, 6, 12)], {"size": 9, "return_counts": True, "return_index": True}), ("unique", [whole(0, 9, 30)], {"size": 3}),
    ("unique", [whole(2, 6, 12)], {"size": 9, "fill_value": -1}),
    ("cdist", [f32(4, 3), f32(5, 3)], {}), ("cdist", [f32(2, 4, 3), f32(2, 5, 3)], {}), ("corrcoef", [f32(4, 9)], {}),
    *[("correlate", [f32(m), f32(n)], {"mode": o}) for o in ("valid", "same", "full") for m, n in ((9, 4), (4, 9), (5, 5), (3, 8), (8, 3))],
    ("adaptive_average_pool", [f32(2, 7, 5, 3), (3, 2)], {}), ("adaptive_max_pool", [f32(2, 7, 5, 3), (2, 3)], {}),
    ("adaptive_max_pool", [f32(2, 3, 7, 5), (3, 4)], {"data_format": "channels_first"}),
    ("unfold", [f32(2, 3, 7, 6), (3, 2)], {"padding": 1, "stride": (2, 1), "dilation": (1, 2)}), ("unfold", [f32(2, 3, 7, 6), 2], {}),
    ("fold", [f32(2, 12, 20), (5, 6), 2], {}), ("fold", [f32(2, 12, 9), (5, 6), 2], {"stride": 2, "padding": 1, "dilation": 2}),
    ("rearrange", [f32(2, 6, 4), "b (h r) w -> r b (w h)"], {"r": 2}), ("rearrange", [f32(2, 3, 4), "a b c -> c (b a)"], {}),
]


def leaves(x):
    return [v for y in x for v in leaves(y)] if isinstance(x, (tuple, list)) else [np.asarray(x)]


def close(got, expected):
    assert [(v.shape, v.dtype) for v in got] == [(v.shape, v.dtype) for v in expected]
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a, b, rtol=2e-6 if a.dtype.kind == "f" else 0, atol=1e-6 if a.dtype.kind == "f" else 0)


def case_id(number):
    return f"{number}-{CASES[number][0]}"


@pytest.mark.parametrize("number", range(len(CASES)), ids=case_id)
def test_beside_keras(number):
    name, arguments, attributes = CASES[number]
    close(leaves(getattr(ops, name)(*arguments, **attributes)), leaves(getattr(keras.ops, name)(*arguments, **attributes)))


# Sizes that depend on data; shapes that Keras states otherwise than it computes them, types likewise.
NOT_SYMBOLIC = ("unique", "bincount", "nonzero", "adaptive_average_pool", "adaptive_max_pool", "corrcoef")


def test_as_operations_of_functional_models():
    """Shapes, types and class names are Keras'; what one model of all of them computes is what each computes on arrays."""
    first = {name: (arguments, attributes) for name, arguments, attributes in reversed(CASES) if isinstance(arguments[0], np.ndarray) and name not in NOT_SYMBOLIC}
    inputs, outputs, tensors, expected = [], [], [], []
    for name, (arguments, attributes) in first.items():
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        others = [a for a in arguments if not isinstance(a, np.ndarray)]

        def call(k, given, name=name, others=others, attributes=attributes):
            out = getattr(k.ops, name)(*given, *others, **attributes)
            return list(out) if isinstance(out, (list, tuple)) else [out]

        def symbols(k, arrays=arrays):
            return [k.Input(batch_shape=a.shape, dtype=str(a.dtype)) for a in arrays]

        own = symbols(kg)
        made, real = call(kg, own), call(keras, symbols(keras))
        assert [(o.shape, str(o.dtype)) for o in made] == [(tuple(o.shape), str(o.dtype)) for o in real], name
        assert type(made[0]._keras_history.operation).__name__ == type(real[0]._keras_history.operation).__name__, name
        inputs, outputs, tensors = inputs + own, outputs + made, tensors + arrays
        expected += leaves(call(kg, arrays))
    close(leaves(kg.Model(inputs, outputs)(tensors)), expected)


@pytest.mark.parametrize("call,error,text", [
    (lambda: ops.gcd(f32(3), whole(0, 4, 3)), DTypeError, "of integers, got float32"),
    (lambda: ops.ldexp(f32(3), f32(3)), DTypeError, "must be integers, got float32"),
    (lambda: ops.nanmax(f32(3, 0), axis=1), ShapeError, "holds no elements"),
    (lambda: ops.rot90(f32(3, 4), axes=(1, 1)), ArgumentError, "two axes"),
    (lambda: ops.rearrange(f32(3, 4), "a b -> a"), ArgumentError, "once on either side"),
    (lambda: ops.rearrange(f32(3, 4), "(a c) b -> a b c", c=2), ShapeError, "can't be divided"),
    (lambda: ops.depth_to_space(f32(1, 2, 2, 6), 2), ShapeError, "no multiple of block_size squared"),
    (lambda: ops.space_to_depth(f32(1, 3, 2, 6), 2), ShapeError, "doesn't divide"),
    (lambda: ops.view(f32(3, 3), dtype="float64"), ShapeError, "no whole number"),
    (lambda: ops.hamming(-1), ArgumentError, "number of points"),
    (lambda: ops.psnr(f32(3), f32(4), 1.0), ShapeError, "one shape"),
    (lambda: ops.searchsorted(f32(3, 4), f32(3)), ShapeError, "a vector to search in"),
    (lambda: ops.searchsorted(f32(3), f32(3), side="middle"), ArgumentError, "'left' or 'right'"),
    (lambda: ops.bincount(f32(3)), DTypeError, "counts integers, got float32"),
    (lambda: ops.bincount(kg.Input(batch_shape=(3,), dtype="int32")), UnsupportedOpError, "depends on data"),
    (lambda: ops.nonzero(kg.Input(batch_shape=(3,), dtype="int32")), UnsupportedOpError, "depends on data"),
    (lambda: ops.histogram(f32(3), bins=0), ArgumentError, "positive integer"),
    (lambda: ops.segment_sum(f32(3), whole(0, 2, 3)), ArgumentError, "needs num_segments"),
    (lambda: ops.segment_sum(f32(3), whole(0, 2, 4), num_segments=2), ShapeError, "one integer for each slice"),
    (lambda: ops.fold(f32(2, 12, 7), (5, 6), 2), ShapeError, "4 x 5 windows"),
    (lambda: ops.cdist(f32(3, 2), f32(3, 4)), ShapeError, "rows of one length"),
])
def test_mistakes_are_named(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_free_sizes():
    """Searches, patches and adaptive windows of axes whose sizes are known when the model runs."""
    ordered, values = kg.Input(batch_shape=(None,)), kg.Input(batch_shape=(5,))
    search = kg.Model([ordered, values], ops.searchsorted(ordered, values))
    for n in (1, 2, 3, 6, 9):
        given = [np.sort(f32(n)), f32(5)]
        assert np.array_equal(np.asarray(search(given)), np.searchsorted(*given))
    images = kg.Input((None, None, 3))
    model = kg.Model(images, [ops.image.extract_patches(images, 3, strides=2), ops.adaptive_average_pool(images, (3, 2))])
    for h, w in ((7, 9), (5, 6)):
        x = f32(2, h, w, 3)
        close(leaves(model(x)), [np.asarray(keras.ops.image.extract_patches(x, 3, strides=2)), np.asarray(keras.ops.adaptive_average_pool(x, (3, 2)))])


def test_products_of_int8_are_int32():
    """As in Keras: 127 * 127 summed over a row does not fit int8."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-128, 128, (3, 130)).astype(np.int8), rng.integers(-128, 128, (130, 5)).astype(np.int8)
    out = np.asarray(ops.matmul(a, b))
    assert out.dtype == np.int32
    np.testing.assert_array_equal(out, a.astype(np.int64) @ b.astype(np.int64))
    narrow = np.asarray(ops.matmul(a.astype(np.int16), b.astype(np.int16)))
    assert narrow.dtype == np.int16
