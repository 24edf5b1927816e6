"""The door: texts and files, to checked specs."""

from __future__ import annotations

from pathlib import Path

from maskdsl.diagnostics import Source, SpecError
from maskdsl.language.check import examine
from maskdsl.language.parse import recover
from maskdsl.spec import Spec


def read(spec: str | Path) -> tuple[Source, ...]:
    """The text itself, the `.mask` file at a path, or all those of a folder, in order of their names.

    A string that starts with `attention` or spans several lines is a text. Raises FileNotFoundError where there is no
    such file, and ValueError where it is not UTF-8.
    """
    if isinstance(spec, str) and ("\n" in spec or spec.lstrip().startswith("attention")):
        return (Source("<text>", spec),)
    path = Path(spec)
    if not path.exists():
        raise FileNotFoundError(f"There is no file '{path}'.")
    paths = sorted(path.glob("*.mask")) if path.is_dir() else [path]
    return tuple(Source(str(path), _text(path)) for path in paths)


def specs(source: Source) -> tuple[Spec, ...]:
    """All specs of a text, in order; a SpecError lists the mistakes of all blocks."""
    parsed = recover(source)
    examined = [examine(block, parsed.broken) for block in parsed.file.blocks]
    mistakes = [*parsed.diagnostics, *(mistake for _, found in examined for mistake in found)]
    if mistakes:
        raise SpecError(mistakes, source)
    return tuple(spec for spec, _ in examined if spec is not None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"The file '{path}' is not UTF-8 text.") from error
