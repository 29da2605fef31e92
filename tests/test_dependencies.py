"""What is installed is pinned, all of it, and the audit covers it."""

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]


def plain(name: str) -> str:
    """Write the name of a package as an index does."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", name)[0]).lower()


def test_every_package_is_pinned_to_one_version():
    assert [line for line in CONSTRAINTS if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*", line)] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {plain(name) for name in [*project["dependencies"], *project["optional-dependencies"]["dev"]]}
    assert asked <= {plain(line) for line in CONSTRAINTS}


def test_the_audit_is_of_the_constraints_and_strict():
    """Without --strict it ends with status 0 where it could not ask about any package."""
    said = subprocess.run(
        ["make", "-n", "--no-print-directory", "audit"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    last = said.splitlines()[-1].split()
    assert Path(last[0]).name == "pip-audit"
    assert {"--strict", "--no-deps", "--disable-pip"} <= set(last)
    assert last[-2:] == ["--requirement", "constraints.txt"]
