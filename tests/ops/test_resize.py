"""Resizing against jax.image (Keras' semantics) and ONNX's reference, random sizes; derivatives as transposed maps."""

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.passes.autodiff import grad
from kerogen.compiler.pipeline import compile_graph
from kerogen.runtime.dtype import as_dtype
from kerogen.runtime.errors import ArgumentError, ShapeError
from kerogen.runtime.executable import Executable

from ..compare import assert_close
from ..oracle import oracle


def compiled(fn, *arrays: np.ndarray) -> list[np.ndarray]:
    xs = tuple(leaf(f"x{i}", TensorType(a.shape, as_dtype(a.dtype))) for i, a in enumerate(arrays))
    graph = Graph(xs, tuple(fn(*xs)))
    out = Executable(plans=[compile_graph(graph)])(*arrays)
    out = out if isinstance(out, list) else [out]
    for a, e in zip(out, evaluate(graph, list(arrays))):
        assert_close(a, e, 1e-12 if a.dtype == np.float64 else 1e-6)
    return out


SIZES = [((2, 5, 7, 3), (11, 4)), ((1, 8, 3, 2), (8, 9)), ((2, 1, 6, 1), (3, 1)), ((1, 13, 10, 5), (5, 7))]


@pytest.mark.parametrize(("shape", "sizes"), SIZES)
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", ["nearest", "linear", "cubic", "lanczos3", "lanczos5"])
def test_half_pixel_is_jax_image_resize(method, antialias, shape, sizes, rng) -> None:
    jax = oracle("jax")
    x = rng.standard_normal(shape)
    (y,) = compiled(lambda v: [o.resize(v, sizes, (1, 2), method, antialias=antialias, exclude_outside=True,
                                        rounding="round_prefer_ceil", cubic_a=-0.5)], x)
    import jax.numpy as jnp

    with jax.enable_x64(True):
        name = method if method != "linear" else "bilinear"
        expected = jax.image.resize(jnp.asarray(x), (shape[0], *sizes, shape[3]), name, antialias=antialias)
    assert_close(y, np.asarray(expected), 1e-6)


# Antialiased with few modes: where a coordinate is an integer but for its last bit the reference shifts its window.
@pytest.mark.parametrize(
    ("mode", "method", "antialias"),
    [
        (mode, method, 0)
        for mode in ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric"]
        for method in ["nearest", "linear", "cubic"]
    ]
    + [("half_pixel", "linear", 1), ("half_pixel", "cubic", 1), ("pytorch_half_pixel", "linear", 1)],
)
def test_modes_are_those_of_onnx(mode, method, antialias, rng) -> None:
    helper, reference = oracle("onnx.helper"), oracle("onnx.reference")
    import onnx

    for case in range(4):
        n = [int(v) for v in rng.integers(2, 9, 2)]
        scales = [float(np.float32(v)) for v in rng.uniform(0.3, 2.9, 2)]
        sizes = [max(int(np.floor(a * b)), 1) for a, b in zip(n, scales)]
        if any(int(np.floor(a * b)) < 1 for a, b in zip(n, scales)):
            continue
        x = rng.standard_normal((1, 2, *n))
        rounding = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"][case]
        exclude = int(case % 2 and method == "cubic")
        node = helper.make_node(
            "Resize", ["x", "", "s"], ["y"], mode=method, coordinate_transformation_mode=mode, nearest_mode=rounding,
            exclude_outside=exclude, antialias=antialias, axes=[2, 3])
        graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, None),
                                                helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, None)],
                                  [helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, None)])
        run = reference.ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)]))
        (expected,) = run.run(None, {"x": x, "s": np.array(scales, np.float32)})
        settings = (method, mode, bool(antialias), bool(exclude), rounding, -0.75, scales)
        (y,) = compiled(lambda v, sizes=sizes, settings=settings: [o.resize(v, sizes, (2, 3), *settings)], x)
        # The reference computes the cubic kernel in float32.
        assert_close(y, expected, 1e-5 if method == "cubic" else 1e-9, what=f"{n} by {scales}, {rounding}, {exclude=}")


@pytest.mark.parametrize("method", ["nearest", "linear", "cubic", "lanczos3"])
def test_the_derivative_is_the_transposed_map(method, rng) -> None:
    """<ct, A d> = <A' ct, d>; and the derivative's derivative (with respect to ct) is A again."""
    x, d = rng.standard_normal((2, 5, 6, 3)), rng.standard_normal((2, 5, 6, 3))
    ct, e = rng.standard_normal((2, 9, 4, 3)), rng.standard_normal((2, 9, 4, 3))

    def resized(v):
        return o.resize(v, (9, 4), (1, 2), method, antialias=True)

    (along,) = compiled(lambda v: [resized(v)], d)
    (back,) = compiled(lambda v, c: grad(resized(v), [v], c), x, ct)
    assert abs(np.sum(ct * along) - np.sum(back * d)) < 1e-10 * np.sum(np.abs(ct * along))
    (again,) = compiled(lambda v, c, w: grad(grad(resized(v), [v], c)[0], [c], w), x, e, d)
    assert_close(again, along, 1e-12)


def test_integers_and_whole_factors(rng) -> None:
    x = rng.integers(0, 255, (1, 4, 5, 2)).astype(np.uint8)
    (y,) = compiled(lambda v: [o.resize(v, (12, 10), (1, 2), "nearest")], x)
    np.testing.assert_array_equal(y, x.repeat(3, 1).repeat(2, 2))
    (y,) = compiled(lambda v: [o.resize(v, (7, 3), (1, 2), "nearest", "asymmetric", rounding="floor")], x)
    at = [np.floor(np.arange(m) * n / m).astype(int) for n, m in ((4, 7), (5, 3))]
    np.testing.assert_array_equal(y, x[:, at[0]][:, :, at[1]])


def test_errors() -> None:
    x = leaf("x", TensorType((2, 0, 3), as_dtype("float32")))
    with pytest.raises(ArgumentError, match="'area' is none of nearest, linear"):
        o.resize(x, (4,), (2,), "area")
    with pytest.raises(ArgumentError, match="'corners' is none of half_pixel"):
        o.resize(x, (4,), (2,), coordinates="corners")
    with pytest.raises(ShapeError, match="no elements to make 4"):
        o.resize(x, (4,), (1,))
    with pytest.raises(ShapeError, match="needs as many sizes"):
        o.resize(x, (4, 5), (1,))
