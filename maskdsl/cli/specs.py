"""From a SPEC argument to what the library's door understands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from maskdsl.diagnostics import Source
from maskdsl.spec import Spec


def spec_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument SPEC and the option `--name`, for `chosen`."""
    named = click.option("--name", metavar="NAME", help="The block to take from a file with several.")
    return click.argument("spec", metavar="SPEC")(named(command))


def chosen(argument: str, name: str | None) -> Spec:
    """The spec that SPEC and `--name` choose.

    Raises `SpecError` for mistakes in the text, `click.UsageError` where no block or no single block is chosen.
    """
    from maskdsl.library.resolve import resolve

    try:
        return resolve(*located(argument, name))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def located(argument: str, name: str | None) -> tuple[str, str | None]:
    """SPEC and `--name` as `maskdsl.compile` takes them: standard input read, `path::name` taken apart."""
    if argument == "-":
        return _standard_input().text, name
    head, separator, tail = argument.rpartition("::")
    return (head, name or tail) if separator and Path(head).is_file() else (argument, name)


def sources(argument: str) -> tuple[Source, ...]:
    """Every text that SPEC stands for, all `.mask` files of a folder included. Raises `click.UsageError` if none."""
    from maskdsl.language.load import read
    from maskdsl.library.resolve import source_of

    if argument == "-":
        return (_standard_input(),)
    try:
        return read(argument) if Path(argument).is_dir() else (source_of(argument),)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _standard_input() -> Source:
    """Standard input; a text needs a line end to be told from a path, so it gets one."""
    return Source("<stdin>", sys.stdin.read() + "\n")
