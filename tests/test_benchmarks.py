"""Each benchmark says what it measures, and the cheap ones measure something small."""

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
HELPERS = {"table", "server", "killing", "ledger_commands", "tracking_commands"}
BENCHMARKS = sorted(path for path in FOLDER.glob("*.py") if path.stem not in HELPERS)
# Those that need neither hours, a GPU, MNIST nor processes of their own.
SMALL = {
    "startup": ["--rounds", "1"],
    "metrics": ["--points", "500", "--rounds", "1"],
    "overhead": ["--trials", "6"],
}


@pytest.fixture
def benchmark(monkeypatch, in_tmp):
    """Run a benchmark in this process, which has imported most of what it needs."""
    monkeypatch.syspath_prepend(FOLDER)

    def run(name: str, *arguments: str) -> None:
        path = FOLDER / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        runpy.run_path(str(path), run_name="__main__")

    return run


@pytest.mark.parametrize("name", [path.stem for path in BENCHMARKS])
def test_a_benchmark_says_what_it_measures(name, benchmark, capsys):
    with pytest.raises(SystemExit) as ended:
        benchmark(name, "--help")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"python benchmarks/{name}.py" in said


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("name", SMALL)
def test_a_small_measurement_prints_its_table(name, benchmark, capsys):
    benchmark(name, *SMALL[name])
    said = capsys.readouterr().out
    assert "|---" in said or "|:--" in said
