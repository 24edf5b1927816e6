"""`maskdsl explain`: the recurrence, the normal form and the costs of a spec."""

from __future__ import annotations

import click

from maskdsl.cli.specs import chosen, spec_argument


@click.command()
@spec_argument
def explain(spec: str, name: str | None) -> None:
    """Write the recurrence of SPEC as mathematics, its masks in normal form, and what it costs.

    \b
    Examples:
      maskdsl explain log_linear_mamba2
      maskdsl explain my_attention.mask
    """
    from maskdsl.explain.report import explain as explained

    click.echo(explained(chosen(spec, name)), nl=False)
