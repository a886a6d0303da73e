"""keras.ops.image beside Keras on JAX; the layers that resize and crop."""

import numpy as np
import pytest

import kerogen as kg
from kerogen import ops
from kerogen.runtime.errors import ArgumentError, DTypeError, ShapeError
from tests.oracle import oracle

keras = oracle("keras")
rng = np.random.default_rng(31)
LAST = {"data_format": "channels_last"}  # (Keras' gaussian_blur takes None for channels first on arrays)
FIRST = {"data_format": "channels_first"}


def f32(*shape):
    return rng.uniform(0, 1, shape).astype(np.float32)


GREY = np.repeat(f32(1, 3, 4, 1), 3, -1)  # no hue
TURN = np.array([[0.9, -0.3, 1.2, 0.2, 1.1, -0.7, 0, 0], [1.2, 0.1, -1.5, -0.2, 0.8, 0.4, 0, 0]], np.float32)
HALVES = np.array([1, 0, 0.5, 0, 1, -1.5, 0, 0], np.float32)
CORNERS = np.array([[0, 0], [6, 0], [0, 4], [6, 4]], np.float32)
MOVED = CORNERS + rng.uniform(-0.9, 0.9, (2, 4, 2)).astype(np.float32)
CASES = [
    *[("resize", [f32(2, 7, 5, 3), (4, 9)], {"interpolation": i}) for i in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")],
    ("resize", [f32(9, 8, 2), (4, 3)], {"antialias": True}), ("resize", [f32(9, 8, 2), (5, 3)], {"antialias": True, "interpolation": "bicubic"}),
    ("resize", [f32(2, 3, 7, 6), (3, 8)], FIRST), ("resize", [f32(2, 7, 6, 3), (3, 8)], {"crop_to_aspect_ratio": True}),
    ("resize", [f32(2, 7, 6, 3), (3, 8)], {"pad_to_aspect_ratio": True, "fill_value": 0.5}), ("resize", [f32(2, 6, 9, 3), (5, 4)], {"pad_to_aspect_ratio": True}),
    ("pad_images", [f32(2, 4, 5, 3), 1, 2, 3, 0], {}), ("pad_images", [f32(4, 5, 3), 1, 2], {"target_height": 9, "target_width": 8}),
    ("pad_images", [f32(2, 3, 4, 5)], {"bottom_padding": 2, "right_padding": 1, "target_height": 9, "target_width": 8, **FIRST}),
    ("crop_images", [f32(2, 7, 6, 3), 1, 2, 3, 0], {}), ("crop_images", [f32(7, 6, 3)], {"bottom_cropping": 1, "left_cropping": 2, "target_height": 3, "target_width": 3}),
    ("extract_patches", [f32(2, 8, 7, 3), (3, 2)], {"strides": (2, 1), "padding": "same"}), ("extract_patches", [f32(8, 7, 3), 2], {"dilation_rate": 2, "strides": 1}),
    ("extract_patches", [f32(2, 3, 8, 7), 3], FIRST), ("extract_patches_3d", [f32(2, 5, 6, 7, 2), (2, 3, 2)], {}), ("extract_patches", [f32(5, 6, 7, 2), (2, 3, 2)], {}),
    ("rgb_to_grayscale", [f32(2, 4, 5, 3)], {}), ("rgb_to_grayscale", [f32(3, 4, 5)], FIRST), ("rgb_to_hsv", [f32(2, 4, 5, 3)], {}), ("rgb_to_hsv", [GREY], {}),
    ("rgb_to_hsv", [f32(3, 4, 5)], FIRST), ("hsv_to_rgb", [f32(2, 4, 5, 3)], {}), ("gaussian_blur", [f32(2, 7, 6, 3)], {"kernel_size": (5, 3), "sigma": (1.5, 0.7), **LAST}),
    ("gaussian_blur", [f32(7, 6, 3)], {"kernel_size": (4, 4), **LAST}), ("sobel_edges", [f32(2, 7, 6, 3)], {}), ("ssim", [f32(2, 14, 13, 3), f32(2, 14, 13, 3)], {}),
    ("ssim", [f32(9, 8, 1), f32(9, 8, 1)], {"filter_size": 5, "max_val": 2.0}),
    *[("map_coordinates", [f32(5, 6), rng.uniform(-4, 9, (2, 3, 7)).astype(np.float32), 1, m], {}) for m in ("constant", "nearest", "wrap", "mirror", "reflect")],
    ("map_coordinates", [f32(5, 6), np.array([[0.5, 1.5, 2.5, -0.5], [1.5, 0.5, 3.5, 2.5]], np.float32), 0], {"fill_value": 3.0}),
    *[("affine_transform", [f32(2, 6, 7, 3), TURN], {"fill_mode": m, "fill_value": 0.5}) for m in ("constant", "nearest", "wrap", "mirror", "reflect")],
    ("affine_transform", [f32(6, 7, 3), HALVES], {"interpolation": "nearest"}), ("affine_transform", [f32(2, 3, 6, 7), TURN], FIRST),
    ("perspective_transform", [f32(2, 5, 7, 3), np.stack([CORNERS] * 2), MOVED], {"fill_value": 0.5}), ("perspective_transform", [f32(5, 7, 3), CORNERS, MOVED[0]], {}),
]


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda i: f"{i}-{CASES[i][0]}")
def test_beside_keras(number):
    name, arguments, attributes = CASES[number]
    got = np.asarray(getattr(ops.image, name)(*arguments, **attributes))
    expected = np.asarray(getattr(keras.ops.image, name)(*arguments, **attributes))
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-5)


