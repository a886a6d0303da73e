"""How far each function of floats may be from the true value, in units of the last place (ULP) of the result.

One table for both backends. ``tests/codegen/llvm/test_math.py`` and ``tests/codegen/triton/test_math.py`` draw arguments from
every binade, of both signs, denormals, the neighbourhood of hard arguments and the special values, and hold every function to
its row against an oracle of higher precision. 16-bit floats are computed in float32 and rounded once more.

``float32`` and ``float64`` are the LLVM backend's bounds where the target has fused multiply-add; with two roundings instead
(x86-64-v2) add ``without_fma``. ``triton`` are the Triton backend's for float32 and float64, measured in Triton's
interpreter. ``exp``, ``exp2``, ``log``, ``log2``, ``sin``, ``cos`` and ``erf`` are Triton's own there: the interpreter takes
NumPy's (sin and cos of huge float64 arguments are its worst), and a GPU takes CUDA's libdevice, but for float32 ``exp``,
whose instruction errs by 2 + 1.2 |x| ULP (CUDA C Programming Guide, "Intrinsic Functions", __expf). No bound here was
measured on a GPU.

Errors of results below the least normal number count in units of the least denormal. Where ``beside`` is set, a result that
cancels (near a zero that is not a special point) counts in units of the greater of the result and the terms that meet there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Accuracy:
    """Bounds in ULP, and the method."""

    float32: float
    float64: float
    triton: tuple[float, float]
    method: str
    without_fma: float = 1.0
    beside: str = ""


ACCURACY: dict[str, Accuracy] = {
    "exp": Accuracy(1, 1, (4, 1), "Cody-Waite reduction by ln 2, minimax polynomial, exact scaling by 2^n"),
    "exp2": Accuracy(1, 1, (4, 1), "minimax polynomial of 2^r, |r| <= 1/2, exact scaling"),
    "expm1": Accuracy(2, 2, (4, 4), "exp's polynomial of exp(r)-1, then 2^n p + (2^n - 1); Triton: Kahan's correction of exp and log"),
    "log": Accuracy(1, 1, (4, 1), "FreeBSD's series in s = f/(2+f)"),
    "log2": Accuracy(1, 1, (4, 1), "the same in two words times 1/ln 2 in two; powers of 2 are exact"),
    "log10": Accuracy(1, 1, (2, 2), "the same in two words times 1/ln 10 in two"),
    "log1p": Accuracy(2, 2, (4, 4), "log, carrying the rounding of 1 + x; Triton: Kahan's correction"),
    "sqrt": Accuracy(0.5, 0.5, (0.5, 0.5), "the instruction", without_fma=0),
    "rsqrt": Accuracy(1.5, 1.5, (1.5, 1.5), "1/sqrt", without_fma=0),
    "cbrt": Accuracy(1, 1, (1, 1), "a third of the exponent, polynomial, one step of Newton's; float through double"),
    "hypot": Accuracy(1, 1, (1, 1), "scaled, sqrt of a sum in two words; float through double"),
    "tanh": Accuracy(3, 3, (4, 4), "-t/(t+2), t = expm1(-2|x|); Triton: Cephes"),
    "sigmoid": Accuracy(3, 3, (4, 4), "1/(1+e) or e/(1+e), e = exp(-|x|)"),
    "erf": Accuracy(1.5, 2, (2, 2), "odd polynomial below about 1, else 1 - exp(polynomial)"),
    "erfc": Accuracy(4, 4, (4, 4), "exp(-x^2) p((x-K)/(x+K)) / (1+2x), x^2 in two words"),
    "erfinv": Accuracy(1, 5, (1, 5), "polynomials in log(1-x^2) and its root; float through double"),
    "sinh": Accuracy(1, 3, (6, 6), "from expm1; float through double"),
    "cosh": Accuracy(1, 3, (6, 4), "from exp; float through double"),
    "asinh": Accuracy(1, 4, (4, 4), "from log1p; float through double"),
    "acosh": Accuracy(1, 4, (4, 4), "from log1p; float through double"),
    "atanh": Accuracy(1, 4, (6, 6), "from log1p; float through double"),
    "sin": Accuracy(1, 1, (2, 8), "Cody-Waite by pi/2 to 2^20, beyond it Payne-Hanek in integers; float through double"),
    "cos": Accuracy(1, 1, (2, 8), "as sin"),
    "tan": Accuracy(1, 3, (4, 16), "as sin, one division"),
    "sinpi": Accuracy(1, 1, (1, 1), "exact reduction, sin's kernels; float through double"),
    "cospi": Accuracy(1, 1, (1, 1), "as sinpi"),
    "asin": Accuracy(1, 3, (4, 4), "atan's polynomial after two reductions; Triton: fdlibm; float through double"),
    "acos": Accuracy(1, 3, (4, 4), "as asin"),
    "atan": Accuracy(1, 3, (4, 4), "as asin"),
    "atan2": Accuracy(1, 4, (4, 4), "as asin"),
    "pow": Accuracy(1, 2, (1, 2), "log in two doubles, exp with a correction; float through double"),
    "lgamma": Accuracy(1, 5, (1, 5), "factored polynomial about 1 and 2, recurrence, Stirling; float through double",
                       beside="x < 0: log gamma(|x|), log pi"),
    "digamma": Accuracy(1, 6, (1, 6), "factored polynomial about the positive zero, recurrence, asymptotic series; float through double",
                        beside="x < 0: digamma(|x|), 1/x, pi cot(pi x)"),
    "i0e": Accuracy(1, 4, (1, 4), "power series to 7.75, polynomial in 1/x beyond; float through double"),
    "i1e": Accuracy(1, 4, (1, 4), "as i0e"),
}
