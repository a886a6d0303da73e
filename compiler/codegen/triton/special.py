"""Special functions as Triton text, in float64; float32 goes through it. The methods and coefficients are the LLVM backend's."""

from __future__ import annotations

from .. import approximations as a


def _horner(x: str, coefficients) -> str:
    """c0 + c1 x + ... as nested text."""
    text = repr(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        text = f"({text} * {x} + {c!r})"
    return text


def _through_double(name: str, arity: int = 1) -> str:
    args = "xy"[:arity]
    wide = ", ".join(f"tl.cast({v}, tl.float64)" for v in args)
    return f"def k_{name}_f32({', '.join(args)}):\n    return k_{name}_f64({wide}).to(tl.float32)\n"


_UNARY = ("cbrt", "erfc", "erfinv", "sinpi", "cospi", "lgamma", "digamma", "i0e", "i1e")

TEXT = f'''
def k_sinpi_parts(x):
    t = x - 2.0 * k_round_f64(x * 0.5)
    n = k_round_f64(t * 2.0)
    f = t - n * 0.5
    h = f * 3.141592653589793
    l = tl.fma(f, f * 0 + 3.141592653589793, -h) + f * 1.2246467991473532e-16
    c = tl.cos(h)
    s = tl.sin(h)
    return s + l * c, c - l * s, n.to(tl.int32) & 3

def k_sinpi_f64(x):
    a = tl.abs(x)
    s, c, q = k_sinpi_parts(tl.where(a < 9007199254740992.0, x, x * 0.0))
    y = tl.where((q & 1) != 0, c, s)
    y = tl.where((q & 2) != 0, -y, y)
    y = tl.where(k_trunc(x) == x, x * 0.0, y)
    y = tl.where(a < 1e-100, x * 3.141592653589793, y)
    return tl.where(a < float("inf"), y, x - x)

def k_cospi_f64(x):
    a = tl.abs(x)
    s, c, q = k_sinpi_parts(tl.where(a < 9007199254740992.0, x, x * 0.0))
    y = tl.where((q & 1) != 0, -s, c)
    y = tl.where((q & 2) != 0, -y, y)
    y = tl.where(tl.abs(x - k_trunc(x)) == 0.5, a * 0.0, y)
    return tl.where(a < float("inf"), y, x - x)

def k_cbrt_f64(x):
    a = tl.abs(x)
    tiny = a < 2.2250738585072014e-308
    a = tl.where(tiny, a * 18014398509481984.0, a)
    b = (a.to(tl.int64, bitcast=True) >> 32) // 3 + 715094163
    t = (b << 32).to(tl.float64, bitcast=True)
    r = (t * t) * (t / tl.where(a == 0, 1.0, a))
    t = t * {_horner("r", (1.87595182427177009643, -1.88497979543377169875, 1.621429720105354466140, -0.758397934778766047437,
                           0.145996192886612446982))}
    t = ((t.to(tl.int64, bitcast=True) + 0x80000000) & -0x40000000).to(tl.float64, bitcast=True)
    r = a / (t * t)
    r = (r - t) / (t + t + r)
    t = t + t * r
    t = tl.where(tiny, t * 3.814697265625e-06, t)
    t = tl.where((a == 0) | (a == float("inf")) | (a != a), a, t)
    return tl.where(x == 0, x, tl.where(x < 0, -t, t))

def k_hypot_f64(x, y):
    a = tl.abs(x)
    b = tl.abs(y)
    m = tl.maximum(a, b)
    n = tl.minimum(a, b)
    big = m > 1e150
    tiny = m < 1e-135
    down = tl.where(big, 2.409919865102884e-181, tl.where(tiny, 4.149515568880993e+180, 1.0))
    m = m * down
    n = n * down
    s = m * m
    e = tl.fma(m, m, -s)
    t = n * n
    d = tl.fma(n, n, -t)
    u = s + t
    rest = (t - (u - s)) + (e + d)
    h = tl.sqrt(u)
    p = h * h
    rest = ((u - p) - tl.fma(h, h, -p)) + rest
    h = tl.where(u > 0, h + rest / tl.where(u > 0, h + h, 1.0), h)
    h = h * tl.where(big, 4.149515568880993e+180, tl.where(tiny, 2.409919865102884e-181, 1.0))
    h = tl.where((x != x) | (y != y), a + b, h)
    return tl.where((a == float("inf")) | (b == float("inf")), float("inf"), h)

def k_hypot_f32(x, y):
    a = tl.cast(x, tl.float64)
    b = tl.cast(y, tl.float64)
    h = tl.sqrt(a * a + b * b).to(tl.float32)
    return tl.where((tl.abs(x) == float("inf")) | (tl.abs(y) == float("inf")), float("inf"), h)

def k_erfc_f64(x):
    a = tl.abs(x)
    a = tl.where(a > 28.0, 28.0, a)
    q = (a - {a.ERFC_K}) / (a + {a.ERFC_K})
    p = {_horner("q", a.ERFC)} / (1.0 + 2.0 * a)
    s = a * a
    l = tl.fma(a, a, -s)
    e = tl.exp(-s)
    t = (e - e * l) * p
    return tl.where(x != x, x, tl.where(x < 0, 2.0 - t, t))

def k_erfinv_f64(x):
    a = tl.abs(x)
    inside = a < 1.0
    b = tl.where(inside, a, 0.0)
    near = -tl.log((1.0 - b) * (1.0 + b))
    w = tl.where(a > 0.5, near, -k_log1p(-b * b))
    s = tl.sqrt(tl.where(w > 6.25, w, 6.25))
    u = tl.where(w > 6.25, 6.25, w) - 3.125
    v = tl.where(s > 4.0, 4.0, s) - 3.25
    t = s - {a.ERFINV_TAIL_AT}
    centre = {_horner("u", a.ERFINV_CENTRE)}
    middle = {_horner("v", a.ERFINV_MIDDLE)}
    tail = {_horner("t", a.ERFINV_TAIL)}
    y = tl.where(w <= 6.25, centre, tl.where(s <= 4.0, middle, tail)) * x
    edge = tl.where(a == 1.0, x * float("inf"), float("nan"))
    return tl.where(inside, y, edge)

def k_lgamma_positive(x):
    least = x < 0.5
    left = x < 1.5
    large = x >= 8.0
    y = tl.where(large, 8.0, x)
    p = x * 0.0 + 1.0
    for _ in range(5):
        above = y >= 3.0
        y = tl.where(above, y - 1.0, y)
        p = tl.where(above, p * y, p)
    d = tl.where(least, x, tl.where(left, x - 1.0, y - 2.0))
    d = tl.where(d > 1.0, 1.0, d)
    f = d * tl.where(left & (x >= 0.5), x, d + 1.0)
    u = d - 0.25
    near = f * {_horner("u", a.LGAMMA)}
    l = tl.log(tl.where(least, tl.fma(x, x, x), tl.where(left | large, x, p)))
    near = tl.where(left, near - l, near + l)
    i = 1.0 / x
    z = i * i
    far = tl.fma(x - 0.5, l - 1.0, i * {_horner("z", a.STIRLING)} + 0.4189385332046727)
    return tl.where(large, far, near)

def k_lgamma_f64(x):
    a = tl.abs(x)
    b = tl.where((a == 0) | (a == float("inf")), 1.0, a)
    y = k_lgamma_positive(b)
    s = tl.abs(k_sinpi_f64(b))
    t = b * s
    r = (1.1447298858494002 - tl.log(tl.where(t == 0, 1.0, t))) - y
    r = tl.where(b < 1e-21, y, tl.where(s == 0, float("inf"), r))
    y = tl.where(x < 0, r, y)
    return tl.where(x != x, x, tl.where((a == 0) | (a == float("inf")), float("inf"), y))

def k_digamma_positive(x):
    left = x < 1.0
    large = x >= 8.0
    y = tl.where(large, 8.0, x)
    num = x * 0.0
    den = num + 1.0
    for _ in range(6):
        above = y >= 2.0
        y = tl.where(above, y - 1.0, y)
        num = tl.where(above, tl.fma(num, y, den), num)
        den = tl.where(above, den * y, den)
    num = tl.where(left, -1.0, num)
    den = tl.where(left, x, den)
    d = tl.where(left, y - {a.DIGAMMA_ROOT - 1.0!r}, y - {a.DIGAMMA_ROOT!r}) - {a.DIGAMMA_ROOT_LOW!r}
    u = tl.where(left, y - 0.5, y - 1.5)
    near = d * {_horner("u", a.DIGAMMA)} + num / den
    i = 1.0 / x
    z = i * i
    far = tl.log(x) - tl.fma(z, {_horner("z", a.DIGAMMA_LARGE)}, i * 0.5)
    return tl.where(large, far, near)

def k_digamma_f64(x):
    a = tl.abs(x)
    odd = (a == 0) | (a == float("inf"))
    b = tl.where(odd, 1.0, a)
    y = k_digamma_positive(b)
    s = k_sinpi_f64(b)
    c = k_cospi_f64(b)
    r = (y + 1.0 / b) + (3.141592653589793 * c) / tl.where(s == 0, 1.0, s)
    r = tl.where(b < 1e-21, 1.0 / b, tl.where(s == 0, float("nan"), r))
    y = tl.where(x < 0, r, y)
    edge = tl.where(a == 0, k_copysign(a + float("inf"), -1.0 / x), tl.where(x > 0, x, float("nan")))
    return tl.where(x != x, x, tl.where(odd, edge, y))

def k_i0e_f64(x):
    a = tl.abs(x)
    t = tl.where(a > {a.BESSEL_SPLIT}, {a.BESSEL_SPLIT}, a)
    z = t * t * 0.25
    near = tl.exp(-t) * {_horner("z", a.BESSEL_I0)}
    b = tl.where(a < {a.BESSEL_SPLIT}, {a.BESSEL_SPLIT}, a)
    v = {a.BESSEL_SPLIT} / b - 0.5
    far = {_horner("v", a.BESSEL_I0_LARGE)} / tl.sqrt(b)
    return tl.where(x != x, x, tl.where(a <= {a.BESSEL_SPLIT}, near, tl.where(a == float("inf"), 0.0, far)))

def k_i1e_f64(x):
    a = tl.abs(x)
    t = tl.where(a > {a.BESSEL_SPLIT}, {a.BESSEL_SPLIT}, a)
    z = t * t * 0.25
    near = tl.where(a < 1e-18, a * 0.5, tl.exp(-t) * {_horner("z", a.BESSEL_I1)} * a)
    b = tl.where(a < {a.BESSEL_SPLIT}, {a.BESSEL_SPLIT}, a)
    v = {a.BESSEL_SPLIT} / b - 0.5
    far = {_horner("v", a.BESSEL_I1_LARGE)} / tl.sqrt(b)
    y = tl.where(a <= {a.BESSEL_SPLIT}, near, tl.where(a == float("inf"), 0.0, far))
    return tl.where((x == 0) | (x != x), x, tl.where(x < 0, -y, y))

def k_log10_f64(x):
    return tl.log(x) * 0.4342944819032518

def k_log10_f32(x):
    return (tl.log(tl.cast(x, tl.float64)) * 0.4342944819032518).to(tl.float32)

def k_floordiv_f64(x, y):
    r = k_rem_f64(x, y)
    q = (x - r) / tl.where(y == 0, 1.0, y)
    q = tl.where((r != 0) & ((r < 0) != (y < 0)), q - 1.0, q)
    f = tl.floor(q)
    f = tl.where(q - f > 0.5, f + 1.0, f)
    p = x / y
    f = tl.where(q == 0, k_copysign(q * 0.0, p), f)
    return tl.where(y == 0, p, f)

def k_floordiv_f32(x, y):
    return k_floordiv_f64(tl.cast(x, tl.float64), tl.cast(y, tl.float64)).to(tl.float32)

def k_popcount(x, BITS: tl.constexpr):
    n = x * 0
    for i in range(BITS):
        n += ((x >> i) & 1).to(n.dtype)
    return n

def k_clz(x, BITS: tl.constexpr):
    n = x * 0
    open_ = n + 1
    for i in range(BITS):
        open_ = tl.where(((x >> (BITS - 1 - i)) & 1) != 0, open_ * 0, open_)
        n += open_
    return n

def k_gcd(a, b, ROUNDS: tl.constexpr):
    for _ in range(ROUNDS):
        zero = b == 0
        r = a % tl.where(zero, b * 0 + 1, b)
        a = tl.where(zero, a, b)
        b = tl.where(zero, b, r)
    return a

def k_igcd(a, b, UNSIGNED: tl.constexpr, SIGNED: tl.constexpr, ROUNDS: tl.constexpr):
    return k_gcd(tl.abs(a).to(UNSIGNED, bitcast=True), tl.abs(b).to(UNSIGNED, bitcast=True), ROUNDS).to(SIGNED, bitcast=True)
''' + "\n" + "\n".join(_through_double(n) for n in _UNARY)