def test_as_operations_of_functional_models():
    first = {name: (arguments, attributes) for name, arguments, attributes in reversed(CASES)}
    inputs, outputs, tensors, expected = [], [], [], []
    for name, (arguments, attributes) in first.items():
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        others = [a for a in arguments if not isinstance(a, np.ndarray)]

        def call(k, given, name=name, others=others, attributes=attributes):
            return getattr(k.ops.image, name)(*given, *others, **attributes)

        own = [kg.Input(batch_shape=a.shape) for a in arrays]
        made, real = call(kg, own), call(keras, [keras.Input(batch_shape=a.shape) for a in arrays])
        assert made.shape == tuple(real.shape), name
        assert type(made._keras_history.operation).__name__ == type(real._keras_history.operation).__name__
        inputs, outputs, tensors = inputs + own, [*outputs, made], tensors + arrays
        expected.append(np.asarray(call(kg, arrays)))
    for a, b in zip(kg.Model(inputs, outputs)(tensors), expected):
        np.testing.assert_allclose(np.asarray(a), b, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("call,error,text", [
    (lambda: ops.image.resize(f32(4, 5), (2, 2)), ShapeError, "rank 3, or 4 for a batch"),
    (lambda: ops.image.resize(f32(4, 5, 3), (2, 2), interpolation="area"), ArgumentError, "nearest, bilinear"),
    (lambda: ops.image.pad_images(f32(4, 5, 3), 1), ArgumentError, "exactly two"),
    (lambda: ops.image.crop_images(f32(4, 5, 3), 3, 0, 3, 0), ShapeError, "more than the height 4"),
    (lambda: ops.image.pad_images(f32(4, 5, 3), 1, 1, target_height=3, target_width=9), ArgumentError, "can't be negative"),
    (lambda: ops.image.rgb_to_hsv(np.zeros((4, 5, 3), np.uint8)), DTypeError, r"floats in \[0, 1\], got uint8"),
    (lambda: ops.image.rgb_to_hsv(f32(4, 5, 2)), ShapeError, "3 channels, got 2"),
    (lambda: ops.image.map_coordinates(f32(4, 5), f32(3, 7), 1), ShapeError, r"need coordinates \(2"),
    (lambda: ops.image.map_coordinates(f32(4, 5), f32(2, 7), 3), ArgumentError, "order must be 0 or 1"),
    (lambda: ops.image.affine_transform(f32(3, 4, 5, 3), TURN), ShapeError, "3 images need a transform"),
])
def test_mistakes_are_named(call, error, text):
    with pytest.raises(error, match=text):
        call()
