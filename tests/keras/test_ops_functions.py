"""The functions of ``ops`` against Keras': values and dtypes on arrays, the same traced inside a compiled layer, shapes on symbolic tensors, class names."""

import numpy as np
import pytest

import kerogen as kg
from kerogen import ops
from kerogen.frontends.keras.structure import flatten
from kerogen.frontends.keras.tensor import KerasTensor
from kerogen.runtime.errors import ArgumentError, KerogenError, ShapeError, UnsupportedOpError
from tests.compare import assert_close
from tests.oracle import oracle

keras = oracle("keras")

# What a drawn operand looks like: shape and kind ("f" normal, "p" positive, "u" in (-1, 1), "i" small integers, "b" bool).
A, B, C = ("f", 3, 5), ("f", 3, 5), ("f", 5)


def draw(spec, rng):
    if not (isinstance(spec, tuple) and spec and isinstance(spec[0], str) and spec[0] in "fpuib"):
        return [draw(s, rng) for s in spec] if isinstance(spec, list) else spec
    kind, *shape = spec
    if kind == "i":
        return rng.integers(0, 4, shape).astype(np.int32)
    if kind == "b":
        return rng.random(shape) < 0.5
    x = rng.standard_normal(shape)
    x = np.abs(x) + 0.2 if kind == "p" else np.tanh(x) * 0.9 if kind == "u" else x
    return x.astype(np.float32)


UNARY = ("absolute abs negative sign square exp expm1 exp2 sin cos tan sinh cosh tanh arctan arcsinh floor ceil trunc round erf erfc isnan isinf "
         "isfinite logical_not sigmoid relu relu6 silu softplus softsign log_sigmoid elu selu celu gelu hard_sigmoid hard_silu hard_tanh hard_shrink "
         "soft_shrink tanh_shrink sparse_plus sparse_sigmoid squareplus leaky_relu deg2rad rad2deg reciprocal copy ravel").split()
POSITIVE = "log log1p log2 log10 sqrt rsqrt arccosh".split()
INSIDE = "arcsin arccos arctanh".split()
BINARY = ("add subtract multiply divide true_divide maximum minimum arctan2 logaddexp hypot equal not_equal less less_equal greater greater_equal "
          "logical_and logical_or logical_xor floor_divide mod fmod divide_no_nan isclose").split()

CASES = [(n, [A], {}) for n in UNARY] + [(n, [("p", 3, 5)], {}) for n in POSITIVE if n != "arccosh"] + [(n, [("u", 4, 3)], {}) for n in INSIDE]
CASES += [(n, [A, C], {}) for n in BINARY] + [(n, [("f", 3, 1), ("f", 4)], {}) for n in BINARY[:6]]
CASES += [(n, [("i", 3, 4), ("i", 4)], {}) for n in "add multiply maximum bitwise_and bitwise_or bitwise_xor left_shift right_shift".split()]
CASES += [(n, [("i", 3, 4)], {}) for n in "sum mean max exp sqrt absolute negative relu sign var std argmax any all bitwise_not".split()]
CASES += [(n, [("i", 3, 4), ("f", 4)], {}) for n in "add divide power".split()] + [("divide", [("i", 3, 4), ("p", 4)], {})]
CASES = [c for c in CASES if not (c[0] == "power" and c[1][0][0] == "i")]
for n in "sum mean max min prod std var any all amax amin ptp count_nonzero logsumexp".split():
    CASES.append((n, [A], {}))
    CASES.append((n, [("f", 2, 3, 4)], {"axis": 1}))
    CASES.append((n, [("f", 2, 3, 4)], {"axis": (0, 2)} if n not in ("ptp",) else {"axis": -1}))
for n in "sum mean max min prod std var any all logsumexp argmax argmin norm".split():
    CASES.append((n, [("f", 2, 3, 4)], {"axis": -1, "keepdims": True}))
