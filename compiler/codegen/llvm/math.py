"""Elementary and special functions as polynomials in IR, for float and double, scalars and vectors of any width. No libm.

Every function is right over the whole range: inf, nan, denormals, signed zeros, overflow and underflow. ``codegen.accuracy``
has the bound of each, in units of the last place.
"""

from __future__ import annotations

from .bessel import Bessel
from .error_function import ErrorFunction
from .gamma import Gamma
from .remainder import Remainder
from .root import Root


class VectorMath(Gamma, ErrorFunction, Bessel, Root, Remainder):
    """Emits functions of floats at a builder's cursor. ``isa`` may give faster forms (see ``isa``)."""
