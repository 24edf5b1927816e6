"""The command line: `maskdsl check`, `explain`, `emit`, `verify`, `plot`, `run`, `bench` and `library`."""

from maskdsl.cli.group import main

__all__ = ["main"]
