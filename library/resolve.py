"""What a user may call a spec: a library name, a path, or its text."""

from __future__ import annotations

from pathlib import Path

from maskdsl import library
from maskdsl.diagnostics import Source, did_you_mean
from maskdsl.language.load import read, specs
from maskdsl.spec import Spec


def resolve(spec: str | Path, name: str | None = None) -> Spec:
    """The checked spec; `name` picks one of several blocks.

    Raises `SpecError` for mistakes in the text, ValueError where nothing, or not one thing, has that name.
    """
    source = source_of(spec)
    found = {each.name: each for each in specs(source)}
    if name is not None and name not in found:
        raise ValueError(f"'{source.name}' has no block '{name}'. {did_you_mean(name, found)}".rstrip())
    if name is None and len(found) > 1:
        raise ValueError(f"'{source.name}' has several blocks; choose one by name=: {', '.join(found)}.")
    return found[name] if name else next(iter(found.values()))


def source_of(spec: str | Path) -> Source:
    """The text that a library name, a path or a text stands for; raises ValueError where it stands for nothing."""
    if not isinstance(spec, str | Path):
        raise ValueError(f"A spec is a library name, a path or a text, not a value of type '{type(spec).__name__}'.")
    if isinstance(spec, str) and spec in library.names():
        return Source(f"{spec}.mask", library.read(spec))
    try:
        sources = read(spec) if str(spec).strip() else ()
    except OSError as error:
        raise ValueError(_nothing(spec)) from error
    if not sources:
        raise ValueError(_nothing(spec))
    if len(sources) > 1:
        found = ", ".join(source.name for source in sources)
        raise ValueError(f"The folder '{spec}' holds several files; choose one: {found}.")
    return sources[0]


def _nothing(spec: str | Path) -> str:
    hint = did_you_mean(str(spec), library.names()) or f"The library has {', '.join(library.names())}."
    return f"'{spec}' is neither a library definition nor a readable file. {hint}"
