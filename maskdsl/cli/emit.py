"""`maskdsl emit`: what the compiler makes of a spec, at any stage."""

from __future__ import annotations

import click

from maskdsl.cli.specs import chosen, spec_argument

STAGES = ("syntax", "mask", "normal", "chunk", "torch")
DIRECTIONS = ("forward", "backward")


@click.command()
@spec_argument
@click.option("--stage", type=click.Choice(STAGES), default="torch", show_default=True, help="How far to compile.")
@click.option("--direction", type=click.Choice(DIRECTIONS), default="forward", show_default=True, help="Which pass.")
def emit(spec: str, name: str | None, stage: str, direction: str) -> None:
    """Print SPEC at a stage of its way through the compiler; the last stage is the generated program.

    \b
    Examples:
      maskdsl emit gated_deltanet
      maskdsl emit gated_deltanet --direction backward
      maskdsl emit log_linear_mamba2 --stage normal
      maskdsl emit my_attention.mask --stage chunk --direction backward
    """
    from maskdsl.runtime.driver import stages

    click.echo(stages(chosen(spec, name), stage, direction))
