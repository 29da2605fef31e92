"""Who may import whom: the arrows of the design, read from the code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "aesearch"

# Bottom floor first. A room, a module or a folder, imports only from floors below its own.
FLOORS = (
    {"errors", "escapes", "rights", "pareto", "metrics", "discarding"},
    {"statistics", "protocols", "datasets", "networks", "corruptions", "bottlenecks"},
    {"autoencoder"},
    {"objectives"},
    {"scores"},
    {"train"},
    {"model"},
    {"study", "records"},
    {"plan", "rescore", "serving", "use"},
    {"search", "tracking", "report"},
    {"commands"},
    {"__init__", "__main__"},
)


def rooms() -> dict[str, set[str]]:
    """Map each room of aesearch to the other rooms that it imports."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        imports = found.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aesearch."):
                imports.add(node.module.split(".")[1])
        imports.discard(room)
    return found


def test_every_room_is_on_a_floor():
    assert sorted(rooms()) == sorted(room for floor in FLOORS for room in floor)


def test_every_room_imports_only_from_floors_below():
    floor_of = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    upward = [
        f"{room} imports {other}"
        for room, imports in rooms().items()
        for other in imports
        if floor_of[other] >= floor_of[room]
    ]
    assert upward == []


def test_no_two_files_have_one_name():
    """A name says what is inside without its folder; the files of commands are named like the commands."""
    names = [path.name for path in PACKAGE.rglob("*.py") if path.parent.name != "commands" and path.stem != "__init__"]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(("library", "room"), [("ray", "search"), ("mlflow", "tracking"), ("seaborn", "report")])
def test_each_platform_has_one_room(library, room):
    importing = {
        path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(name.name.split(".")[0] == library for name in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == library)
    }
    assert importing == {room}


def test_every_ray_is_started_by_one_function():
    """It closes the ports, the token and the folder of a Ray to others."""
    starts = re.compile(r"\bray\.init\(")
    root = PACKAGE.parent
    files = [path for room in ("aesearch", "benchmarks", "studies", "tests") for path in (root / room).rglob("*.py")]
    assert [path.name for path in files if starts.search(path.read_text())] == ["cluster.py"]


def test_only_moments_are_read_from_a_clock_that_jumps():
    """Durations and time limits are of clocks that only go forward: time.monotonic, time.perf_counter."""
    moments = re.compile(r"\btime\.time(_ns)?\(|datetime\.(now|utcnow|today)\(|\bfrom time import")
    lines = [line for path in PACKAGE.rglob("*.py") for line in path.read_text().splitlines() if moments.search(line)]
    assert len(lines) >= 3
    assert [line for line in lines if '"time_ms": ' not in line] == []


@pytest.mark.parametrize("code", ["import aesearch", "from aesearch.__main__ import make_parser; make_parser()"])
def test_importing_and_parsing_load_nothing_heavy(code):
    script = f"import sys; {code}; print({{'torch', 'ray', 'mlflow', 'optuna', 'pandas', 'numpy'}} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_the_training_core_needs_only_torch():
    blocked = "ray mlflow optuna pandas seaborn matplotlib sklearn torchvision sqlalchemy jinja2"
    script = (
        f"import sys\nfor name in {blocked.split()}: sys.modules[name] = None\n"
        "from aesearch.train import TrainConfig, train\nprint('ok')"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "ok", result.stderr
