"""Generated source on disk: real files, published whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import platformdirs

import maskdsl
from maskdsl import codegen

_SEAL = "# maskdsl "
_UNFINISHED = ".maskdsl.tmp"
_ABANDONED = 3600
"""Seconds after which an unfinished file is nobody's any more."""


def directory() -> Path:
    """Where generated source is kept: `$MASKDSL_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("MASKDSL_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("maskdsl")


@functools.cache
def compiler_fingerprint() -> str:
    """A hash of the compiler's own files, so that a changed compiler finds none of its predecessor's output."""
    folders = sorted({Path(place) for package in (maskdsl, codegen) for place in package.__path__})
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted((*folder.rglob("*.py"), *folder.rglob("*.lark"))):
            digest.update(file.relative_to(folder).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def module(name: str, key: str, make: Callable[[], str]) -> ModuleType:
    """The module that `key` (all that its text depends on) stands for, made by `make` where the cache lacks it.

    A file that is cut short or altered counts as missing and is replaced. Several processes may do this at once: each
    publishes a whole file under the same name. Raises OSError, naming MASKDSL_CACHE, where it cannot be written.
    """
    digest = hashlib.sha256(f"{compiler_fingerprint()}\n{key}".encode()).hexdigest()[:20]
    path = directory() / f"{name}_{digest}.py"
    if not _intact(path):
        _publish(path, make())
    return _load(path)


def _intact(path: Path) -> bool:
    try:
        seal, _, text = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return False
    return seal == _seal(text)


def _seal(text: str) -> str:
    return _SEAL + hashlib.sha256(text.encode()).hexdigest()


def _publish(path: Path, text: str) -> None:
    """Write the whole file or, where that fails, none and raise OSError that says how to choose another folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=_UNFINISHED)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(f"{_seal(text)}\n{text}")
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OSError(
            f"The generated program cannot be kept in '{path.parent}' ({error.strerror}). "
            "Set MASKDSL_CACHE to a folder that can be written."
        ) from error


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed while publishing have left."""
    for file in folder.glob(f".*{_UNFINISHED}"):
        with contextlib.suppress(OSError):  # another process may have swept it
            if time.time() - file.stat().st_mtime > _ABANDONED:
                file.unlink()


def _load(path: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    loaded = importlib.util.module_from_spec(found)
    found.loader.exec_module(loaded)
    return loaded
