"""Sizes that carry their expression: ``Dim`` is an int that remembers how it came from free dimensions.

A model is traced with example values for its free dimensions. Arithmetic on a ``Dim`` gives a ``Dim``, so every
extent, stride, offset and trip count of the finished plan is a polynomial over the free dimensions and can be
evaluated for other values. Where a pass *compares* a ``Dim``, the outcome is recorded as a guard: a plan serves all values
for which every guard comes out as it did, and no others. ``key`` gives what interning must use (8 and batch = 8 differ).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from math import prod

# A polynomial: ((monomial, coefficient), ...) sorted; a monomial is a sorted tuple of atoms; an atom is a name or
# an opaque operation ("//" | "%" | "max" | "min", polynomial, polynomial).
Poly = tuple

_GUARDS: ContextVar[dict | None] = ContextVar("kerogen_guards", default=None)


def _poly(x: int) -> Poly:
    if type(x) is Dim:
        return x.expr
    return (((), int(x)),) if x else ()


def _atom_key(atom) -> str:
    return atom if isinstance(atom, str) else repr(atom)


def _normal(terms: dict) -> Poly:
    return tuple(sorted(((m, c) for m, c in terms.items() if c), key=repr))


def _add(a: Poly, b: Poly, scale: int = 1) -> Poly:
    terms = dict(a)
    for m, c in b:
        terms[m] = terms.get(m, 0) + scale * c
    return _normal(terms)


def _mul(a: Poly, b: Poly) -> Poly:
    terms: dict = {}
    for ma, ca in a:
        for mb, cb in b:
            m = tuple(sorted(ma + mb, key=_atom_key))
            terms[m] = terms.get(m, 0) + ca * cb
    return _normal(terms)


_OPS = {"//": lambda a, b: a // b, "%": lambda a, b: a % b, "max": max, "min": min}


def evaluate(expr: Poly, values: Mapping[str, int]) -> int:
    """The value of a polynomial where each free dimension has the value given by its name."""
    total = 0
    for monomial, coefficient in expr:
        for atom in monomial:
            coefficient *= values[atom] if isinstance(atom, str) else _OPS[atom[0]](
                evaluate(atom[1], values), evaluate(atom[2], values))
        total += coefficient
    return total


class Dim(int):
    """An int with ``expr``, its polynomial over free dimensions. ``Dim.free("batch", 32)`` makes a new one."""

    expr: Poly

    def __new__(cls, value: int, expr: Poly):
        self = super().__new__(cls, value)
        self.expr = expr
        return self

    @staticmethod
    def free(name: str, value: int) -> Dim:
        return Dim(value, (((name,), 1),))

    def __reduce__(self):
        return _of, (int(self), self.expr)

    def __add__(self, o):
        return _of(int(self) + int(o), _add(self.expr, _poly(o))) if isinstance(o, int) else NotImplemented

    __radd__ = __add__

    def __sub__(self, o):
        return _of(int(self) - int(o), _add(self.expr, _poly(o), -1)) if isinstance(o, int) else NotImplemented

    def __rsub__(self, o):
        return _of(int(o) - int(self), _add(_poly(o), self.expr, -1)) if isinstance(o, int) else NotImplemented

    def __mul__(self, o):
        return _of(int(self) * int(o), _mul(self.expr, _poly(o))) if isinstance(o, int) else NotImplemented

    __rmul__ = __mul__

    def __neg__(self):
        return _of(-int(self), _mul(self.expr, _poly(-1)))

    def __floordiv__(self, o):
        return _divide("//", self, o) if isinstance(o, int) else NotImplemented

    def __rfloordiv__(self, o):
        return _divide("//", o, self) if isinstance(o, int) else NotImplemented

    def __mod__(self, o):
        return _divide("%", self, o) if isinstance(o, int) else NotImplemented

    def __rmod__(self, o):
        return _divide("%", o, self) if isinstance(o, int) else NotImplemented

    def __eq__(self, o):
        return _compare("==", self, o)

    def __ne__(self, o):
        r = _compare("==", self, o)
        return r if r is NotImplemented else not r

    def __lt__(self, o):
        return _compare("<", self, o)

    def __le__(self, o):
        return _compare("<=", self, o)

    def __gt__(self, o):
        r = _compare("<=", self, o)
        return r if r is NotImplemented else not r

    def __ge__(self, o):
        r = _compare("<", self, o)
        return r if r is NotImplemented else not r

    def __bool__(self):
        return not _compare("==", self, 0)

    __hash__ = int.__hash__

    def __str__(self):
        return text(self)

    def __repr__(self):
        return f"{text(self)}={int(self)}"


def _of(value: int, expr: Poly) -> int:
    """A Dim, or a plain int where the expression came out constant."""
    if not expr or (len(expr) == 1 and expr[0][0] == ()):
        return int(value)
    return Dim(value, expr)


def _divide(op: str, a: int, b: int) -> int:
    value = _OPS[op](int(a), int(b))
    pa, pb = _poly(a), _poly(b)
    if pa == pb:
        return 1 if op == "//" else 0
    if len(pb) == 1:  # a monomial divisor that divides every term leaves no opaque atom
        (mb, cb), = pb
        out, rest = {}, {}
        for m, c in pa:
            left = list(m)
            try:
                for atom in mb:
                    left.remove(atom)
                fits = c % cb == 0
            except ValueError:
                fits = False
            if fits:
                out[tuple(left)] = c // cb
            else:
                rest[m] = c
        if not rest:
            return _of(value, _normal(out)) if op == "//" else 0
        if not mb and out:  # (q*b + r) // b = q + r // b
            r = _normal(rest)
            if len(r) == 1 and r[0][0] == ():
                part = _OPS[op](r[0][1], cb)
                return _of(value, _add(_normal(out), _poly(part))) if op == "//" else int(value)
            tail = (((op, r, pb),), 1)
            return _of(value, _add(_normal(out), (tail,)) if op == "//" else (tail,))
    return _of(value, ((((op, pa, pb),), 1),))


def _compare(op: str, a: int, b) -> bool:
    if not isinstance(b, int):
        return NotImplemented
    pa, pb = _poly(a), _poly(b)
    if pa == pb:
        return op != "<"
    result = int.__eq__(a, int(b)) if op == "==" else int.__lt__(a, int(b)) if op == "<" else int.__le__(a, int(b))
    guards = _GUARDS.get()
    if guards is not None:
        difference = _add(pa, pb, -1)
        if not _decided(op, difference):
            guards[(op, difference)] = result
    return result


def _decided(op: str, difference: Poly) -> bool:
    """True where ``difference OP 0`` has the same outcome for all free dimensions >= 1 (no guard needed)."""
    if any(not isinstance(atom, str) for m, _ in difference for atom in m):
        return False
    coefficients = [c for _, c in difference]
    constant = sum(c for m, c in difference if not m)
    # Each non-constant monomial is at least 1 (sizes are), so the least and greatest sums are known if signs agree.
    varying = [c for m, c in difference if m]
    if all(c > 0 for c in varying):
        low = constant + sum(varying)
        return low > 0 or (op == "<" and low >= 0)
    if all(c < 0 for c in varying):
        high = constant + sum(varying)
        return high < 0 or (op == "<=" and high <= 0)
    return not coefficients


def dim_max(a: int, b: int) -> int:
    """max that stays an expression: no guard is recorded."""
    return _extreme("max", a, b)


def dim_min(a: int, b: int) -> int:
    """min that stays an expression: no guard is recorded."""
    return _extreme("min", a, b)


def _extreme(op: str, a: int, b: int) -> int:
    pa, pb = _poly(a), _poly(b)
    value = _OPS[op](int(a), int(b))
    if pa == pb or not (isinstance(a, Dim) or isinstance(b, Dim)):
        return a if pa == pb else value
    return _of(value, ((((op, pa, pb),), 1),))


def ceil_div(a: int, b: int) -> int:
    """The least integer >= a / b, as an expression where a or b is one."""
    return (a + b - 1) // b


def size(shape: Iterable[int]) -> int:
    """Number of elements of a shape (math.prod would drop expressions only if it used C ints; it doesn't)."""
    return prod(shape)


def key(x):
    """What interning compares: the expression of a Dim, else the value; tuples element by element."""
    if type(x) is Dim:
        return ("dim", x.expr)
    if type(x) is tuple:
        return tuple([key(v) for v in x])
    return x


def exact(x):
    """``key`` and the present values: what may be shared between compilations for other sizes of the same model (a Dim that is
    compared records the outcome for *its* value)."""
    if type(x) is Dim:
        return ("dim", x.expr, int(x))
    if type(x) is tuple:
        return tuple([exact(v) for v in x])
    return x


def resolve(x: int, values: Mapping[str, int]) -> int:
    """A plain int: the value of ``x`` where the free dimensions have these values."""
    return evaluate(x.expr, values) if type(x) is Dim else int(x)


def text(x: int) -> str:
    """``4*batch + 1`` for a Dim, the digits for an int."""
    if type(x) is not Dim:
        return str(int(x))
    out = []
    for m, c in x.expr:
        atoms = [a if isinstance(a, str) else _opaque_text(a) for a in m]
        if c != 1 or not atoms:
            atoms.insert(0, str(c))
        out.append("*".join(atoms))
    return "+".join(out).replace("+-", "-")


def _opaque_text(atom) -> str:
    op, a, b = atom
    left, right = (text(_of(0, p)) if not _is_constant(p) else str(_constant(p)) for p in (a, b))
    return f"{op}({left},{right})" if op in ("max", "min") else f"(({left}){op}({right}))"


def _is_constant(p: Poly) -> bool:
    return not p or (len(p) == 1 and p[0][0] == ())


def _constant(p: Poly) -> int:
    return p[0][1] if p else 0


@contextlib.contextmanager
def recording() -> Iterator[dict]:
    """Collects guards: {(relation, difference): outcome}, for ``holds``."""
    guards: dict = {}
    token = _GUARDS.set(guards)
    try:
        yield guards
    finally:
        _GUARDS.reset(token)


@contextlib.contextmanager
def unguarded() -> Iterator[None]:
    """Comparisons inside record nothing: for choices that don't affect the plan's meaning (printing, estimates)."""
    token = _GUARDS.set(None)
    try:
        yield
    finally:
        _GUARDS.reset(token)


def replay(guards: Mapping) -> None:
    """Adds comparisons that were recorded elsewhere to the ones being recorded here."""
    current = _GUARDS.get()
    if current is not None:
        current.update(guards)


def guard_text(op: str, difference: Poly, outcome: bool) -> str:
    """A recorded comparison in words: ``4*batch < 9``, or its opposite where it came out false."""
    rest = _constant(tuple([(m, c) for m, c in difference if not m]))
    left = text(_of(0, tuple([(m, c) for m, c in difference if m])))
    sign = op if outcome else {"==": "!=", "<": ">=", "<=": ">"}[op]
    return f"{left} {sign} {-rest}"


def holds(guards: Mapping, values: Mapping[str, int]) -> bool:
    """Whether every recorded comparison has its recorded outcome at these values."""
    for (op, difference), outcome in guards.items():
        d = evaluate(difference, values)
        if (d == 0 if op == "==" else d < 0 if op == "<" else d <= 0) != outcome:
            return False
    return True
