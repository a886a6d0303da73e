"""The cache on disk: content, damage, permissions, links, bound."""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings

import pytest

from kerogen.runtime import cache
from kerogen.runtime.cache import Cache


def entries(path):
    return sorted(p for p in path.iterdir() if p.suffix == ".kgc")


def fresh(path, limit=2**20):
    """A cache as another process would see it."""
    return Cache(str(path), limit)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_put_and_get(folder, rng):
    data = {f"k{i}": rng.bytes(int(rng.integers(0, 5000))) for i in range(20)}
    c = fresh(folder)
    for k, v in data.items():
        assert c.get("object", k) is None
        c.put("object", k, v)
    for reader in (c, fresh(folder)):
        for k, v in data.items():
            assert reader.get("object", k) == v
            assert reader.get("plan", k) is None
    c.put("object", "k3", b"new")
    assert c.get("object", "k3") == fresh(folder).get("object", "k3") == b"new"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in folder.iterdir())
    assert len(entries(folder)) == len(list(folder.iterdir())) == 20  # no temporary files stay
    c.clear()
    assert c.get("object", "k3") is None and not list(folder.iterdir())


def test_permissions_don_t_depend_on_the_umask(folder):
    old = os.umask(0)
    try:
        fresh(folder).put("a", "b", b"c")
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o777 == 0o700 and entries(folder)[0].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "longer", "magic", "header"])
def test_a_damaged_entry_is_made_anew(folder, rng, damage):
    data = rng.bytes(1000)
    fresh(folder).put("object", "k", data)
    (path,) = entries(folder)
    raw = bytearray(path.read_bytes())
    if damage == "truncated":
        del raw[-1:]
    elif damage == "empty":
        raw.clear()
    elif damage == "flipped":
        raw[-500] ^= 1
    elif damage == "longer":
        raw += b"x"
    elif damage == "magic":
        raw[0] ^= 1
    elif damage == "header":
        raw[45] ^= 1
    path.write_bytes(raw)
    c = fresh(folder)
    with pytest.warns(RuntimeWarning, match="damaged") as seen:
        assert c.get("object", "k") is None
        assert c.get("object", "k") is None
    assert len(seen) == 1
    c.put("object", "k", data)
    assert fresh(folder).get("object", "k") == data


def test_any_flipped_bit_is_noticed(folder, rng):
    fresh(folder).put("object", "k", rng.bytes(64))
    (path,) = entries(folder)
    raw = path.read_bytes()
    for bit in range(0, 8 * len(raw), 7):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert fresh(folder).get("object", "k") is None


def test_another_key_s_entry_is_not_taken(folder):
    c = fresh(folder)
    c.put("object", "a", b"first")
    c.put("object", "b", b"second")
    a, b = (folder / c._name("object", k) for k in "ab")
    a.write_bytes(b.read_bytes())
    assert fresh(folder).get("object", "a") is None and fresh(folder).get("object", "b") == b"second"


def test_another_version_s_entry_is_not_taken(folder, monkeypatch):
    fresh(folder).put("object", "a", b"old")
    monkeypatch.setattr(cache, "_version", lambda: "9.9")
    assert fresh(folder).get("object", "a") is None
    fresh(folder).put("object", "a", b"new")
    assert fresh(folder).get("object", "a") == b"new"


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_to_is_not_used(folder, mode):
    fresh(folder).put("object", "a", b"x")
    folder.chmod(mode)
    c = fresh(folder)
    with pytest.warns(RuntimeWarning, match="writable by you only") as seen:
        assert c.get("object", "a") is None
        c.put("object", "b", b"y")
    assert len(seen) == 1 and len(entries(folder)) == 1
    assert c.get("object", "b") == b"y"  # from memory


def test_an_entry_that_others_can_write_to_is_not_used(folder):
    fresh(folder).put("object", "a", b"x")
    entries(folder)[0].chmod(0o666)
    with pytest.warns(RuntimeWarning, match="others may write"):
        assert fresh(folder).get("object", "a") is None


def test_another_owner_s_files_are_not_used(folder, monkeypatch):
    fresh(folder).put("object", "a", b"x")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.warns(RuntimeWarning, match="belong to you"):
        assert fresh(folder).get("object", "a") is None


