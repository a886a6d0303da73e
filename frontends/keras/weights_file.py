"""``model.weights.h5``: a tree of groups that follows the attributes of the model, each object's variables in its group ``vars``
as "0", "1", ...

Reading is by expected names only. A dataset must have the variable's shape before a byte of it is read; links to other places,
external and virtual
datasets, and unknown filters are refused.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from ...runtime.dtype import as_dtype, bfloat16
from ...runtime.errors import KerogenError, ModelFormatError
from .layer import Layer
from .naming import snake_case
from .optimizer import Optimizer
from .tracking import is_seed_generator
from .trainer import Trainer
from .variable import Variable

_FILTERS = (1, 2, 3)  # deflate, shuffle, fletcher32
_SKIPPED: list[frozenset[str]] = []


def _skipped() -> frozenset[str]:
    """Attributes that every layer and every model has: no parts of a particular one."""
    if not _SKIPPED:
        from .functional import Functional
        from .sequential import Sequential

        machinery = {
            "_stack",
            "_functional",
            "_operations",
            "_operations_by_depth",
            "_nodes_by_depth",
            "_node_keys",
            "_run_order",
            "_inputs",
            "_outputs",
            "_inputs_struct",
            "_outputs_struct",
            "input_names",
            "output_names",
        }
        known = {n for c in (Trainer, Functional, Sequential) for n in dir(c)} | set(dir(Layer(name="reference")))
        _SKIPPED.append(frozenset(known - {"optimizer"} | machinery))
    return _SKIPPED[0]


def is_saveable(x: Any) -> bool:
    return isinstance(x, (Layer, Optimizer)) or is_seed_generator(x)


def own_variables(x: Any) -> list[Variable]:
    """The variables kept in the object's own group, in Keras' order."""
    if isinstance(x, Optimizer):
        return x.variables
    return x._own() if isinstance(x, Layer) else [x.state]


def parts(x: Any) -> Iterator[tuple[str, Any]]:
    """(attribute, value) of what an object is made of: for models first their layers, then every attribute by name, leading
    underscores last.
    """
    if isinstance(x, (Optimizer,)) or is_seed_generator(x):
        return
    if _is_container(x):
        yield "layers", x.layers
    for name in sorted(dir(x), key=lambda n: "~" + n if n.startswith("_") else n):
        if name.startswith("__") or name in _skipped():
            continue
        try:
            value = getattr(x, name)
        except Exception:  # noqa: BLE001  a property that isn't available yet
            continue
        if is_saveable(value) or isinstance(value, (list, tuple, dict)):
            yield name, value


def _is_container(x: Any) -> bool:
    from .functional import Functional
    from .sequential import Sequential

    return isinstance(x, (Functional, Sequential))


def walk(x: Any, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """(group path, object) of the model and everything in it, each object once, under the first path that leads to it."""
    seen = set() if seen is None else seen
    if id(x) in seen:
        return
    seen.add(id(x))
    yield path, x
    for name, value in parts(x):
        inner = f"{path}/{name}" if path else name
        if is_saveable(value):
            yield from walk(value, inner, seen)
        else:
            yield from _walk_sequence(value, inner, seen, set())


def _walk_sequence(values: Any, path: str, seen: set[int], containers: set[int]) -> Iterator[tuple[str, Any]]:
    if id(values) in containers:
        return
    containers.add(id(values))
    used: dict[str, int] = {}

    def unique(name: str) -> str:
        n = used.get(name, -1) + 1
        used[name] = n
        return f"{name}_{n}" if n else name

    for v in list(values.values()) if isinstance(values, dict) else values:
        if is_saveable(v):
            yield from walk(v, f"{path}/{unique(snake_case(type(v).__name__))}", seen)
        elif isinstance(v, (list, tuple, dict)):
            yield from _walk_sequence(v, f"{path}/{unique('container')}", seen, containers)


def dump(model: Any) -> bytes:
    """The HDF5 file of the model's variables, optimizer included."""
    import h5py

    out = io.BytesIO()
    with h5py.File(out, "w") as f:
        for path, x in walk(model):
            group = f.create_group(f"{path}/vars" if path else "vars")
            if isinstance(getattr(x, "name", None), str):
                group.attrs["name"] = x.name
            if type(x).__dict__.get("save_own_variables") is not None:  # a layer of the user's own that keeps more than variables
                store: dict[str, Any] = {}
                x.save_own_variables(store)
            else:
                store = {str(i): v.array for i, v in enumerate(own_variables(x))}
            for key, value in store.items():
                value = np.asarray(value)
                data = group.create_dataset(key, data=value.view("V2") if value.dtype == bfloat16.np else value)
                if value.dtype == bfloat16.np:
                    data.attrs["dtype"] = "bfloat16"
    return out.getvalue()


