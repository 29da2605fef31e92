"""Who may import whom: the arrows of the design, read from the code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "aesearch"

ARROWS = {
    "__init__": {"datasets", "model", "seeds", "stopping", "study", "train"},
    "__main__": {"commands", "errors", "use"},
    "commands": {
        "budgets",
        "datasets",
        "errors",
        "ledger",
        "model",
        "plan",
        "progress",
        "records",
        "report",
        "rescore",
        "results",
        "scores",
        "study",
        "tracking",
        "tuner",
        "use",
    },
    "errors": set(),
    "datasets": {"errors"},
    "networks": {"errors"},
    "bottlenecks": {"errors"},
    "corruptions": {"errors"},
    "autoencoder": {"bottlenecks", "errors", "networks"},
    "objectives": {"autoencoder", "errors"},
    "metrics": set(),
    "protocols": {"errors"},
    "scores": {"autoencoder", "corruptions", "datasets", "errors", "metrics", "objectives", "protocols"},
    "train": {
        "autoencoder",
        "bottlenecks",
        "corruptions",
        "datasets",
        "errors",
        "metrics",
        "networks",
        "objectives",
        "protocols",
        "scores",
        "seeds",
    },
    "model": {"autoencoder", "bottlenecks", "datasets", "errors", "objectives", "scores", "train"},
    "serving": {"errors", "model"},
    "use": {"corruptions", "datasets", "errors", "metrics", "model", "objectives"},
    "stopping": {"errors"},
    "seeds": {"errors", "stopping"},
    "study": {"errors", "scores", "seeds", "stopping", "train"},
    "rescore": {"datasets", "errors", "model", "protocols", "results", "scores", "study", "train"},
    "records": {"errors", "model", "train"},
    "ledger": {"errors", "records", "stopping", "study", "train"},
    "plan": {"model", "seeds", "study", "train"},
    "results": {"records"},
    "race": {"datasets", "ledger", "model", "records", "seeds", "study", "train"},
    "budgets": set(),
    "tuner": {"budgets", "errors", "ledger", "model", "race", "records", "stopping", "study", "train"},
    "tracking": {"errors", "model", "records", "results"},
    "progress": set(),
    "report": {"errors", "metrics", "results", "seeds"},
}


def rooms() -> dict[str, set[str]]:
    """The rooms of aesearch, a module or a folder each, and the other rooms that they import."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        imports = found.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aesearch."):
                imports.add(node.module.split(".")[1])
        imports.discard(room)
    return found


def test_every_room_imports_only_what_its_arrows_allow():
    assert rooms() == ARROWS


@pytest.mark.parametrize(("library", "room"), [("ray", "tuner"), ("mlflow", "tracking"), ("seaborn", "report")])
def test_each_platform_has_one_room(library, room):
    importing = {
        path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(name.name.split(".")[0] == library for name in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == library)
    }
    assert importing == {room}


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
