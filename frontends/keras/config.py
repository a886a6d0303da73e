"""Global defaults of the Keras front end: the float type of new layers, the fuzz factor, the order of image axes."""

from __future__ import annotations

from typing import Any

from ...runtime.dtype import as_dtype
from ...runtime.errors import ArgumentError

__all__ = ["backend", "disable_interactive_logging", "dtype_policy", "enable_interactive_logging", "epsilon", "floatx", "image_data_format",
           "is_interactive_logging_enabled", "set_dtype_policy", "set_epsilon", "set_floatx", "set_image_data_format", "standardize_data_format",
           "standardize_dtype"]

_VALUES: dict[str, Any] = {"floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last", "interactive_logging": True}


def floatx() -> str:
    """The default float type, "float32" unless set."""
    return _VALUES["floatx"]


def set_floatx(value: str) -> None:
    if value not in ("float16", "bfloat16", "float32", "float64"):
        raise ArgumentError(f"unknown floatx {value!r}; it is 'bfloat16', 'float16', 'float32' or 'float64'")
    _VALUES["floatx"] = value


def epsilon() -> float:
    """The fuzz factor that keeps divisions and logarithms finite, 1e-7 unless set."""
    return _VALUES["epsilon"]


def set_epsilon(value: float) -> None:
    _VALUES["epsilon"] = float(value)


def image_data_format() -> str:
    """"channels_last" or "channels_first": what layers made without ``data_format`` take."""
    return _VALUES["image_data_format"]


def set_image_data_format(data_format: str) -> None:
    _VALUES["image_data_format"] = standardize_data_format(data_format)


def standardize_data_format(data_format: str | None) -> str:
    """The given order, or the default; refuses other names."""
    if data_format is None:
        return image_data_format()
    name = str(data_format).lower()
    if name not in ("channels_first", "channels_last"):
        raise ArgumentError(f"data_format is 'channels_first' or 'channels_last', not {data_format!r}")
    return name


def backend() -> str:
    return "kerogen"


def dtype_policy() -> Any:
    """The policy of layers made without ``dtype``."""
    from .dtype_policy import default_policy

    return default_policy()


def set_dtype_policy(policy: Any) -> None:
    from .dtype_policy import set_default_policy

    set_default_policy(policy)


def enable_interactive_logging() -> None:
    """``fit`` prints its progress to standard output (the default)."""
    _VALUES["interactive_logging"] = True


def disable_interactive_logging() -> None:
    _VALUES["interactive_logging"] = False


def is_interactive_logging_enabled() -> bool:
    return _VALUES["interactive_logging"]


def standardize_dtype(dtype: Any) -> str:
    """The dtype's name; None gives ``floatx()``."""
    return floatx() if dtype is None else as_dtype(dtype).name