class Reader:
    """An open weights file. ``what`` names it in errors."""

    def __init__(self, content: bytes, what: str):
        import h5py

        self._h5, self.what = h5py, what
        try:
            self._file = h5py.File(io.BytesIO(content), "r")
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as e:
            raise ModelFormatError(f"{what} is no HDF5 file, or a truncated one ({e}); save or copy it again") from e
        self._names: dict[str, list[str]] | None = None

    def close(self) -> None:
        self._file.close()

    def _child(self, group: Any, name: str, path: str) -> Any:
        """A member of a group, through a hard link only; None if there is none."""
        link = group.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, self._h5.HardLink):
            raise ModelFormatError(f"{self.what}: {path} is a {type(link).__name__}; links are never followed")
        return group[name]

    def group(self, path: str) -> Any:
        """The group at ``path``, or None."""
        current = self._file
        for part in path.split("/"):
            current = self._child(current, part, path)
            if current is None:
                return None
            if not isinstance(current, self._h5.Group):
                raise ModelFormatError(f"{self.what}: {path} should be a group, it is a {type(current).__name__}")
        return current

    def vars_of(self, path: str, x: Any) -> Any:
        """The group with the variables of the object at ``path``. Older files say ``_layer_checkpoint_dependencies``; a layer
        shared between nesting
        levels was written under another path only, and is found by its name if that is unique.
        """
        where = f"{path}/vars" if path else "vars"
        found = self.group(where)
        if found is None:
            found = self.group(where.replace("layers", "_layer_checkpoint_dependencies"))
        if found is None and isinstance(getattr(x, "name", None), str):
            candidates = self._by_name().get(x.name, [])
            found = self.group(candidates[0]) if len(candidates) == 1 else None
        return found

    def _by_name(self) -> dict[str, list[str]]:
        if self._names is None:
            self._names = {}
            stack = [("", self._file, 0)]
            while stack:
                path, group, depth = stack.pop()
                for name in group:
                    inner = f"{path}/{name}" if path else name
                    child = self._child(group, name, inner) if depth < 64 else None
                    if isinstance(child, self._h5.Group):
                        if name == "vars" and isinstance(child.attrs.get("name"), str):
                            self._names.setdefault(child.attrs["name"], []).append(inner)
                        stack.append((inner, child, depth + 1))
        return self._names

    def names(self, group: Any) -> list[str]:
        """The names of a group's datasets; numbers in their order as numbers."""
        return sorted(group, key=lambda n: (0, int(n), n) if n.isdecimal() and len(n) < 10 else (1, 0, n))

    def array(self, group: Any, name: str, shape: tuple[int, ...] | None, owner: str) -> np.ndarray:
        data = self._child(group, name, f"{group.name}/{name}")
        if not isinstance(data, self._h5.Dataset):
            raise ModelFormatError(f"{self.what}: {owner}: {group.name}/{name} is no dataset")
        if data.external or data.is_virtual:
            raise ModelFormatError(
                f"{self.what}: {owner}: {group.name}/{name} keeps its data elsewhere (external or virtual storage); refused"
            )
        plist = data.id.get_create_plist()
        filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        if any(f not in _FILTERS for f in filters):
            raise ModelFormatError(
                f"{self.what}: {owner}: {group.name}/{name} needs the HDF5 filters {filters}; deflate, shuffle and fletcher32 are read"
            )
        if shape is not None and tuple(data.shape) != tuple(shape):
            raise ModelFormatError(
                f"{self.what}: {owner}: variable {name} has shape {tuple(shape)} in the model, {tuple(data.shape)} in the file; "
                "the file belongs to another configuration"
            )
        declared, stored = (
            int(np.prod([int(n) for n in data.shape], dtype=object)) * data.dtype.itemsize,
            data.id.get_storage_size(),
        )
        if shape is None and declared > 2**20 and declared > 100 * max(stored, 1):
            raise ModelFormatError(
                f"{self.what}: {owner}: {group.name}/{name} declares {declared:,} bytes and stores {stored:,}; refused"
            )
        if stored == 0 and declared > 0:
            raise ModelFormatError(
                f"{self.what}: {owner}: {group.name}/{name} declares shape {tuple(data.shape)} and stores nothing"
            )
        brain = data.attrs.get("dtype")
        if brain == "bfloat16" and data.dtype.itemsize == 2:
            return np.asarray(data[()]).view(ml_dtypes.bfloat16)
        if data.dtype.kind not in "biuf":
            raise ModelFormatError(f"{self.what}: {owner}: {group.name}/{name} has type {data.dtype}, not numbers")
        return np.asarray(data[()])


