"""Code of a study file that its configurations train with.

A configuration names the classes of its values; those of the study file itself bring their code along. Comments,
docstrings and layout are no part of it.
"""

import ast
from collections.abc import Iterator
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any

Definitions = dict[str, list[ast.stmt]]
Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def own_code(text: str, module: str, values: tuple[Any, ...]) -> dict[str, str]:
    """Find the definitions that ``values`` train with, by name.

    text: of the study file. module: its name. They are the classes of the values and of their fields, and all that the
    file defines and those use: functions, constants, imports.
    """
    names = sorted({name for value in values for name in _classes(value, module)})
    if not names:
        return {}
    tree = ast.parse(text)
    # A class that a function defines is found by its name, and what the file defines hides it.
    inner: Definitions = {node.name: [node] for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    known = inner | _definitions(tree)
    found: dict[str, str] = {}
    while names:
        name = names.pop()
        if name in known and name not in found:
            found[name] = "\n".join(ast.unparse(_undocumented(node)) for node in known[name])
            used = {one.id for node in known[name] for one in ast.walk(node) if isinstance(one, ast.Name)}
            names += sorted(used & known.keys())
    return dict(sorted(found.items()))


def changed_line(was: str, now: str) -> tuple[str, str] | None:
    """Find the first line in which two definitions differ.

    None if they are the same code.
    """
    # As trees: the next Python may write them in another way.
    if ast.dump(ast.parse(was)) == ast.dump(ast.parse(now)):
        return None
    before, after = ([line for line in code.splitlines() if line] for code in (was, now))
    place = next(i for i in range(1 + len(before)) if before[i : i + 1] != after[i : i + 1])
    return _line(before, place), _line(after, place)


def _line(lines: list[str], place: int) -> str:
    return lines[place].strip() if place < len(lines) else "not there"


def _classes(value: Any, module: str) -> Iterator[str]:
    """Name the classes and functions of ``module`` in a value."""
    if isinstance(value, tuple):
        for item in value:
            yield from _classes(item, module)
        return
    own = value if isinstance(value, type) or hasattr(value, "__qualname__") else type(value)
    for one in getattr(own, "__mro__", (own,)):
        if one.__module__ == module:
            yield one.__qualname__.rpartition(".")[2]
    if is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from _classes(getattr(value, each.name), module)


def _definitions(tree: ast.Module) -> Definitions:
    """Map each name that a file defines to the statements that do."""
    found: Definitions = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                # Each name by itself, as other names of the statement do not matter.
                one = copy(node)
                one.names = [alias]
                found.setdefault(alias.asname or alias.name.partition(".")[0], []).append(one)
        elif isinstance(node, Named):
            found.setdefault(node.name, []).append(node)
        else:
            # A loop or a condition counts as a whole.
            stored = (one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store))
            for name in set(stored):
                found.setdefault(name, []).append(node)
    return found


def _undocumented(node: ast.stmt) -> ast.stmt:
    """Take the docstrings out of a definition."""
    for one in ast.walk(node):
        if isinstance(one, Named) and ast.get_docstring(one) is not None:
            one.body = one.body[1:] or [ast.Pass()]
    return node
