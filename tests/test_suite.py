"""Habits of this suite: short names, helpers in one place, a test where the code is."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent
LONGEST_NAME = 59
# A room that is tested through others may lack a folder; a folder of tests without a room is an error.
OF_NO_ROOM = {"helpers", "releases"}


def trees() -> dict[Path, ast.Module]:
    """Map each file of tests, by its path below tests/, to what it says."""
    return {path.relative_to(TESTS): ast.parse(path.read_text()) for path in sorted(TESTS.rglob("*.py"))}


def test_names_of_tests_are_short():
    names = [
        f"{path}: {node.name}"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and len(node.name) > LONGEST_NAME
    ]
    assert names == []


def test_no_two_tests_of_a_file_have_one_name():
    """The second would replace the first, which would never run."""
    for path, tree in trees().items():
        names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert sorted(names) == sorted(set(names)), path


def test_no_file_of_tests_imports_another():
    """What two files share is in helpers/ or a fixture of conftest.py; scripts in strings count too."""
    found = [
        f"{path}: {line.strip()}"
        for path in trees()
        for line in (TESTS / path).read_text().splitlines()
        if line.strip().startswith(("from test_", "import test_", "from tests", "import tests", "from conftest"))
    ]
    assert found == []


def test_tests_mirror_the_package():
    rooms = {path.name for path in (TESTS.parent / "aesearch").iterdir() if (path / "__init__.py").exists()}
    folders = {path.name for path in TESTS.iterdir() if any(path.rglob("*.py"))}
    assert folders - rooms <= OF_NO_ROOM
    files = {path.stem for path in (TESTS.parent / "aesearch").glob("*.py")}
    loose = {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")}
    of_the_repository = {
        "architecture",
        "benchmarks",
        "dependencies",
        "docs",
        "extending",
        "prose",
        "readme",
        "releases",
        "studies",
    }
    assert loose - files <= of_the_repository | {"suite"}


def test_a_helper_is_defined_once():
    """A function of helpers/ that a test file defines again, word for word, is in two places."""
    shared = {
        ast.dump(node): f"{path}: {node.name}"
        for path, tree in trees().items()
        if path.parts[0] == "helpers"
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    twice = [
        f"{path}: {node.name} is {shared[ast.dump(node)]}"
        for path, tree in trees().items()
        if path.parts[0] != "helpers"
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.dump(node) in shared
    ]
    assert twice == []
