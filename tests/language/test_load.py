"""Texts, files and folders through one door."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskdsl.diagnostics import Source
from maskdsl.language.load import read, specs

TEXT = "attention f:\n    q : key\n    v : value\n    return attend(q, q, v, causal)\n"


@pytest.mark.parametrize("text", [TEXT, "\n" + TEXT, "attention f", "q : key\n"])
def test_text(text: str) -> None:
    assert read(text) == (Source("<text>", text),)


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "f.mask"
    path.write_text("\ufeff" + TEXT, encoding="utf-8")
    assert read(path) == read(str(path)) == (Source(str(path), TEXT),)


def test_folder(tmp_path: Path) -> None:
    for name in ("b.mask", "a.mask", "notes.txt"):
        (tmp_path / name).write_text(TEXT, encoding="utf-8")
    assert [Path(source.name).name for source in read(tmp_path)] == ["a.mask", "b.mask"]


def test_no_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file 'nowhere.mask'\."):
        read("nowhere.mask")


def test_no_text(tmp_path: Path) -> None:
    path = tmp_path / "f.mask"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read(path)


def test_all_blocks_in_order() -> None:
    found = specs(Source("f.mask", TEXT + TEXT.replace("f:", "g:")))
    assert [spec.name for spec in found] == ["f", "g"]
