"""Files that are either the old one or the whole new one, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from ...runtime.errors import ArgumentError


def write(path: str | os.PathLike, content: bytes, overwrite: bool = True) -> None:
    """Writes a temporary file beside ``path``, syncs it, and renames it. Refuses to replace a file unless ``overwrite``."""
    target = Path(path)
    if target.exists() and not overwrite:
        raise ArgumentError(f"{target} exists; pass overwrite=True to replace it")
    if not target.parent.is_dir():
        raise ArgumentError(f"the folder {target.parent} doesn't exist")
    fd, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    with contextlib.suppress(OSError):  # the rename itself, where folders can be synced
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