CASES += [
    ("max", [A], {"initial": 0.5}), ("argmin", [A], {}), ("argmax", [A], {"axis": 0}), ("average", [A], {"axis": 1, "weights": ("p", 5)}),
    ("average", [A], {"axis": None}), ("norm", [A], {}), ("norm", [A], {"ord": 1, "axis": 1}), ("norm", [A], {"ord": np.inf, "axis": 0}),
    ("norm", [A], {"ord": 3, "axis": 0}), ("moments", [A], {"axes": [0]}), ("power", [("p", 3, 4), ("f", 4)], {}), ("power", [A, 3], {}),
    ("power", [("p", 3), 0.5], {}), ("power", [2.0, A], {}), ("add", [A, 2], {}), ("subtract", [1.5, A], {}), ("multiply", [("i", 4), 2.5], {}),
    ("add", [("i", 4), 2], {}), ("clip", [A], {"x_min": -0.5, "x_max": 0.7}), ("round", [A], {"decimals": 2}), ("where", [("b", 3, 5), A, C], {}),
    ("where", [("b", 5), A, 0.0], {}), ("nan_to_num", [np.array([1.0, np.nan, np.inf, -np.inf], np.float32)], {}),
    ("reshape", [A], {"newshape": (5, -1)}), ("reshape", [A], {"newshape": -1}), ("transpose", [("f", 2, 3, 4)], {"axes": (2, 0, 1)}),
    ("transpose", [A], {}), ("swapaxes", [("f", 2, 3, 4)], {"axis1": 0, "axis2": -1}), ("moveaxis", [("f", 2, 3, 4)], {"source": 0, "destination": 2}),
    ("moveaxis", [("f", 2, 3, 4)], {"source": (0, 1), "destination": (-1, 0)}), ("expand_dims", [A], {"axis": 1}), ("expand_dims", [A], {"axis": (0, -1)}),
    ("squeeze", [("f", 3, 1, 4, 1)], {}), ("squeeze", [("f", 3, 1, 4, 1)], {"axis": 1}), ("broadcast_to", [C], {"shape": (2, 3, 5)}),
    ("flip", [A], {}), ("flip", [A], {"axis": 1}), ("concatenate", [[A, ("f", 2, 5)]], {}), ("concatenate", [[A, A, A]], {"axis": -1}),
    ("stack", [[C, C]], {"axis": 1}), ("vstack", [[A, A]], {}), ("hstack", [[A, A]], {}), ("hstack", [[C, C]], {}), ("append", [A, C], {}),
    ("append", [A, A], {"axis": 1}), ("split", [("f", 6, 4)], {"indices_or_sections": 3}), ("split", [("f", 7, 4)], {"indices_or_sections": [2, 3]}),
    ("split", [("f", 3, 4)], {"indices_or_sections": 2, "axis": 1}), ("unstack", [A], {}), ("unstack", [A], {"axis": 1}),
    ("tile", [A], {"repeats": (2, 1, 3)}), ("tile", [A], {"repeats": 2}), ("repeat", [A], {"repeats": 3}), ("repeat", [A], {"repeats": 2, "axis": 0}),
    ("repeat", [A], {"repeats": np.array([1, 0, 2]), "axis": 0}), ("roll", [A], {"shift": 2}), ("roll", [A], {"shift": -1, "axis": 1}),
    ("pad", [A], {"pad_width": ((1, 2), (0, 3))}), ("pad", [A], {"pad_width": 1, "constant_values": 2.5}), ("pad", [A], {"pad_width": 2, "mode": "reflect"}),
    ("pad", [A], {"pad_width": ((1, 0), (2, 1)), "mode": "symmetric"}), ("take", [A, np.array([0, 2, -1])], {"axis": 0}), ("take", [A, np.array([[3], [7]])], {}),
    ("take_along_axis", [A, np.array([[0, 1, 2, 0, -1]])], {"axis": 0}), ("tril", [("f", 2, 4, 5)], {}), ("triu", [("f", 4, 5)], {"k": 1}),
    ("diag", [C], {"k": -1}), ("diag", [A], {"k": 1}), ("diagonal", [("f", 3, 4, 5)], {"offset": 1, "axis1": 2, "axis2": 0}), ("trace", [("f", 4, 5)], {}),
    ("cumsum", [A], {"axis": 1}), ("cumsum", [A], {}), ("cast", [A], {"dtype": "int32"}), ("cast", [("i", 4)], {"dtype": "float16"}),
    ("zeros_like", [A], {}), ("ones_like", [("i", 3)], {}), ("full_like", [A, 3], {}), ("linspace", [0.0, 5.0], {"num": 7}),
    ("linspace", [A, 2.0], {"num": 3, "endpoint": False}), ("meshgrid", [C, ("f", 3)], {}), ("meshgrid", [C, ("f", 3), ("f", 2)], {"indexing": "ij"}),
    ("matmul", [A, ("f", 5, 4)], {}), ("matmul", [("f", 2, 3, 4), ("f", 4)], {}), ("matmul", [("f", 1, 3, 4), ("f", 5, 4, 2)], {}),
    ("dot", [A, ("f", 5)], {}), ("dot", [("f", 2, 3, 4), ("f", 5, 4, 6)], {}), ("tensordot", [("f", 2, 3, 4), ("f", 4, 3, 5)], {"axes": ((1, 2), (1, 0))}),
    ("tensordot", [("f", 2, 3), ("f", 3, 4)], {"axes": 1}), ("outer", [C, ("f", 3)], {}), ("inner", [A, A], {}), ("vdot", [A, A], {}),
    ("cross", [("f", 4, 3), ("f", 4, 3)], {}), ("normalize", [A], {}), ("normalize", [A], {"axis": 0, "order": 3}),
    ("softmax", [A], {"axis": 0}), ("softmax", [("f", 2, 3, 4)], {"axis": None}), ("log_softmax", [A], {}), ("sparsemax", [A], {}),
    ("sparsemax", [("f", 4, 3)], {"axis": 0}), ("glu", [("f", 3, 6)], {}), ("gelu", [A], {"approximate": False}), ("threshold", [A, 0.2, -1.0], {}),
    ("elu", [A], {"alpha": 0.4}), ("celu", [A], {"alpha": 0.4}), ("one_hot", [("i", 3, 2), 5], {}), ("one_hot", [("i", 3), 5], {"axis": 0}),
    ("multi_hot", [("i", 3, 2)], {"num_classes": 6}), ("conv", [("f", 2, 7, 6, 4), ("f", 3, 2, 2, 6)], {"strides": 2, "padding": "same"}),
    ("conv", [("f", 2, 9, 3), ("f", 3, 3, 5)], {"dilation_rate": 2}), ("depthwise_conv", [("f", 2, 7, 6, 3), ("f", 3, 3, 3, 2)], {"padding": "same"}),
    ("separable_conv", [("f", 2, 7, 6, 3), ("f", 3, 3, 3, 2), ("f", 1, 1, 6, 4)], {}), ("max_pool", [("f", 2, 7, 6, 3), 2], {"strides": 2, "padding": "same"}),
    ("average_pool", [("f", 2, 7, 6, 3), 3], {"strides": 2, "padding": "same"}),
    ("batch_normalization", [A, ("f", 5), ("p", 5), -1], {"offset": ("f", 5), "scale": ("f", 5)}),
    ("layer_normalization", [A, ("f", 5), ("f", 5)], {}), ("rms_normalization", [A, ("f", 5)], {}),
    ("categorical_crossentropy", [("p", 3, 5), ("p", 3, 5)], {}), ("categorical_crossentropy", [("p", 3, 5), A], {"from_logits": True}),
    ("sparse_categorical_crossentropy", [("i", 3), A], {"from_logits": True}), ("sparse_categorical_crossentropy", [("i", 3, 1), ("p", 3, 5)], {}),
    ("binary_crossentropy", [("b", 3, 5), A], {"from_logits": True}), ("binary_crossentropy", [np.float32([[0, 1, 1]]), np.float32([[0.2, 0.9, 1.0]])], {}),
    ("dot_product_attention", [("f", 2, 3, 4, 5), ("f", 2, 6, 2, 5), ("f", 2, 6, 2, 5)], {}),
    ("dot_product_attention", [("f", 2, 4, 3, 5), ("f", 2, 4, 3, 5), ("f", 2, 4, 3, 5)], {"is_causal": True}),
    ("in_top_k", [("i", 3), A], {"k": 2}), ("einsum", ["ij,kj->ik", A, ("f", 4, 5)], {}), ("einsum", ["bij->bji", ("f", 2, 3, 4)], {}),
    ("slice", [A, (1, 2)], {"shape": (2, 3)}), ("stop_gradient", [A], {}), ("convert_to_tensor", [[1.0, 2.0]], {}), ("arange", [3], {}),
    ("arange", [1, 7, 2], {"dtype": "float32"}), ("arange", [0.0, 1.0, 0.3], {}), ("eye", [3, 5], {"k": 1}), ("zeros", [(2, 3)], {}), ("full", [(2, 3), 7], {}),
    ("ones", [(2,)], {"dtype": "int32"}), ("identity", [3], {}),
]


