"""`maskdsl library`: the definitions that come with maskdsl."""

from __future__ import annotations

import click

from maskdsl.diagnostics import Source


@click.command()
def library() -> None:
    """List the definitions of the library.

    \b
    Example:
      maskdsl library
    """
    from maskdsl.language.parse import parse
    from maskdsl.library import names, read

    width = max(map(len, names()))
    for name in names():
        (block,) = parse(Source(f"{name}.mask", read(name))).blocks
        click.echo(f"{name:<{width}}  {block.doc.strip().splitlines()[0]}")
