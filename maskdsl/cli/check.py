"""`maskdsl check`: every diagnostic of every file."""

from __future__ import annotations

import itertools
import sys

import click

from maskdsl.cli.specs import sources
from maskdsl.diagnostics import SpecError


@click.command()
@click.argument("files", metavar="SPEC...", nargs=-1, required=True)
def check(files: tuple[str, ...]) -> None:
    """Check every block of every SPEC and show all mistakes.

    \b
    Examples:
      maskdsl check my_attention.mask
      maskdsl check specs/*.mask
      cat my_attention.mask | maskdsl check -
    """
    from maskdsl.language.load import specs

    failed = False
    for source in itertools.chain.from_iterable(map(sources, files)):
        try:
            names = ", ".join(spec.name for spec in specs(source))
            click.echo(f"{source.name}: {names} ok")
        except SpecError as error:
            failed = True
            click.echo(f"{error}\n", err=True)
    sys.exit(failed)
