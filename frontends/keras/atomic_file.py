"""Files that are either the old one or the whole new one, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from pathlib import Path

from ...runtime.errors import ArgumentError


def write(path: str | os.PathLike, content: bytes, overwrite: bool = True) -> None:
    """Writes a file that has no name yet, syncs it, and gives it the name ``path`` at once. Refuses to replace a file unless ``overwrite``."""
    target = Path(path)
    if target.exists() and not overwrite:
        raise ArgumentError(f"{target} exists; pass overwrite=True to replace it")
    if not target.parent.is_dir():
        raise ArgumentError(f"the folder {target.parent} doesn't exist")
    fd, temporary = _temporary(target)
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(f.fileno(), 0o666 & ~umask)
            if temporary is None:
                temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
                folder = os.open(target.parent, os.O_RDONLY)
                try:  # with a folder's descriptor Python calls linkat, which follows the link in /proc
                    os.link(f"/proc/self/fd/{f.fileno()}", temporary.name, dst_dir_fd=folder)
                finally:
                    os.close(folder)
        os.replace(temporary, target)
    except BaseException:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise
    with contextlib.suppress(OSError):  # the rename itself, where folders can be synced
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _temporary(target: Path) -> tuple[int, Path | None]:
    """An open file in the target's folder: without a name where the system has such files (a process that is killed leaves nothing behind), else
    with a name of its own."""
    if hasattr(os, "O_TMPFILE"):
        with contextlib.suppress(OSError):
            fd = os.open(target.parent, os.O_TMPFILE | os.O_WRONLY, 0o600)
            if os.path.exists(f"/proc/self/fd/{fd}"):  # by which it gets its name
                return fd, None
            os.close(fd)
    fd, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    return fd, Path(name)
