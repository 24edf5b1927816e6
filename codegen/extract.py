"""One function out of a generated module."""

from __future__ import annotations

import ast


def function_source(module: str, name: str) -> str:
    """The text of the top-level function `name`."""
    for node in ast.parse(module).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return "\n".join(module.splitlines()[node.lineno - 1 : node.end_lineno]) + "\n"
    raise KeyError(name)
