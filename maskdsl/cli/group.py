"""The `maskdsl` command: its subcommands, and how mistakes in specs and calls leave it."""

from __future__ import annotations

from typing import Any

import click

from maskdsl.cli.bench import bench
from maskdsl.cli.check import check
from maskdsl.cli.emit import emit
from maskdsl.cli.explain import explain
from maskdsl.cli.library import library
from maskdsl.cli.plot import plot
from maskdsl.cli.run import run
from maskdsl.cli.verify import verify
from maskdsl.diagnostics import CallError, SpecError


class Diagnosed(click.Group):
    """A group whose commands show mistakes of the user as rendered diagnostics and exit with 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; `SpecError` and `CallError` are the user's, anything else is a fault of ours."""
        try:
            return super().invoke(ctx)
        except (SpecError, CallError) as error:
            click.echo(str(error), err=True)
            ctx.exit(1)


@click.group(cls=Diagnosed, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="maskdsl")
def main() -> None:
    """A compiler for structured-mask attention.

    SPEC is the name of a library definition (see 'maskdsl library'), a .mask file, the text of a spec itself, or '-'
    for standard input. A file with several blocks needs the name of one: 'file.mask::name', or '--name name'.

    Exit codes: 0 all is well, 1 what was checked failed, 2 the command was not understood.
    """


for _command in (check, explain, emit, verify, plot, run, bench, library):
    main.add_command(_command)