def case_id(number):
    name, args, kwargs = CASES[number]
    return f"{number}-{name}"


def prepare(number, rng):
    name, args, kwargs = CASES[number]
    return name, [draw(a, rng) for a in args], {k: draw(v, rng) if k in ("weights", "offset", "scale") else v for k, v in kwargs.items()}


def compare(got, want, name):
    got, want = flatten(got), flatten(list(want) if isinstance(want, (list, tuple)) else want)
    assert len(got) == len(want)
    for a, b in zip(got, want):
        assert_close(np.asarray(a), np.asarray(b), 1e-5, what=name)


@pytest.mark.parametrize("number", range(len(CASES)), ids=case_id)
def test_on_arrays(number, rng):
    name, args, kwargs = prepare(number, rng)
    compare(getattr(ops, name)(*args, **kwargs), getattr(keras.ops, name)(*args, **kwargs), name)


def tensor_args(args):
    return [i for i, a in enumerate(args) if isinstance(a, np.ndarray) or isinstance(a, list) and a and isinstance(a[0], np.ndarray)]


# Keras' own shape rules fail on these: ranks of 1 in hstack, grouped kernels; multi_hot states another dtype than it computes.
NO_ORACLE = {(n, i) for i, (n, args, kw) in enumerate(CASES) if (n == "hstack" and args == [[C, C]]) or (n == "conv" and "strides" in kw) or n == "multi_hot"}
SYMBOLIC = [i for i, (n, args, _) in enumerate(CASES) if any(isinstance(a, tuple) and a and a[0] in list("fpuib") or isinstance(a, list) and a and isinstance(
    a[0], tuple) for a in args) and (n, i) not in NO_ORACLE]


