"""The functions that generated Triton kernels call: Triton source text, emitted where a kernel uses it.

Only what both Triton's compiler and its interpreter have is used (no ``tl.extra.libdevice``). One text serves float32 and float64 unless
the name ends in a type. Sources: fdlibm (atan, asin: rational approximations with error < 1 ulp in float64), Cephes (tanh, sinh: minimax
polynomials near 0), Kahan's corrections for log1p and expm1 (exact up to the error of log near 1). Bounds: ``codegen.accuracy``.
Remainders are exact: the rest of a rounded quotient is a floating-point number, so six steps of 52 bits reach any float32 quotient, and
float64 quotients up to 2**312. ``special`` has what is computed in float64 only.
"""

from __future__ import annotations

import re

from .special import TEXT as SPECIAL

FUNCTIONS: dict[str, str] = {}


def _define(text: str) -> None:
    for part in re.split(r"\n(?=def )", text.strip()):
        FUNCTIONS[re.match(r"def (\w+)", part).group(1)] = part.strip() + "\n"  # type: ignore[union-attr]


_define('''
def k_copysign(x, like):
    a = tl.abs(x)
    return tl.where((like < 0) | ((like == 0) & (1.0 / like < 0)), -a, a)

def k_copysign_f32(x, y):
    bits = (x.to(tl.int32, bitcast=True) & 0x7FFFFFFF) | (y.to(tl.int32, bitcast=True) & -0x80000000)
    return bits.to(tl.float32, bitcast=True)

def k_copysign_f64(x, y):
    bits = (x.to(tl.int64, bitcast=True) & 0x7FFFFFFFFFFFFFFF) | (y.to(tl.int64, bitcast=True) & -0x8000000000000000)
    return bits.to(tl.float64, bitcast=True)

def k_trunc(x):
    return tl.where(x < 0, tl.ceil(x), tl.floor(x))

def k_round_f32(x):
    a = tl.abs(x)
    r = (a + 8388608.0) - 8388608.0
    return tl.where(a < 8388608.0, tl.where(x < 0, -r, r), x)

def k_round_f64(x):
    a = tl.abs(x)
    r = (a + 4503599627370496.0) - 4503599627370496.0
    return tl.where(a < 4503599627370496.0, tl.where(x < 0, -r, r), x)

def k_div_f32(a, b):
    return tl.div_rn(a, b)

def k_div_f64(a, b):
    return a / b

def k_sqrt_f32(x):
    return tl.sqrt_rn(x)

def k_sqrt_f64(x):
    return tl.sqrt(x)

def k_rsqrt_f32(x):
    return tl.div_rn(1.0, tl.sqrt_rn(x))

def k_rsqrt_f64(x):
    return 1.0 / tl.sqrt(x)

def k_sign(x):
    return tl.where(x > 0, x * 0 + 1, tl.where(x < 0, x * 0 - 1, x))

def k_fsign(x):
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, x))

def k_usign(x):
    return tl.where(x != 0, x * 0 + 1, x)

def k_sigmoid(x):
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, e) / (1.0 + e)

def k_log1p(x):
    u = 1.0 + x
    d = u - 1.0
    c = tl.log(u) * (x / tl.where(d == 0, 1.0, d))
    return tl.where(d == 0, x, tl.where(tl.abs(u) < float("inf"), c, tl.log(u)))

def k_expm1(x):
    u = tl.exp(x)
    d = u - 1.0
    l = tl.log(u)
    c = d * (x / tl.where((l == 0) | (d == -1.0), 1.0, l))
    return tl.where(d == 0, x, tl.where(tl.abs(x) < 1.0, c, d))

def k_tanh_f32(x):
    a = tl.abs(x)
    s = x * x
    p = ((((-5.70498872745e-3 * s + 2.06390887954e-2) * s - 5.37397155531e-2) * s + 1.33314422036e-1) * s - 3.33332819422e-1) * s
    r = 1.0 - 2.0 / (tl.exp(a + a) + 1.0)
    return tl.where(a < 0.625, x + x * p, tl.where(x < 0, -r, r))

def k_tanh_f64(x):
    a = tl.abs(x)
    s = x * x
    p = (-9.64399179425052238628e-1 * s - 9.92877231001918586564e1) * s - 1.61468768441708447952e3
    q = ((s + 1.12811678491632931402e2) * s + 2.23548839060100448583e3) * s + 4.84406305325125486048e3
    r = 1.0 - 2.0 / (tl.exp(a + a) + 1.0)
    return tl.where(a < 0.625, x + x * s * (p / q), tl.where(x < 0, -r, r))

def k_cosh(x):
    e = tl.exp(0.5 * tl.abs(x))
    return (0.5 * e) * e + 0.5 / e / e

def k_sinh(x):
    a = tl.abs(x)
    m = k_expm1(tl.where(a < 1.0, a, 0.0))
    small = 0.5 * (m + m / (m + 1.0))
    e = tl.exp(0.5 * a)
    r = tl.where(a < 1.0, small, (0.5 * e) * e - 0.5 / e / e)
    return tl.where(x == 0, x, tl.where(x < 0, -r, r))

def k_atan(x):
    a = tl.abs(x)
    big = a > 1.0
    t = tl.where(big, 1.0 / tl.where(big, a, 1.0), a)
    mid = t > 0.4142135623730950488
    t = tl.where(mid, (t - 1.0) / (t + 1.0), t)
    z = t * t
    w = z * z
    s1 = z * (3.33333333333329318027e-01 + w * (1.42857142725034663711e-01 + w * (9.09088713343650656196e-02 + w * (
        6.66107313738753120669e-02 + w * (4.97687799461593236017e-02 + w * 1.62858201153657823623e-02)))))
    s2 = w * (-1.99999999998764832476e-01 + w * (-1.11111104054623557880e-01 + w * (-7.69187620504482999495e-02 + w * (
        -5.83357013379057348645e-02 + w * -3.65315727442169155270e-02))))
    r = t - t * (s1 + s2)
    r = tl.where(mid, 0.78539816339744830962 + r, r)
    r = tl.where(big, 1.57079632679489661923 - r, r)
    return tl.where(x == 0, x, tl.where(x < 0, -r, r))

def k_atan2(y, x):
    ax = tl.abs(x)
    ay = tl.abs(y)
    swap = ay > ax
    low = tl.where(swap, ax, ay)
    high = tl.where(swap, ay, ax)
    t = tl.where(high == low, 1.0, low / tl.where(high == 0, 1.0, high))
    r = k_atan(tl.where(high == 0, 0.0, t))
    r = tl.where(swap, 1.57079632679489661923 - r, r)
    r = tl.where((x < 0) | ((x == 0) & (1.0 / x < 0)), 3.14159265358979323846 - r, r)
    return tl.where((x != x) | (y != y), x + y, k_copysign(r, y))

def k_asin_core(z):
    p = z * (1.66666666666666657415e-01 + z * (-3.25565818622400915405e-01 + z * (2.01212532134862925881e-01 + z * (
        -4.00555345006794114027e-02 + z * (7.91534994289814532176e-04 + z * 3.47933107596021167570e-05)))))
    q = 1.0 + z * (-2.40339491173441421878e+00 + z * (2.02094576023350569471e+00 + z * (
        -6.88283971605453293030e-01 + z * 7.70381505559019352791e-02)))
    return p / q

def k_asin(x):
    a = tl.abs(x)
    small = a < 0.5
    z = tl.where(small, a * a, 0.5 * (1.0 - a))
    s = tl.where(small, a, tl.sqrt(z))
    r = s + s * k_asin_core(z)
    r = tl.where(small, r, 1.57079632679489661923 - 2.0 * r)
    return tl.where(x == 0, x, tl.where(x < 0, -r, r))

def k_acos(x):
    a = tl.abs(x)
    small = a < 0.5
    z = tl.where(small, x * x, 0.5 * (1.0 - a))
    s = tl.where(small, x, tl.sqrt(z))
    r = s + s * k_asin_core(z)
    return tl.where(small, 1.57079632679489661923 - r, tl.where(x < 0, 3.14159265358979323846 - 2.0 * r, 2.0 * r))

def k_asinh(x):
    a = tl.abs(x)
    big = a > 1e9
    b = tl.where(big, 1.0, a)
    s = b * b
    r = tl.where(big, tl.log(a) + 0.69314718055994530942, k_log1p(b + s / (1.0 + tl.sqrt(1.0 + s))))
    return tl.where(x == 0, x, tl.where(x < 0, -r, r))

def k_acosh(x):
    big = x > 1e9
    t = tl.where(big, 1.0, x - 1.0)
    r = tl.where(big, tl.log(x) + 0.69314718055994530942, k_log1p(t + tl.sqrt(2.0 * t + t * t)))
    return tl.where(x < 1.0, float("nan"), r)

def k_atanh(x):
    a = tl.abs(x)
    r = 0.5 * k_log1p((a + a) / (1.0 - a))
    return tl.where(x == 0, x, tl.where(x < 0, -r, r))

def k_log_pair(x):
    tiny = x < 2.2250738585072014e-308
    b = tl.where(tiny, x * 18014398509481984.0, x).to(tl.int64, bitcast=True) + 0x95F619980C433
    m = ((b & 0xFFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD).to(tl.float64, bitcast=True)
    k = (b >> 52).to(tl.float64) - tl.where(tiny, 1077.0, 1023.0)
    f = m - 1.0
    u = m + 1.0
    s = f / u
    p = s * u
    sl = (((f - p) - tl.fma(s, u, -p)) - s * (m - (u - 1.0))) / u
    z = s * s
    zl = tl.fma(s, s, -z) + (s + s) * sl
    c = z * 0.07407407407407407 + 0.08
    c = ((((c * z + 0.08695652173913043) * z + 0.09523809523809523) * z + 0.10526315789473684) * z + 0.11764705882352941) * z
    c = (((c + 0.13333333333333333) * z + 0.15384615384615385) * z + 0.18181818181818182) * z + 0.2222222222222222
    c = tl.fma(z, (c * z + 0.2857142857142857) * z + 0.4, z * 0 + 3.700743415417188e-17)
    h = c + 0.6666666666666666
    hl = c - (h - 0.6666666666666666)
    t = z * h
    tlow = tl.fma(z, h, -t) + (z * hl + zl * h)
    v = s * t
    vl = tl.fma(s, t, -v) + (s * tlow + sl * t)
    w = s + s
    hi = w + v
    lo = (v - (hi - w)) + ((sl + sl) + vl)
    n = k * 6.93147180369123816490e-01
    y = n + hi
    d = y - n
    e = ((n - (y - d)) + (hi - d)) + (k * 1.90821492927058770002e-10 + lo)
    q = y + e
    return q, e - (q - y)

def k_pow_f64(x, y):
    a = tl.abs(x)
    hi, lo = k_log_pair(tl.where((a == 0) | (a == float("inf")), 1.0, a))
    p = y * hi
    e = tl.where(tl.abs(p) < 760.0, tl.fma(y, hi, -p) + y * lo, 0.0)
    r = tl.exp(p)
    r = tl.where(r < float("inf"), r + r * e, r)
    r = tl.where(a == float("inf"), tl.where(y > 0, a, 0.0), r)
    whole = tl.floor(y) == y
    odd = whole & (tl.floor(y * 0.5) * 2.0 != y)
    r = tl.where(x < 0, tl.where(odd, -r, tl.where(whole, r, float("nan"))), r)
    r = tl.where((a == 0) & (y > 0), tl.where(odd, x, 0.0), r)
    r = tl.where((a == 0) & (y < 0), tl.where(odd, 1.0 / x, float("inf")), r)
    r = tl.where((a == float("inf")) & (x < 0), tl.where(y > 0, tl.where(odd, x, a), tl.where(odd, -0.0, 0.0)), r)
    r = tl.where((tl.abs(y) == float("inf")), tl.where(a == 1.0, 1.0, tl.where((a > 1.0) == (y > 0), float("inf"), 0.0)), r)
    r = tl.where((x != x) | (y != y), x + y, r)
    return tl.where((y == 0) | (x == 1.0), 1.0, r)

def k_pow_f32(x, y):
    return k_pow_f64(tl.cast(x, tl.float64), tl.cast(y, tl.float64)).to(tl.float32)

def k_ipow(x, y):
    b = x
    e = y
    r = x * 0 + 1
    for _ in range(64):
        r = tl.where((e & 1) != 0, r * b, r)
        b = b * b
        e = e >> 1
    return tl.where(y < 0, tl.where(x == 1, x, tl.where(x == -1, tl.where((y & 1) != 0, x, x * x), x * 0)), r)

def k_upow(x, y):
    b = x
    e = y
    r = x * 0 + 1
    for _ in range(64):
        r = tl.where((e & 1) != 0, r * b, r)
        b = b * b
        e = e >> 1
    return r

def k_idiv(a, b):
    zero = b == 0
    neg = b == -1
    q = a // tl.where(zero | neg, b * 0 + 1, b)
    return tl.where(zero, a * 0, tl.where(neg, 0 - a, q))

def k_udiv(a, b):
    zero = b == 0
    return tl.where(zero, a * 0, a // tl.where(zero, b * 0 + 1, b))

def k_irem(a, b):
    unit = (b == 0) | (b == -1)
    return tl.where(unit, a * 0, a % tl.where(unit, b * 0 + 1, b))

def k_urem(a, b):
    zero = b == 0
    return tl.where(zero, a * 0, a % tl.where(zero, b * 0 + 1, b))

def k_ifloordiv(a, b):
    q = k_idiv(a, b)
    r = k_irem(a, b)
    return tl.where((r != 0) & ((r < 0) != (b < 0)), q - 1, q)

def k_imod(a, b):
    r = k_irem(a, b)
    return tl.where((r != 0) & ((r < 0) != (b < 0)), r + b, r)

def k_rem_f64(x, y):
    b = tl.abs(y)
    a = tl.abs(x)
    r = a
    for _ in range(6):
        r = tl.fma(-k_trunc(r / b), b, r)
    r = tl.where(r < 0, r + b, r)
    r = tl.where(r >= b, r - b, r)
    r = tl.where((b == float("inf")) & (a < b), a, r)
    r = tl.where((b == 0) | (a == float("inf")), float("nan"), r)
    return k_copysign(r, x)

def k_rem_f32(x, y):
    return k_rem_f64(tl.cast(x, tl.float64), tl.cast(y, tl.float64)).to(tl.float32)

def k_mod_f64(x, y):
    r = k_rem_f64(x, y)
    s = tl.where((r != 0) & ((r < 0) != (y < 0)), r + y, r)
    return tl.where(r == 0, k_copysign(r, y), s)

def k_mod_f32(x, y):
    return k_mod_f64(tl.cast(x, tl.float64), tl.cast(y, tl.float64)).to(tl.float32)

def k_shl(a, b, BITS: tl.constexpr):
    inside = (b >= 0) & (b < BITS)
    return tl.where(inside, a << tl.where(inside, b, b * 0), a * 0)

def k_shr(a, b, BITS: tl.constexpr):
    inside = (b >= 0) & (b < BITS)
    return a >> tl.where(inside, b, b * 0 + (BITS - 1))

def k_ushr(a, b, BITS: tl.constexpr):
    inside = (b >= 0) & (b < BITS)
    return tl.where(inside, a >> tl.where(inside, b, b * 0), a * 0)

def k_saturate(x, WIDE: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr, LOW_F: tl.constexpr, HIGH_F: tl.constexpr):
    t = tl.where(x < 0, tl.ceil(x), tl.floor(x))
    inside = (t >= LOW_F) & (t < HIGH_F)
    r = tl.where(inside, t, 0.0).to(WIDE)
    return tl.where(inside, r, tl.where(t >= HIGH_F, tl.full([], HIGH, WIDE), tl.where(t < LOW_F, tl.full([], LOW, WIDE), r)))
''')
_define(SPECIAL)


def needed(names: list[str]) -> list[str]:
    """``names`` and what they call, each after what it calls."""
    out: list[str] = []

    def visit(name: str) -> None:
        if name in out:
            return
        for callee in re.findall(r"\b(k_\w+)\(", FUNCTIONS[name].split(":\n", 1)[1]):
            visit(callee)
        out.append(name)

    for n in names:
        visit(n)
    return out


def text(names: list[str]) -> str:
    """Source of the functions that a kernel uses, in an order in which each is defined before it is called."""
    return "".join(f"@triton.jit\n{FUNCTIONS[n]}\n\n" for n in needed(names))