def restore(model: Any, content: bytes, what: str, skip_mismatch: bool = False, optimizer: bool = True) -> list[str]:
    """Sets the model's variables from a weights file. Returns what was skipped (with ``skip_mismatch``). All is read and checked
    before
    anything is set, so that a file that doesn't fit leaves the model as it was.
    """
    reader = Reader(content, what)
    values: list[tuple[Variable, np.ndarray]] = []
    custom: list[tuple[Any, dict[str, np.ndarray]]] = []
    skipped: list[str] = []
    try:
        for path, x in walk(model):
            if isinstance(x, Optimizer) and not optimizer:
                continue
            try:
                _read_object(reader, path, x, values, custom, skipped)
            except ModelFormatError as e:
                if not skip_mismatch:
                    raise
                skipped.append(str(e))
    except KerogenError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError, OverflowError) as e:  # from inside HDF5
        raise ModelFormatError(f"{what} is damaged ({type(e).__name__}: {str(e)[:200]}); save or copy it again") from e
    finally:
        reader.close()
    for v, a in values:
        v.assign(a.astype(v.array.dtype, copy=False))
    for x, store in custom:
        x.load_own_variables(store)
    return skipped


def _read_object(reader: Reader, path: str, x: Any, values: list, custom: list, skipped: list) -> None:
    owner = f"{type(x).__name__} {getattr(x, 'name', '')!r} (group {path or '/'})"
    group = reader.vars_of(path, x)
    if type(x).__dict__.get("load_own_variables") is not None:
        store = {} if group is None else {n: reader.array(group, n, None, owner) for n in reader.names(group)}
        custom.append((x, store))
        return
    mine = own_variables(x)
    names = [] if group is None else reader.names(group)
    if len(names) != len(mine):
        message = f"{reader.what}: {owner} has {len(mine)} variables, the file has {len(names)} for it"
        if isinstance(x, Optimizer):  # the model works without: start the optimizer afresh, and say so
            skipped.append(message + ("; the optimizer's state isn't restored" if names else "; the file has no optimizer state"))
            return
        if is_seed_generator(x) and not names:
            return  # files from before seeds were saved
        raise ModelFormatError(
            message
            + ("" if not isinstance(x, Layer) or x.built else "; the layer isn't built: give the model an input shape first")
        )
    for name, v in zip(names, mine):
        a = reader.array(group, name, v.shape, owner)
        if as_dtype(a.dtype).is_float != as_dtype(v.array.dtype).is_float and a.dtype.kind != "b":
            raise ModelFormatError(
                f"{reader.what}: {owner}: variable {name} is {as_dtype(v.array.dtype)} in the model, {a.dtype} in the file"
            )
        values.append((v, a))