@pytest.mark.parametrize("number", SYMBOLIC, ids=case_id)
def test_in_functional_models(number, rng):
    """The symbolic shape is Keras', and the model computes what the function computes on arrays."""
    name, args, kwargs = prepare(number, rng)
    at = tensor_args(args)

    def make(k):
        inputs, given = [], list(args)
        for i in at:
            one = [k.Input(batch_shape=x.shape, dtype=str(x.dtype)) for x in (args[i] if isinstance(args[i], list) else [args[i]])]
            inputs += one
            given[i] = one if isinstance(args[i], list) else one[0]
        out = getattr(k.ops, name)(*given, **kwargs)
        out = list(out) if isinstance(out, (list, tuple)) else [out]
        return inputs, out

    inputs, outputs = make(kg)
    real_inputs, real = make(keras)
    assert [o.shape for o in outputs] == [tuple(o.shape) for o in real]
    assert [str(o.dtype) for o in outputs] == [str(o.dtype) for o in real]
    op, other = outputs[0]._keras_history.operation, real[0]._keras_history.operation
    assert type(op).__name__ == type(other).__name__
    model = kg.Model(inputs, outputs)
    flat = [x for i in at for x in (args[i] if isinstance(args[i], list) else [args[i]])]
    compare(model(flat if len(flat) > 1 else flat[0]), getattr(keras.ops, name)(*args, **kwargs), name)


