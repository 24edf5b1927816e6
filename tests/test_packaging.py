"""What a wheel holds, and that the import rule is enforced."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSE = {"maskdsl": "maskdsl", "codegen": "maskdsl/codegen", "runtime": "maskdsl/runtime", "library": "maskdsl/library"}


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of a wheel built from a copy of the source, so that no earlier build can leak into it."""
    source = tmp_path_factory.mktemp("source")
    for folder in HOUSE:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", "out", "."], cwd=source, check=True, capture_output=True)
    (wheel,) = (source / "out").glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_only_top_level_package_is_maskdsl(wheel_files: set[str]) -> None:
    tops = {file.split("/")[0] for file in wheel_files}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"maskdsl"}


def test_every_module_grammar_and_definition_is_in_the_wheel(wheel_files: set[str]) -> None:
    wanted = {
        f"{HOUSE[folder]}/{file.relative_to(ROOT / folder).as_posix()}"
        for folder in HOUSE
        for file in (ROOT / folder).rglob("*")
        if file.suffix in {".py", ".lark", ".mask"} or file.name == "py.typed"
    }
    assert wanted - wheel_files == set()
    assert any(file.endswith(".lark") for file in wanted)
    assert any(file.endswith(".mask") for file in wanted)


@pytest.mark.parametrize(
    ("file", "code", "rule"),
    [
        ("maskdsl/mask/probe.py", "from maskdsl.runtime import oracle", "TID251"),
        ("maskdsl/mask/probe.py", "def f():\n    import maskdsl.codegen", "TID251"),
        ("maskdsl/language/probe.py", "from maskdsl import library", "TID251"),
        ("maskdsl/mask/probe.py", "import codegen", "TID251"),
        ("maskdsl/cli/probe.py", "from maskdsl.runtime import oracle", "TID253"),
        ("maskdsl/__init__.py", "from maskdsl.runtime import oracle", "TID253"),
        ("codegen/probe.py", "from maskdsl.runtime import oracle", "TID251"),
        ("codegen/probe.py", "from maskdsl.library import names", "TID251"),
        ("codegen/probe.py", "from codegen import torch", "TID251"),
        ("runtime/probe.py", "from maskdsl.library import names", "TID251"),
        ("runtime/probe.py", "import runtime.oracle", "TID251"),
        ("library/probe.py", "from maskdsl.codegen import torch", "TID251"),
        ("tests/probe.py", "from library import names", "TID251"),
        ("examples/probe.py", "import runtime", "TID251"),
    ],
)
def test_a_forbidden_import_is_caught(file: str, code: str, rule: str) -> None:
    assert rule in _ruff(file, code)


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("maskdsl/cli/probe.py", "def f():\n    from maskdsl.runtime import oracle\n    return oracle"),
        ("maskdsl/__init__.py", "def f():\n    from maskdsl.runtime import oracle\n    return oracle"),
        ("codegen/probe.py", "from maskdsl.mask import nodes"),
        ("runtime/probe.py", "from maskdsl.codegen import torch"),
        ("library/probe.py", "from maskdsl.runtime import oracle"),
        ("tests/probe.py", "from maskdsl.library import names"),
    ],
)
def test_an_allowed_import_passes(file: str, code: str) -> None:
    assert "TID" not in _ruff(file, code)


def _ruff(file: str, code: str) -> str:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise"]
    return subprocess.run(
        [*command, "--stdin-filename", file, "-"], cwd=ROOT, input=code, capture_output=True, text=True
    ).stdout
