"""The cache on disk: object code and whole plans by content, bounded, and safe to keep in a home directory.

An entry is magic, digest of (package version, kind, key), length, SHA-256 of the data, data; nothing in it is ever unpickled or
executed before all of that fits. The directory and each file must belong to this user and be writable by nobody else, and are
opened without following links. Writers make a temporary file, fsync it and rename it, so readers see whole entries only.
Any ``OSError`` means that there is no cache. A checksum is no signature: who can write to the directory can run code as you.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import stat
import struct
import threading
import warnings
from collections import OrderedDict

from . import config

_MAGIC = b"kerogen\x01"
_HEADER = struct.Struct("<8s32sQ32s")
_SUFFIX = ".kgc"
_STALE_SECONDS = 3600  # a temporary file this old was left by a process that died
_MEMORY_LIMIT = 64 * 2**20
_counter = itertools.count()


def _version() -> str:
    try:
        from .._version import __version__ as found
    except ImportError:
        found = "0"
    return found


class Cache:
    """Entries (kind, key) -> bytes in ``directory`` (None: memory only), at most ``limit`` bytes, least recently used out
    first."""

    def __init__(self, directory: str | None, limit: int):
        self.directory, self.limit = directory, limit
        self._lock = threading.Lock()
        self._memory: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._memory_bytes = 0
        self._disk_bytes: int | None = None
        self._warned = False
        self.hits = self.misses = 0

    def get(self, kind: str, key: str) -> bytes | None:
        """The data put under (kind, key), or None."""
        with self._lock:
            data = self._memory.get((kind, key))
            if data is not None:
                self._memory.move_to_end((kind, key))
                self.hits += 1
                return data
        data = self._read(kind, key)
        with self._lock:
            if data is None:
                self.misses += 1
            else:
                self.hits += 1
                self._remember(kind, key, data)
        return data

    def put(self, kind: str, key: str, data: bytes) -> None:
        """Keeps ``data`` under (kind, key); an entry that stands there is replaced."""
        data = bytes(data)
        with self._lock:
            self._remember(kind, key, data)
        self._write(kind, key, data)

    def clear(self) -> None:
        """Removes every entry."""
        with self._lock:
            self._memory.clear()
            self._memory_bytes = 0
            self._disk_bytes = None
        with contextlib.suppress(OSError):
            with self._opened() as folder:
                for name in os.listdir(folder):
                    if name.endswith((_SUFFIX, ".tmp")):
                        os.unlink(name, dir_fd=folder)

    def size(self) -> int:
        """Bytes that the entries take on disk."""
        try:
            with self._opened() as folder:
                return sum(s for _, s, _ in self._entries(folder))
        except OSError:
            return 0

    # ---- memory

    def _remember(self, kind: str, key: str, data: bytes) -> None:
        if len(data) > _MEMORY_LIMIT // 4:
            return
        old = self._memory.pop((kind, key), None)
        self._memory_bytes += len(data) - (len(old) if old is not None else 0)
        self._memory[kind, key] = data
        while self._memory_bytes > _MEMORY_LIMIT:
            _, gone = self._memory.popitem(last=False)
            self._memory_bytes -= len(gone)

    # ---- disk

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"kerogen's cache: {message}", RuntimeWarning, stacklevel=5)

    @contextlib.contextmanager
    def _opened(self, create: bool = False):
        """A descriptor of the directory, once it is known to be ours alone; ``OSError`` if it isn't."""
        if self.directory is None:
            raise FileNotFoundError
        if create:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
        try:
            folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError as e:
            self._warn(f"{self.directory} is not used ({e.strerror}; a link is not followed)")
            raise
        try:
            s = os.fstat(folder)
            if s.st_uid != os.geteuid() or s.st_mode & 0o022:
                self._warn(f"{self.directory} is not used: it must belong to you and be writable by you only (chmod 700)")
                raise PermissionError(self.directory)
            yield folder
        finally:
            os.close(folder)

    def _name(self, kind: str, key: str) -> str:
        return hashlib.sha256(f"{kind}\0{key}".encode()).hexdigest()[:40] + _SUFFIX

    def _digest(self, kind: str, key: str) -> bytes:
        return hashlib.sha256(f"{_version()}\0{kind}\0{key}".encode()).digest()

    def _read(self, kind: str, key: str) -> bytes | None:
        name = self._name(kind, key)
        try:
            with self._opened() as folder:
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
                try:
                    s = os.fstat(fd)
                    if (
                        not stat.S_ISREG(s.st_mode) or s.st_uid != os.geteuid() or s.st_mode & 0o022 or s.st_nlink > 1
                    ):  # 0: replaced just now
                        self._warn("ignored an entry that others may write to")
                        return None
                    with open(fd, "rb", closefd=False) as f:
                        raw = f.read(s.st_size + 1)
                    data = self._unwrap(raw, kind, key)
                    if data is None:
                        os.unlink(name, dir_fd=folder)
                        return None
                    with contextlib.suppress(OSError):
                        os.utime(fd)
                    return data
                finally:
                    os.close(fd)
        except FileNotFoundError:
            return None
        except OSError:
            return None

    def _unwrap(self, raw: bytes, kind: str, key: str) -> bytes | None:
        if len(raw) >= _HEADER.size:
            magic, digest, length, checksum = _HEADER.unpack_from(raw)
            if magic == _MAGIC and digest != self._digest(kind, key):
                return None  # another version's: replaced without a word
            data = raw[_HEADER.size :]
            if magic == _MAGIC and len(data) == length and hashlib.sha256(data).digest() == checksum:
                return data
        self._warn("ignored a damaged entry; it is made anew")
        return None

    def _write(self, kind: str, key: str, data: bytes) -> None:
        blob = _HEADER.pack(_MAGIC, self._digest(kind, key), len(data), hashlib.sha256(data).digest())
        total = len(blob) + len(data)
        if total > self.limit:
            return
        name = self._name(kind, key)
        temporary = f"{name}.{os.getpid()}.{threading.get_ident():x}.{next(_counter)}.tmp"
        try:
            with self._opened(create=True) as folder:
                fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
                try:
                    with open(fd, "wb") as f:
                        f.write(blob)
                        f.write(data)
                        f.flush()
                        os.fsync(f.fileno())
                    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                except BaseException:
                    with contextlib.suppress(OSError):
                        os.unlink(temporary, dir_fd=folder)
                    raise
                self._trim(folder, total)
        except OSError:
            return

    def _entries(self, folder: int) -> list[tuple[float, int, str]]:
        """(last use, bytes, name) of every entry; temporary files that no process can still be writing are removed."""
        import time

        out = []
        with os.scandir(folder) as listing:
            for entry in listing:
                try:
                    s = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if entry.name.endswith(".tmp") and time.time() - s.st_mtime > _STALE_SECONDS:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.name, dir_fd=folder)
                elif entry.name.endswith(_SUFFIX):
                    out.append((s.st_mtime, s.st_size, entry.name))
        return out

    def _trim(self, folder: int, added: int) -> None:
        """Keeps the bound. The count of bytes is this process's; the directory is read anew when the count passes the bound."""
        with self._lock:
            if self._disk_bytes is not None:
                self._disk_bytes += added
                if self._disk_bytes <= self.limit:
                    return
            entries = sorted(self._entries(folder))
            total = sum(s for _, s, _ in entries)
            if total > self.limit:
                goal = self.limit * 9 // 10
                newest = entries[-1][2]
                for _, nbytes, name in entries:
                    if total <= goal or name == newest:
                        break
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
                    total -= nbytes
            self._disk_bytes = total


_caches: dict[tuple[str | None, int], Cache] = {}


def default() -> Cache:
    """The cache that the environment asks for now: KEROGEN_CACHE_DIR ("off": memory only), KEROGEN_CACHE_SIZE."""
    where = config.CACHE_DIR.get() if hasattr(os, "geteuid") else "off"
    if where is None:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        where = os.path.join(base, "kerogen") if os.path.isabs(base) else None
    elif where == "off":
        where = None
    key = (where, config.CACHE_SIZE.get())
    found = _caches.get(key)
    if found is None:
        found = _caches.setdefault(key, Cache(*key))
    return found


def get(kind: str, key: str) -> bytes | None:
    """``default().get``."""
    return default().get(kind, key)


def put(kind: str, key: str, data: bytes) -> None:
    """``default().put``."""
    default().put(kind, key, data)


def _after_fork() -> None:
    for c in _caches.values():  # another thread may have held a lock when the process forked
        c._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