KEYS = [0, -1, np.s_[1:3], np.s_[::-1], np.s_[..., 0], np.s_[:, None, 2], np.s_[4:1:-2], np.s_[:, -3:-1], np.s_[1, 2, 3], np.s_[:, [0, 2]], np.s_[[1, 0], [2, 3]],
        np.s_[-2:, ..., ::2], np.s_[10:], np.s_[2:2]]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing(key, rng):
    x = rng.standard_normal((5, 4, 6)).astype(np.float32)
    inputs = kg.Input(batch_shape=x.shape)
    assert_close(kg.Model(inputs, inputs[key] * 1.0)(x), x[key])
    assert_close(ops.convert_to_tensor(x)[key], x[key])


def test_indexing_free_axes(rng):
    inputs = kg.Input((None, 3))
    outputs = [inputs[:, 0], inputs[:, -1], inputs[:, 1:], inputs[:, ::-1], inputs[:, :-1] + inputs[:, 1:], inputs[:, -2:]]
    model = kg.Model(inputs, outputs)
    for n in (2, 5, 9):
        x = rng.standard_normal((n, n + 1, 3)).astype(np.float32)
        for a, b in zip(model(x), [x[:, 0], x[:, -1], x[:, 1:], x[:, ::-1], x[:, :-1] + x[:, 1:], x[:, -2:]]):
            assert_close(a, np.ascontiguousarray(b))


@pytest.mark.parametrize("call,error,text", [
    (lambda: ops.matmul(np.ones((2, 3)), np.ones((4, 5))), ShapeError, "3.*4"),
    (lambda: ops.add(np.ones((2, 3)), np.ones((2, 4))), ShapeError, "broadcast"),
    (lambda: ops.add(np.ones(2)), ArgumentError, "ops.add.*x2"),
    (lambda: ops.mean(np.ones(2), axs=1), ArgumentError, "axs"),
    (lambda: ops.add("a", np.ones(2)), KerogenError, "not a tensor of numbers"),
    (lambda: ops.reshape(np.ones(6), (4, -1)), ShapeError, "6|4"),
    (lambda: ops.concatenate([np.ones((2, 3)), np.ones((3, 4))]), ShapeError, "3|4"),
    (lambda: ops.where(np.ones(3) > 0), UnsupportedOpError, "give x1 and x2"),
    (lambda: ops.conv(np.ones((1, 5, 5, 3)), np.ones((3, 3, 2, 4))), ShapeError, "3 input channels.*2"),
    (lambda: ops.max_pool(np.ones((1, 2, 5, 3)), 3), ShapeError, "window of 3 doesn't fit spatial axis 0 of size 2"),
    (lambda: ops.conv(np.ones((1, 5, 5, 3)), np.ones((3, 3, 3, 4)), padding="full"), ArgumentError, "'valid' or 'same'"),
    (lambda: ops.take(np.ones(4), np.array([4])), IndexError, "outside"),
    (lambda: ops.convert_to_tensor([[1, 2], [3]]), ArgumentError, "equal lengths"),
    (lambda: ops.convert_to_tensor(np.ones(2))[np.array([True, False])] is None or ops.get_item(KerasTensor((3, 2)), np.array([True, False, True])),
     UnsupportedOpError, "boolean mask"),
])
def test_mistakes_are_named(call, error, text):
    with pytest.raises(error, match=text):
        call()
