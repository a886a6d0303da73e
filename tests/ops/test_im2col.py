"""Windows beside JAX's patches, their sum back as its transpose; regions beside ONNX Runtime."""

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.graph import leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.runtime.dtype import float32
from kerogen.runtime.errors import ArgumentError, ShapeError

from ..compare import assert_close
from ..oracle import oracle
from .test_search import compiled

SETTINGS = [((9,), (3,), (2,), ((1, 2),), (2,)), ((8, 7), (3, 2), (2, 3), ((0, 1), (2, 0)), (1, 2)), ((5, 6, 4), (2, 3, 2), (1, 2, 2), ((1, 1), (0, 0), (0, 1)), (1, 1, 1))]


@pytest.mark.parametrize("sizes,window,strides,padding,dilation", SETTINGS)
def test_im2col_is_jax_and_col2im_its_transpose(sizes, window, strides, padding, dilation, rng) -> None:
    jax = oracle("jax")
    x = rng.standard_normal((2, *sizes, 3)).astype(np.float32)

    def patches(v):
        d = len(sizes)
        first = jax.numpy.moveaxis(v, -1, 1)
        out = jax.lax.conv_general_dilated_patches(first, window, strides, padding, rhs_dilation=dilation)
        out = out.reshape(2, 3, *window, *out.shape[2:])
        return jax.numpy.transpose(out, (0, *range(2 + d, 2 + 2 * d), *range(2, 2 + d), 1))

    expected, transpose = jax.vjp(patches, x)
    (y,) = compiled(lambda v: [o.im2col(v, window, strides, padding, dilation)], x)
    assert_close(y, np.asarray(expected), 1e-6)
    columns = rng.standard_normal(expected.shape).astype(np.float32)
    (back,) = compiled(lambda v: [o.col2im(v, sizes, strides, padding, dilation)], columns)
    assert_close(back, np.asarray(transpose(columns)[0]), 1e-5)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("half_pixel", [True, False])
def test_roi_align_is_onnx_runtimes(mode, half_pixel, rng) -> None:
    runtime, onnx = oracle("onnxruntime"), oracle("onnx")
    x = rng.standard_normal((3, 2, 9, 11)).astype(np.float32)
    low = rng.uniform(-3, 14, (6, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.3, 12, (6, 2))], 1).astype(np.float32)
    images = rng.integers(0, 3, 6)
    attributes = {"mode": mode, "output_height": 3, "output_width": 2, "sampling_ratio": 2, "spatial_scale": 0.75,
                  "coordinate_transformation_mode": "half_pixel" if half_pixel else "output_half_pixel"}
    helper, types = onnx.helper, onnx.TensorProto
    inputs = [helper.make_tensor_value_info(n, t, s) for n, t, s in
              (("x", types.FLOAT, x.shape), ("boxes", types.FLOAT, boxes.shape), ("images", types.INT64, images.shape))]
    graph = helper.make_graph([helper.make_node("RoiAlign", ["x", "boxes", "images"], ["y"], **attributes)], "g", inputs,
                              [helper.make_tensor_value_info("y", types.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    (expected,) = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x, "boxes": boxes, "images": images})
    (y,) = compiled(lambda a, b, i: [o.roi_align(a, b, i, (3, 2), 2, 0.75, half_pixel, mode == "max")], np.moveaxis(x, 1, -1).copy(), boxes, images)
    assert_close(np.moveaxis(y, -1, 1), expected, 1e-5)


def test_mistakes_are_named() -> None:
    x = leaf("x", TensorType((2, 5, 6, 3), float32))
    boxes, images = leaf("b", TensorType((4, 4), float32)), leaf("i", TensorType((4,), float32))
    with pytest.raises(ShapeError, match="larger than spatial axis 0"):
        o.im2col(x, (6, 2))
    with pytest.raises(ShapeError, match="has windows"):
        o.col2im(leaf("u", TensorType((2, 3, 3, 2, 2, 3), float32)), (5, 6))
    with pytest.raises(ShapeError, match=r"boxes \(R, 4\)"):
        o.roi_align(x, images, images, (2, 2), 2)
    with pytest.raises(ArgumentError, match="at least one sample"):
        o.roi_align(x, boxes, images, (2, 2), 0)
