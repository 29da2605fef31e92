"""Rules of prose that a program can hold; ruff's D rules in pyproject.toml hold the others."""

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
# A docstring says what something does or is: none of these begins such a sentence.
NEVER_FIRST = {"How", "Of", "Whether", "Which", "What", "When", "Where", "Who", "Why"}
LONGEST_SUMMARY = 79
Defined = ast.Module | ast.ClassDef | ast.FunctionDef


class Documented(NamedTuple):
    """Definition that may have a docstring: its place, and whether its base has one."""

    place: str
    public: bool
    node: Defined
    inherited: bool

    @property
    def words(self) -> str:
        return ast.get_docstring(self.node) or ""


def files() -> list[Path]:
    """List the files whose prose is held."""
    folders = (ROOT / "aesearch", ROOT / "benchmarks", ROOT / "tests" / "helpers")
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


@cache
def documented_methods() -> dict[str, set[str]]:
    """Map each class of aesearch to the methods that it or a base of it documents, whatever file it is in."""
    classes = {
        node.name: node
        for path in (ROOT / "aesearch").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }

    def methods(name: str) -> set[str]:
        if name not in classes:
            return set()
        own = {n.name for n in classes[name].body if isinstance(n, ast.FunctionDef) and ast.get_docstring(n)}
        return own.union(*(methods(base) for base in bases(classes[name])))

    return {name: methods(name) for name in classes}


def bases(node: ast.ClassDef) -> list[str]:
    """List the names of a class's bases, without the modules that they are in."""
    return [base.attr if isinstance(base, ast.Attribute) else ast.unparse(base).split("[")[0] for base in node.bases]


def definitions(path: Path) -> Iterator[Documented]:
    """List the module, its classes, functions and methods; not what is defined within a function."""
    tree, name, inherited = ast.parse(path.read_text()), str(path.relative_to(ROOT)), documented_methods()
    yield Documented(name, True, tree, False)
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        public = not node.name.startswith("_")
        yield Documented(f"{name}: {node.name}", public, node, False)
        if isinstance(node, ast.ClassDef):
            known = set().union(*(inherited.get(base, set()) for base in bases(node)))
            for method in (one for one in node.body if isinstance(one, ast.FunctionDef)):
                seen = public and not method.name.startswith("_")
                place = f"{name}: {node.name}.{method.name}"
                yield Documented(place, seen, method, method.name in known)


@cache
def found() -> list[Documented]:
    return [one for path in files() for one in definitions(path)]


def test_public_names_have_docstrings():
    """A method whose base class documents it needs none; nor does forward."""
    missing = [
        one.place
        for one in found()
        if one.place.startswith("aesearch/") and one.public and not one.words and not one.inherited
        if not one.place.endswith(".forward")
    ]
    assert missing == []


def test_docstrings_begin_with_a_verb_or_a_noun():
    assert [one.place for one in found() if one.words and one.words.split()[0] in NEVER_FIRST] == []


def test_summaries_are_short_sentences():
    summaries = {one.place: one.words.splitlines()[0] for one in found() if one.words}
    assert {place: len(line) for place, line in summaries.items() if len(line) > LONGEST_SUMMARY} == {}
    assert {place: line for place, line in summaries.items() if not line.endswith((".", "?", "!"))} == {}


def test_ruff_holds_its_rules_in_every_room():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["per-file-ignores"]
    assert [name for name, rules in settings.items() if name.startswith("aesearch/") and "D" in rules] == []
