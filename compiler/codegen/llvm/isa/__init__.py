"""What differs between instruction sets, one file each: intrinsics, and which vector forms are fast."""

from __future__ import annotations

from importlib import import_module

from ....target import Target


def isa_of(target: Target):
    """The module of ``target``'s instruction set."""
    return import_module(f".{target.isa}", __name__)
