"""External data: the one place that opens a file which a model names.

A model file is not trusted. Its external tensors may only be regular files below the model's own folder, reached without any
link:
names are refused before anything is opened, each path component is opened with ``O_NOFOLLOW`` relative to the folder above it,
and what
is checked (type, link count, length) is the open descriptor, the one that is then read (CVE-2022-25882, CVE-2024-27318,
CVE-2026-27489 and
CVE-2026-34446 in onnx's own loader were each a check of a *name*).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np

from ...runtime.errors import ModelFormatError

# A region that several tensors name is read once; regions that overlap otherwise must not ask for more memory than the files
# hold.
_MAX_DEPTH = 32


class ExternalData:
    """Reads byte ranges of files below ``folder`` (None: the model came as bytes, so it can have no external data).

    ``allow_links``: follow symbolic links and accept hard links (for caches of downloaded models that consist of links). Set by
    the caller only.
    """

    def __init__(self, folder: Path | None, *, allow_links: bool = False) -> None:
        self.folder, self.allow_links = folder, allow_links
        self._regions: dict[tuple, np.ndarray] = {}
        self._files: dict[tuple, int] = {}  # (device, inode) -> bytes
        self._read = 0

    def read(self, location: str, offset: int, length: int | None, tensor: str) -> np.ndarray:
        """``length`` bytes (None: to the end) at ``offset`` of the file ``location``, as uint8. Raises ModelFormatError."""
        parts = _components(location, tensor)
        if self.folder is None:
            raise ModelFormatError(
                f"tensor {tensor!r} is stored in the file {location!r}, but the model was given as bytes; give its path"
            )
        fd = self._open(parts, location, tensor)
        try:
            st = os.fstat(fd)
            if not stat.S_ISREG(st.st_mode):
                raise ModelFormatError(f"tensor {tensor!r}: external data {location!r} is not a regular file")
            if st.st_nlink != 1 and not self.allow_links:
                raise ModelFormatError(
                    f"tensor {tensor!r}: external data {location!r} has {st.st_nlink} hard links;"
                    " pass allow_links=True if you trust it"
                )
            if length is None:
                length = st.st_size - offset
            if offset < 0 or length < 0 or offset + length > st.st_size:
                raise ModelFormatError(
                    f"tensor {tensor!r}: external data {location!r} has {st.st_size} bytes,"
                    f" the model asks for {length} at {offset}"
                )
            identity = (st.st_dev, st.st_ino)
            region = (*identity, offset, length)
            if region in self._regions:
                return self._regions[region]
            self._files[identity] = st.st_size
            self._read += length
            if self._read > sum(self._files.values()):
                raise ModelFormatError(
                    f"tensor {tensor!r}: the external tensors overlap and ask for more bytes than their files hold"
                )
            data = np.empty(length, np.uint8)
            view, done = memoryview(data), 0
            while done < length:
                n = os.preadv(fd, [view[done:]], offset + done)
                if n <= 0:
                    raise ModelFormatError(f"tensor {tensor!r}: external data {location!r} became shorter while it was read")
                done += n
        finally:
            os.close(fd)
        data.flags.writeable = False
        self._regions[region] = data
        return data

    def _open(self, parts: list[str], location: str, tensor: str) -> int:
        links = 0 if self.allow_links else os.O_NOFOLLOW
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            here = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
            for part in parts[:-1]:
                try:
                    deeper = os.open(part, flags | os.O_DIRECTORY | links, dir_fd=here)
                finally:
                    os.close(here)
                here = deeper
            try:
                return os.open(parts[-1], flags | links, dir_fd=here)
            finally:
                os.close(here)
        except OSError as e:
            link = " (links are not followed; pass allow_links=True if you trust it)" if e.errno in (20, 40) else ""
            raise ModelFormatError(f"tensor {tensor!r}: external data {location!r} can't be opened: {e.strerror}{link}") from None


def _components(location: str, tensor: str) -> list[str]:
    """The parts of a relative POSIX path that names something below the folder, or ModelFormatError."""
    if not isinstance(location, str):
        raise ModelFormatError(f"tensor {tensor!r}: the name of its external data is not UTF-8")
    parts = location.split("/")
    while parts and parts[0] == ".":
        parts.pop(0)
    bad = (
        not parts
        or len(parts) > _MAX_DEPTH
        or len(location) > 4096
        or "\\" in location
        or ":" in parts[0]
        or any(ord(c) < 32 for c in location)
        or any(p in ("", ".", "..") for p in parts)
    )
    if bad:
        shown = location if len(location) <= 80 else location[:80] + "..."
        raise ModelFormatError(
            f"tensor {tensor!r}: external data must be a relative path inside the model's folder, got {shown!r}"
        )
    return parts
