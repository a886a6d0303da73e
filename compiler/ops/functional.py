"""The functions that everything above writes graphs with. They take nodes, NumPy arrays and Python numbers, broadcast and
promote,
and return a node. Errors name the function and the sizes seen.

This file is the list; each function stands beside its op, or in ``pointwise`` and ``lift``. Ops reach the functions through this
module (``f.mul``), so that files that need each other can be imported in any order.
"""

# ruff: noqa: F401  (some names are for the ops only)
# fmt: off
from __future__ import annotations

from ...runtime.dtype import bool_
from ..ir.graph import node
from .activations import gelu, relu, silu, softplus
from .attention import attention
from .composed import bessel_i0, bessel_i1, lcm, ldexp, logaddexp, nextafter, polygamma, sinc
from .composite import layer_norm, log_softmax, logsumexp, softmax
from .contract import dot_general, matmul
from .conv import conv, conv_transpose
from .cumulative import cumlogsumexp, cummax, cummin, cumprod, cumsum, linear_recurrence
from .diagonal import diagonal, diagonal_matrix, tri, tril, triu
from .distributions import (
    random_bernoulli,
    random_beta,
    random_binomial,
    random_categorical,
    random_exponential,
    random_gamma,
    random_gumbel,
    random_integers,
    random_truncated_normal,
)
from .dynamic import dynamic_slice, dynamic_update
from .einsum import einsum
from .fft import fft, fft2, frames, ifft, ifft2, irfft, istft, overlap_add, rfft, stft
from .gather_nd import gather_nd
from .im2col import col2im, im2col
from .index import iota, one_hot, take, take_along_axis
from .lift import (
    axes_tuple,
    broadcast_shapes,
    broadcast_to,
    cast,
    constant,
    floating,
    full,
    is_scalar,
    one_axis,
    ones,
    ones_like,
    operands,
    reshape,
    zeros,
    zeros_like,
)
from .linalg import (
    cholesky,
    cholesky_inverse,
    det,
    eig,
    eigh,
    inv,
    lstsq,
    lu_factor,
    matrix_diagonal,
    matrix_power,
    matrix_rank,
    norm,
    pinv,
    qr,
    slogdet,
    solve,
    solve_triangular,
    svd,
)
from .looping import cond, scan, while_loop
from .maxpool import max_pool
from .movement import concat, expand_dims, inverse, squeeze, stack, tile, transpose
from .pointwise import (
    abs_,
    acos,
    acosh,
    add,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    bessel_i0e,
    bessel_i1e,
    bitcast,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    cbrt,
    ceil,
    clip,
    copysign,
    cos,
    cosh,
    cospi,
    count_leading_zeros,
    digamma,
    div,
    eq,
    erf,
    erfc,
    erfinv,
    exp,
    exp2,
    expm1,
    floor,
    floordiv,
    gcd,
    ge,
    gt,
    hypot,
    isfinite,
    isinf,
    isnan,
    le,
    lgamma,
    log,
    log1p,
    log2,
    log10,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    maximum,
    minimum,
    mod,
    mul,
    ne,
    neg,
    popcount,
    power,
    reciprocal,
    rem,
    round_,
    rsqrt,
    shift_left,
    shift_right,
    sigmoid,
    sign,
    signbit,
    sin,
    sinh,
    sinpi,
    sqrt,
    square,
    stop_gradient,
    sub,
    tan,
    tanh,
    trunc,
    trunc_div,
    where,
)
from .pooling import adaptive_avg_pool, adaptive_max_pool, max_pool_with_positions, max_unpool
from .quantize import dequantize_linear, dynamic_quantize, integer_matmul, quantize_linear, saturating_cast
from .random import random_bits, random_normal, random_uniform
from .reduce import all_, any_, argmax, argmin, max_, mean, min_, prod, sum_, var
from .resample import resample
from .resize import resize
from .result import results
from .roi_align import roi_align
from .sampling import map_coordinates, sample
from .scatter import scatter, scatter_add, scatter_along_axis, scatter_nd
from .search import bincount, digitize, histogram, searchsorted, segment_reduce
from .slicing import flip, pad, slice_, split
from .sort import argsort, median, permutation, quantile, shuffle, sort, top_k
from .window import avg_pool, sum_pool

__all__ = [
    "abs_", "acos", "acosh", "adaptive_avg_pool", "adaptive_max_pool", "add", "all_", "any_", "argmax", "argmin",
    "argsort", "asin", "asinh", "atan", "atan2", "atanh", "attention", "avg_pool", "bessel_i0", "bessel_i0e", "bessel_i1",
    "bessel_i1e", "bincount", "bitcast", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "broadcast_shapes",
    "broadcast_to", "cast", "cbrt", "ceil", "cholesky", "cholesky_inverse", "clip", "col2im", "concat", "cond", "constant",
    "conv", "conv_transpose", "copysign", "cos", "cosh", "cospi", "count_leading_zeros", "cumlogsumexp", "cummax",
    "cummin", "cumprod", "cumsum", "dequantize_linear", "det", "diagonal", "diagonal_matrix", "digamma", "digitize", "div",
    "dot_general", "dynamic_quantize", "dynamic_slice", "dynamic_update", "eig", "eigh", "einsum", "eq", "erf", "erfc",
    "erfinv", "exp", "exp2", "expand_dims", "expm1", "fft", "fft2", "flip", "floor", "floordiv", "frames", "full",
    "gather_nd", "gcd", "ge", "gelu", "gt", "histogram", "hypot", "ifft", "ifft2", "im2col", "integer_matmul", "inv",
    "iota", "irfft", "isfinite", "isinf", "isnan", "istft", "layer_norm", "lcm", "ldexp", "le", "lgamma",
    "linear_recurrence", "log", "log10", "log1p", "log2", "log_softmax", "logaddexp", "logical_and", "logical_not",
    "logical_or", "logical_xor", "logsumexp", "lstsq", "lt", "lu_factor", "map_coordinates", "matmul", "matrix_diagonal",
    "matrix_power", "matrix_rank", "max_", "max_pool", "max_pool_with_positions", "max_unpool", "maximum", "mean",
    "median", "min_", "minimum", "mod", "mul", "ne", "neg", "nextafter", "norm", "one_hot", "ones", "ones_like",
    "overlap_add", "pad", "permutation", "pinv", "polygamma", "popcount", "power", "prod", "qr", "quantile",
    "quantize_linear", "random_bernoulli", "random_beta", "random_binomial", "random_bits", "random_categorical",
    "random_exponential", "random_gamma", "random_gumbel", "random_integers", "random_normal", "random_truncated_normal",
    "random_uniform", "reciprocal", "relu", "rem", "resample", "reshape", "resize", "results", "rfft", "roi_align",
    "round_", "rsqrt", "sample", "saturating_cast", "scan", "scatter", "scatter_add", "scatter_along_axis", "scatter_nd",
    "searchsorted", "segment_reduce", "shift_left", "shift_right", "shuffle", "sigmoid", "sign", "signbit", "silu", "sin",
    "sinc", "sinh", "sinpi", "slice_", "slogdet", "softmax", "softplus", "solve", "solve_triangular", "sort", "split",
    "sqrt", "square", "squeeze", "stack", "stft", "stop_gradient", "sub", "sum_", "sum_pool", "svd", "take",
    "take_along_axis", "tan", "tanh", "tile", "top_k", "transpose", "tri", "tril", "triu", "trunc", "trunc_div", "var",
    "where", "while_loop", "zeros", "zeros_like",
]
