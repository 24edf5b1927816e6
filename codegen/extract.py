"""One function out of a generated module, with what it needs of the others."""

from __future__ import annotations

import ast


def function_source(module: str, name: str) -> str:
    """The text of the top-level function `name`, after that of the functions it uses. Raises KeyError if none."""
    functions = {node.name: node for node in ast.parse(module).body if isinstance(node, ast.FunctionDef)}
    used, found = set(), [name]
    while found:
        current = found.pop()
        used.add(current)
        mentioned = {node.id for node in ast.walk(functions[current]) if isinstance(node, ast.Name)}
        found += (mentioned & functions.keys()) - used
    lines = module.splitlines()
    ordered = sorted((functions[each] for each in used), key=lambda node: (node.name == name, node.lineno))
    return "\n\n".join("\n".join(lines[_first(node) - 1 : node.end_lineno]) + "\n" for node in ordered)


def _first(node: ast.FunctionDef) -> int:
    """The line where a function begins, decorators included."""
    return min(node.lineno, *(each.lineno for each in node.decorator_list), node.lineno)
