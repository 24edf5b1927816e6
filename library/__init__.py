"""Library: definitions as `.mask` files, one attention a file, the file named after it."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable

_SUFFIX = ".mask"


def names() -> tuple[str, ...]:
    """The definitions of the library, in alphabetical order."""
    return tuple(sorted(entry.name.removesuffix(_SUFFIX) for entry in _entries()))


def path(name: str) -> Traversable:
    """Where the definition `name` lies; raises `KeyError` for a name the library lacks."""
    if name not in names():
        raise KeyError(name)
    return files(__package__) / f"{name}{_SUFFIX}"


def read(name: str) -> str:
    """The text of the definition `name`; raises `KeyError` for a name the library lacks."""
    return path(name).read_text(encoding="utf-8")


def _entries() -> list[Traversable]:
    return [entry for entry in files(__package__).iterdir() if entry.name.endswith(_SUFFIX)]
