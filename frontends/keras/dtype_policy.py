"""Dtype policies: which type a layer's variables have and which type it computes in ("float32", "mixed_bfloat16", ...)."""

from __future__ import annotations

from typing import Any

from ...runtime.dtype import as_dtype
from ...runtime.errors import DTypeError, KerogenError
from . import config as settings

_DEFAULT: list[Any] = [None]


class DTypePolicy:
    """``name`` is a dtype's (computing and storing in it), or "mixed_float16" / "mixed_bfloat16" (storing float32)."""

    def __init__(self, name: str = "float32"):
        if not isinstance(name, str):
            raise DTypeError(f"a dtype policy is given by its name, a string, not {name!r}")
        self._name = name
        if name in ("mixed_float16", "mixed_bfloat16"):
            self._compute, self._variable = name[len("mixed_"):], "float32"
        else:
            try:
                self._compute = self._variable = as_dtype(name).name
            except KerogenError:
                raise DTypeError(f"unknown dtype policy {name!r}; it is a dtype's name ('float32', 'bfloat16', ...), "
                                 "'mixed_bfloat16' or 'mixed_float16'") from None

    @property
    def name(self) -> str:
        return self._name

    @property
    def compute_dtype(self) -> str:
        return self._compute

    @property
    def variable_dtype(self) -> str:
        return self._variable

    @property
    def quantization_mode(self) -> None:
        return None

    def get_config(self) -> dict:
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict) -> DTypePolicy:
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicy) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self.name}">'


FloatDTypePolicy = DTypePolicy


def default_policy() -> DTypePolicy:
    return _DEFAULT[0] or DTypePolicy(settings.floatx())


def set_default_policy(policy: Any) -> None:
    _DEFAULT[0] = None if policy is None else get(policy)


def get(identifier: Any) -> DTypePolicy:
    """A policy from a policy, its name, a dtype, or its serialised form; None gives the default."""
    if identifier is None:
        return default_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    return DTypePolicy(identifier if isinstance(identifier, str) else as_dtype(identifier).name)


def serialize(policy: DTypePolicy) -> dict:
    return {"module": "keras", "class_name": "DTypePolicy", "config": policy.get_config(), "registered_name": None}


def deserialize(config: dict) -> DTypePolicy:
    """The policy that ``serialize`` (ours or Keras') wrote. Quantised policies are refused by name."""
    name = config.get("class_name")
    if name not in ("DTypePolicy", "FloatDTypePolicy"):
        raise DTypeError(f"dtype policy of class {name!r} isn't supported: kerogen has 'DTypePolicy' "
                         "(float types and mixed_float16, mixed_bfloat16), so load the model before it was quantised")
    inner = config.get("config")
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise DTypeError(f"a dtype policy's config names it, as in {{'name': 'float32'}}; got {inner!r}")
    return DTypePolicy(inner["name"])
