"""The cache on disk: whole files or none, whatever happens to processes and disks."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import maskdsl
from maskdsl.runtime import cache

TEXT = "VALUE = 7\n" + "".join(f"LINE_{n} = {n}\n" for n in range(200))

PUBLISHER = """
import sys
from maskdsl.runtime import cache
text = "VALUE = 7\\n" + "".join(f"LINE_{n} = {n}\\n" for n in range(20000))
print("ready", flush=True)
for n in range(10**9):
    cache.module("victim", f"key {n % 3} {n // 300}", lambda: text)
    cache._publish(cache.directory() / "victim_again.py", text)
"""

COMPILER = """
import sys, torch, maskdsl
torch.set_num_threads(1)
attention = maskdsl.compile("log_linear_gated_deltanet")
sys.stdin.readline()
print(len(attention.source()), attention.source("backward").count("\\n"))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("MASKDSL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def never() -> str:
    raise AssertionError("The cache made a text that it holds.")


def test_a_text_is_made_once(folder: Path) -> None:
    first = cache.module("name", "key", lambda: TEXT)
    again = cache.module("name", "key", never)
    assert first.VALUE == again.VALUE == 7
    assert [file.name for file in folder.iterdir()] == [Path(first.__file__ or "").name]


def test_another_key_or_name_is_another_file(folder: Path) -> None:
    cache.module("name", "key", lambda: "VALUE = 1\n")
    assert cache.module("name", "other", lambda: "VALUE = 2\n").VALUE == 2
    assert cache.module("another", "key", lambda: "VALUE = 3\n").VALUE == 3
    assert cache.module("name", "key", never).VALUE == 1
    assert len(list(folder.iterdir())) == 3


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda text: b"",
    "cut in the seal": lambda text: text[:20],
    "cut after the seal": lambda text: text[: text.index(b"\n") + 1],
    "cut in the text": lambda text: text[: len(text) // 2],
    "cut by one line end": lambda text: text[:-1],
    "a digit changed": lambda text: text.replace(b"VALUE = 7", b"VALUE = 8"),
    "something added": lambda text: text + b"VALUE = 8\n",
    "the seal of another text": lambda text: b"# maskdsl " + b"0" * 64 + text[text.index(b"\n") :],
    "not text": lambda text: b"\xff\xfe" * 40,
    "zeros after a crash": lambda text: bytes(len(text)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_replaced(damage: str, folder: Path) -> None:
    cache.module("name", "key", lambda: TEXT)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(DAMAGE[damage](whole))
    assert file.read_bytes() != whole
    assert cache.module("name", "key", lambda: TEXT).VALUE == 7
    assert file.read_bytes() == whole
    assert [each.name for each in folder.iterdir()] == [file.name]


def test_a_damaged_program_is_made_again(folder: Path) -> None:
    """The same from the user's side."""
    expected = maskdsl.compile("retention").source()
    (file,) = folder.iterdir()
    file.write_text(file.read_text().replace("def forward", "def wrong"))
    assert maskdsl.compile("retention").source() == expected


def test_a_changed_compiler_finds_none_of_the_old_output(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    cache.module("name", "key", lambda: "VALUE = 1\n")
    monkeypatch.setattr(cache, "compiler_fingerprint", lambda: "another compiler")
    assert cache.module("name", "key", lambda: "VALUE = 2\n").VALUE == 2
    assert len(list(folder.iterdir())) == 2


def test_the_fingerprint_depends_on_every_file_of_the_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fingerprint() -> str:
        cache.compiler_fingerprint.cache_clear()
        return cache.compiler_fingerprint()

    before = fingerprint()
    assert fingerprint() == before
    try:
        package = tmp_path / "compiler"
        (package / "inner").mkdir(parents=True)
        monkeypatch.setattr(maskdsl, "__path__", [str(package)])
        seen = {before, fingerprint()}
        for file, text in (("a.py", "1"), ("inner/b.py", "1"), ("inner/c.lark", "1"), ("inner/b.py", "2")):
            (package / file).write_text(text)
            seen.add(fingerprint())
        (package / "a.py").rename(package / "d.py")
        seen.add(fingerprint())
        assert len(seen) == 7
    finally:
        monkeypatch.undo()
        assert fingerprint() == before


def test_the_folder_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MASKDSL_CACHE", str(tmp_path / "deep" / "er"))
    maskdsl.compile("retention").source()
    assert [file.suffix for file in (tmp_path / "deep" / "er").iterdir()] == [".py"]
    monkeypatch.delenv("MASKDSL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert cache.directory().name == "maskdsl"


def test_a_text_that_cannot_be_made_leaves_nothing(folder: Path) -> None:
    with pytest.raises(AssertionError, match="holds"):
        cache.module("name", "key", never)
    assert not folder.exists() or not list(folder.iterdir())


def test_a_write_that_fails_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, say, at the last step."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="MASKDSL_CACHE"):
        cache.module("name", "key", lambda: TEXT)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("obstacle", ["file", "below a file"])
def test_a_folder_in_the_way_is_named(obstacle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("in the way")
    chosen = blocked if obstacle == "file" else blocked / "cache"
    monkeypatch.setenv("MASKDSL_CACHE", str(chosen))
    with pytest.raises(OSError, match="MASKDSL_CACHE") as caught:
        maskdsl.compile("retention").source()
    assert str(chosen) in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(folder: Path) -> None:
    folder.mkdir(mode=0o500)
    with pytest.raises(OSError, match="MASKDSL_CACHE"):
        maskdsl.compile("retention").source()


def start(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_process_leaves_no_broken_file(folder: Path) -> None:
    """Every file under a final name is whole, at whatever moment its writer dies."""
    moment = random.Random(0)
    for _ in range(5):
        process = start(PUBLISHER)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05 + moment.random() / 10)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        published = list(folder.glob("victim_*.py"))
        assert published
        assert all(cache._intact(file) for file in published)


def test_what_killed_processes_left_is_swept(folder: Path) -> None:
    """Old temporary files go when something is published; young ones may be another process's work in progress."""
    folder.mkdir()
    old, young, foreign = folder / ".old.maskdsl.tmp", folder / ".young.maskdsl.tmp", folder / ".notes.tmp"
    for file in (old, young, foreign):
        file.write_text("unfinished")
    for file in (old, foreign):
        os.utime(file, (time.time() - 7200,) * 2)
    cache.module("name", "key", lambda: TEXT)
    assert not old.exists()
    assert young.exists()
    assert foreign.exists()


def test_several_processes_at_once(folder: Path) -> None:
    """They compile the same spec at the same moment; all succeed, and one whole file is left."""
    processes = [start(COMPILER) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outcomes = [(*process.communicate(), process.returncode) for process in processes]
    assert [code for _, _, code in outcomes] == [0, 0, 0], outcomes
    assert len({output for output, _, _ in outcomes}) == 1
    (file,) = folder.iterdir()
    assert cache._intact(file)