def test_links_are_not_followed(folder, tmp_path):
    other = tmp_path / "other"
    fresh(other).put("object", "a", b"planted")
    (name,) = [p.name for p in entries(other)]
    link = tmp_path / "link"
    link.symlink_to(other)
    with pytest.warns(RuntimeWarning, match="not followed"):
        assert fresh(link).get("object", "a") is None
    folder.mkdir(mode=0o700)
    (folder / name).symlink_to(other / name)
    assert fresh(folder).get("object", "a") is None
    (folder / name).unlink()
    os.link(other / name, folder / name)
    with pytest.warns(RuntimeWarning):
        assert fresh(folder).get("object", "a") is None
    (folder / name).unlink()
    os.mkfifo(folder / name, 0o600)  # must not block
    with pytest.warns(RuntimeWarning):
        assert fresh(folder).get("object", "a") is None
    # Writing replaces the name, never what it points to.
    (folder / name).unlink()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (folder / name).symlink_to(victim)
    fresh(folder).put("object", "a", b"x")
    assert victim.read_text() == "mine" and fresh(folder).get("object", "a") == b"x"


def test_no_place_to_write_means_no_cache(tmp_path, rng):
    (tmp_path / "file").write_text("")
    for where in (tmp_path / "file" / "cache", None):
        c = Cache(None if where is None else str(where), 1000)
        c.put("object", "a", b"x")
        assert c.get("object", "a") == b"x"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert c.get("object", "b") is None and c.size() == 0


def test_a_write_that_fails_leaves_nothing(folder, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    c = fresh(folder)
    monkeypatch.setattr(os, "fsync", full)
    c.put("object", "a", b"x")
    assert not list(folder.iterdir()) and c.get("object", "a") == b"x" and fresh(folder).get("object", "a") is None


def test_the_bound_is_kept_and_the_oldest_go_first(folder, rng):
    limit = 50_000
    c = fresh(folder, limit)
    for i in range(40):
        c.put("object", f"k{i}", rng.bytes(1900))
        # Times an hour apart, in order; k0 is used again and again.
        os.utime(folder / c._name("object", f"k{i}"), (i * 3600, i * 3600))
        if i:
            assert fresh(folder, limit).get("object", "k0") is not None
        assert sum(p.stat().st_size for p in entries(folder)) <= limit
    left = [i for i in range(40) if (folder / c._name("object", f"k{i}")).exists()]
    assert left[0] == 0 and left[1:] == list(range(40 - len(left) + 1, 40)) and len(left) > 15
    c.put("object", "huge", rng.bytes(limit))
    assert not (folder / c._name("object", "huge")).exists() and len(entries(folder)) == len(left)


def test_old_temporary_files_are_removed(folder, rng):
    c = fresh(folder, 3000)
    c.put("object", "a", rng.bytes(100))
    for name, age in (("dead.1.tmp", 7200), ("alive.2.tmp", 10)):
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (time.time() - age,) * 2)
    fresh(folder, 3000).put("object", "b", rng.bytes(100))
    assert (folder / "alive.2.tmp").exists() and not (folder / "dead.1.tmp").exists()


def _hammer(where, seed, wrong):
    c = Cache(where, 60_000)
    for i in range(150):
        k = (i * 7 + seed) % 23
        data = bytes([k]) * (1000 + 100 * k)
        c.put("object", str(k), data)
        other = (i * 5 + seed) % 23
        found = Cache(where, 60_000).get("object", str(other))
        if found is not None and found != bytes([other]) * (1000 + 100 * other):
            wrong.value += 1


def test_several_processes(folder):
    context = multiprocessing.get_context("fork")
    wrong = context.Value("i", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads at a fork, JAX's among them where another test loaded it
        workers = [context.Process(target=_hammer, args=(str(folder), s, wrong)) for s in range(3)]
        for w in workers:
            w.start()
    for w in workers:
        w.join(60)
    assert wrong.value == 0 and all(w.exitcode == 0 for w in workers)
    assert not [p for p in folder.iterdir() if p.suffix == ".tmp"]


def test_the_environment_says_where(monkeypatch, tmp_path):
    monkeypatch.delenv("KEROGEN_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    cache.put("object", "somewhere", b"x")
    assert len(entries(tmp_path / "xdg" / "kerogen")) == 1
    monkeypatch.setenv("KEROGEN_CACHE_DIR", "off")
    cache.put("object", "nowhere", b"x")
    assert cache.default().directory is None and not (tmp_path / "off").exists()
    monkeypatch.setenv("KEROGEN_CACHE_DIR", str(tmp_path / "there"))
    monkeypatch.setenv("KEROGEN_CACHE_SIZE", "3K")
    assert (cache.default().directory, cache.default().limit) == (str(tmp_path / "there"), 3072)
