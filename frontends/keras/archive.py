"""The ``.keras`` archive: a zip of a few known members, read in memory with every size checked first. Nothing is ever extracted
to disk.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from typing import Any

from ...runtime.errors import ModelFormatError

METADATA, CONFIG, WEIGHTS = "metadata.json", "config.json", "model.weights.h5"
_MAX_MEMBERS = 10_000
_MAX_RATIO = 100  # Keras stores its members uncompressed; its own reader's guard is 100 as well
_MAX_JSON = 256 * 2**20
_FLOOR = 2**20  # below this many bytes a ratio says nothing


class Archive:
    """The members of a ``.keras`` file. Raises ``ModelFormatError`` for what is no such file."""

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        try:
            self._zip = zipfile.ZipFile(self.path)
            infos = self._zip.infolist()
        except (zipfile.BadZipFile, EOFError, ValueError, OverflowError, NotImplementedError) as e:
            raise ModelFormatError(f"{self.path} is no .keras file, or a truncated one ({e}); save or copy it again") from e
        if len(infos) > _MAX_MEMBERS:
            raise ModelFormatError(f"{self.path} has {len(infos)} members; a .keras file has a few")
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            if info.filename in self._members:
                raise ModelFormatError(f"{self.path} holds {info.filename!r} twice; the file is damaged or hostile")
            self._members[info.filename] = info

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exc: object) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def size(self, name: str) -> int:
        return self._members[name].file_size

    def read(self, name: str, limit: int | None = None) -> bytes:
        """A member's bytes: at most ``limit``, not more than 100 times what is stored, and exactly as many as declared."""
        info = self._members.get(name)
        if info is None:
            raise ModelFormatError(f"{self.path} has no member {name!r}; its members are {', '.join(list(self._members)[:8])}")
        if info.flag_bits & 0x1:
            raise ModelFormatError(f"{self.path}: {name} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelFormatError(
                f"{self.path}: {name} is compressed by method {info.compress_type}; stored and deflated members are read"
            )
        if limit is not None and info.file_size > limit:
            raise ModelFormatError(f"{self.path}: {name} declares {info.file_size:,} bytes, more than the {limit:,} allowed")
        if info.file_size > _FLOOR and info.file_size > _MAX_RATIO * max(info.compress_size, 1):
            raise ModelFormatError(
                f"{self.path}: {name} declares {info.file_size:,} bytes and stores {info.compress_size:,}; refused as a zip bomb"
            )
        if info.compress_type == zipfile.ZIP_STORED and info.file_size > os.path.getsize(self.path):
            raise ModelFormatError(
                f"{self.path}: {name} declares {info.file_size:,} bytes, the whole file has {os.path.getsize(self.path):,}"
            )
        try:
            with self._zip.open(info) as f:
                content = f.read(info.file_size + 1)
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError, zlib.error) as e:
            raise ModelFormatError(f"{self.path}: {name} is damaged ({e}); save or copy the file again") from e
        if len(content) != info.file_size:
            raise ModelFormatError(f"{self.path}: {name} declares {info.file_size:,} bytes, it has {len(content):,}")
        return content

    def json(self, name: str) -> Any:
        return parse_json(self.read(name, _MAX_JSON), f"{self.path}: {name}")


def parse_json(content: bytes | str, what: str) -> Any:
    """JSON, with errors that say what is damaged. (Nesting is bounded by Python's own limit in the parser.)"""
    try:
        return json.loads(content)
    except (ValueError, RecursionError, UnicodeDecodeError) as e:
        raise ModelFormatError(f"{what} is no valid JSON ({type(e).__name__}: {str(e)[:120]})") from e


def build(members: dict[str, bytes]) -> bytes:
    """A zip with these members, all stored uncompressed, as Keras writes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as z:
        for name, content in members.items():
            z.writestr(name, content)
    return out.getvalue()
