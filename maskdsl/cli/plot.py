"""`maskdsl plot`: a mask as a picture."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from maskdsl.cli.specs import chosen, spec_argument


@click.command()
@spec_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The picture to write; NAME.png by default.")
@click.option("--length", type=click.IntRange(2, 256), default=64, show_default=True, help="Positions to draw.")
def plot(spec: str, name: str | None, output: Path | None, length: int) -> None:
    """Draw the masks of SPEC for random inputs: the whole mask, its levels, and every factor.

    \b
    Examples:
      maskdsl plot log_linear_mamba2
      maskdsl plot gated_deltanet -o mask.png --length 128
    """
    if find_spec("matplotlib") is None:
        raise click.ClickException('Plots need matplotlib, which is not installed: pip install "maskdsl[plot]"')
    from maskdsl.explain.picture import draw

    checked = chosen(spec, name)
    target = output or Path(f"{checked.name}.png")
    try:
        draw(checked, target, length)
    except ValueError as error:  # a suffix that matplotlib does not know
        raise click.UsageError(str(error)) from error
    click.echo(f"wrote {target}")
