"""`maskdsl emit`: what the compiler makes of a spec, at any stage."""

from __future__ import annotations

from typing import Any

import click

from maskdsl.cli.specs import chosen, spec_argument

STAGES = ("syntax", "mask", "normal", "chunk", "torch", "triton", "ptx")
MODES = ("bf16", "fp16", "fp32")
TARGETS = ("sm_80", "sm_90", "sm_100", "gfx942")
DIRECTIONS = ("forward", "backward", "step")


@click.command()
@spec_argument
@click.option("--stage", type=click.Choice(STAGES), default="torch", show_default=True, help="How far to compile.")
@click.option("--direction", type=click.Choice(DIRECTIONS), default="forward", show_default=True, help="Which program.")
@click.option("--key", type=click.IntRange(1), default=64, show_default=True, help="K, the size of a key.")
@click.option("--value", type=click.IntRange(1), default=64, show_default=True, help="V, the size of a value.")
@click.option("--heads", type=click.IntRange(1), default=4, show_default=True, help="H.")
@click.option("--key-heads", type=click.IntRange(1), help="The heads of key inputs, a divisor of H.  [default: H]")
@click.option("--dtype", type=click.Choice(MODES), default="bf16", show_default=True, help="Of keys and values.")
@click.option("--target", type=click.Choice(TARGETS), default="sm_90", show_default=True, help="The GPU of stage ptx.")
def emit(spec: str, name: str | None, stage: str, direction: str, **example: Any) -> None:
    """Print SPEC at a stage of its way through the compiler: torch and triton are the generated programs.

    Stage ptx is the assembly of the Triton kernels, with what they use of the GPU; it needs none. Sizes, dtype and
    target matter for triton and ptx only.

    \b
    Examples:
      maskdsl emit gated_deltanet
      maskdsl emit gated_deltanet --direction backward
      maskdsl emit gated_deltanet --direction step
      maskdsl emit log_linear_mamba2 --stage normal
      maskdsl emit my_attention.mask --stage chunk --direction backward
      maskdsl emit log_linear_mamba2 --stage triton --heads 48 --key-heads 1 --key 128
    """
    from maskdsl.runtime.driver import Example, stages

    if example["key_heads"] and example["heads"] % example["key_heads"]:
        raise click.UsageError(f"{example['key_heads']} key heads do not divide {example['heads']} heads.")
    click.echo(stages(chosen(spec, name), stage, direction, Example(**example)))
