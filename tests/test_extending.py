"""What must be touched to add one of a kind: here one of each is added to a copy of the package, and used there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).parents[1] / "aesearch"

METRIC = """
import numpy as np

from aesearch.metrics.kinds import FACTORS, NOISE, MetricKind

EVENNESS = MetricKind(
    name="evenness",
    better="less",
    unit="bits",
    explanation="how even codes are.",
    floor=NOISE,
    ceiling=FACTORS,
    cost="codes",
    measure="evenness",
)


def evenness(codes):
    return float(np.var(codes))
"""
MEASURE = '    "evenness": Measure(("evenness",), lambda sample: (evenness(sample.codes),)),\n'
SCORE = """
from dataclasses import dataclass

from aesearch.metrics import MetricKind
from aesearch.scores.score import Score


@dataclass(frozen=True)
class Blur(Score):
    kinds = (MetricKind("blur", "less", "pixels", "width of edges.", None, None, "images"),)
    splits = ("val", "test")
    names = ("blur",)

    def check(self, data, objective):
        pass

    def measure(self, trained, split):
        return {"blur": 0.5}
"""
FIGURE = """

@report_figure(15, "How many trials are complete.")
def counts(analysis: Analysis) -> Figure | None:
    figure, axis = plt.subplots()
    axis.bar(["complete"], [len(analysis.complete)])
    return figure
"""
ACTION = '''"""Say how large a model is."""

from aesearch.use.action import Action


def add_options(parser):
    parser.add_argument("--unit", default="parameters")


def run(model, source, out, options):
    return [f"{model} {options.unit}"]


ACTION = Action(55, "say how large the model is", add_options, run)
'''
OBJECTIVE = """
from dataclasses import dataclass
from typing import ClassVar

from aesearch.objectives.objective import Objective, kl


@dataclass(frozen=True)
class Doubled(Objective):
    likelihood: str = "bernoulli"
    variational: ClassVar[bool] = True

    def check(self):
        pass

    def regulariser(self, output, target, step):
        return 2 * kl(output)
"""
DATA = """
from dataclasses import dataclass

from aesearch.datasets.bundled import Digits


@dataclass(frozen=True)
class Numerals(Digits):
    pass
"""


SCRIPT = """
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from aesearch import Digits, Minimize, Numerals, Study, TrainConfig
from aesearch.metrics import metric_of
from aesearch.model import from_json, to_json
from aesearch.networks import MLP
from aesearch.objectives import Doubled
from aesearch.protocols import fast
from aesearch.report import figures
from aesearch.scores import Blur, Disentanglement, Posterior, Source

evenness = Disentanglement(("evenness",), replace(fast, name="mine", metrics=("evenness",)))
source = Source(lambda places: Posterior(np.ones((len(places), 2)), None), 30, np.arange(30)[:, None], ("x",))
config = TrainConfig(Numerals(), MLP((8,)), 2, Doubled(), epochs=1, scores=(Blur(),))
study = Study("s", lambda trial: config, Minimize("val/blur"), n_trials=1)
study.check()
order = list(figures.FIGURES)
figures.FIGURES = {"counts": figures.FIGURES["counts"]}
print(json.dumps({
    "measured": evenness.of_source(source),
    "better": metric_of("val/mine.evenness").better,
    "own": [[kind.name, kind.better] for kind in study.kinds],
    "saved": from_json(to_json(config)) == config,
    "saved as": [to_json(config)["data"]["type"], to_json(config)["objective"]["type"]],
    "order": order,
    "drawn": figures.draw_figures(SimpleNamespace(complete=[1, 2]), Path("drawn")),
}))
"""


class Copy:
    """A copy of the package."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(PACKAGE, folder / "aesearch", ignore=shutil.ignore_patterns("__pycache__"))

    def add(self, path: str, text: str, before: str = "") -> None:
        """Write a file, or put ``text`` before a line of one, at its end by default."""
        file = self.folder / "aesearch" / path
        old = file.read_text() if file.exists() else ""
        assert not before or old.count(before) == 1
        file.write_text(old.replace(before, text + before) if before else old + text)

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(self.folder)}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)


# By what is added: the files that are touched, each with the text and the line that it stands before.
ADDED = {
    "metric of a protocol": [
        ("metrics/evenness.py", METRIC, ""),
        ("scores/disentanglement.py", MEASURE, '    "total_correlation": Measure('),
        ("scores/disentanglement.py", "from aesearch.metrics.evenness import evenness\n", "from aesearch.objectives"),
    ],
    "metric of a score": [
        ("scores/blur.py", SCORE, ""),
        ("scores/__init__.py", "from aesearch.scores.blur import Blur\n", "from aesearch.scores.comparisons"),
        ("scores/__init__.py", '    "Blur",\n', '    "CodeScore",\n'),
    ],
    "figure": [("report/figures/planes.py", FIGURE, "")],
    "action": [("use/actions/weigh.py", ACTION, "")],
    "objective": [
        ("objectives/doubled.py", OBJECTIVE, ""),
        ("objectives/__init__.py", "from aesearch.objectives.doubled import Doubled\n", "from aesearch.objectives.li"),
        ("objectives/__init__.py", '    "Doubled",\n', '    "FactorVAE",\n'),
    ],
    "data set": [
        ("datasets/numerals.py", DATA, ""),
        ("datasets/__init__.py", "from aesearch.datasets.numerals import Numerals\n", "from aesearch.datasets.one"),
        ("datasets/__init__.py", '    "Numerals",\n', '    "OneClass",\n'),
    ],
}
# With the page of docs that has a row for it, which tests/test_readme.py holds.
MOST_FILES = {"figure": 1, "action": 1}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy of the package with one more of each kind."""
    extended = Copy(tmp_path_factory.mktemp("extended"))
    for additions in ADDED.values():
        for path, text, before in additions:
            extended.add(path, text, before)
    return extended


@pytest.fixture(scope="module")
def said(copy: Copy) -> dict[str, Any]:
    """What the extended package says of what was added."""
    result = copy.run(SCRIPT)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("kind", ADDED)
def test_a_new_one_touches_one_file_and_one_registration(kind):
    assert len({path for path, _, _ in ADDED[kind]}) <= MOST_FILES.get(kind, 2)


def test_a_metric_of_a_protocol_is_measured_and_described(said):
    assert (said["measured"], said["better"]) == ({"mine.evenness": 0.0}, "less")


def test_a_metric_of_a_score_is_searched_and_described(said):
    assert said["own"] == [["blur", "less"]]


def test_a_metric_without_its_registration_is_refused_at_import(tmp_path):
    lacking = Copy(tmp_path)
    lacking.add("metrics/evenness.py", METRIC)
    assert "MEASURES['evenness'] measures (), but its kinds are" in lacking.run("import aesearch.scores").stderr


def test_a_figure_is_drawn_at_its_place(said, copy):
    assert said["order"][:3] == ["plane", "counts", "sweeps"]
    assert said["drawn"] == {"counts.png": "How many trials are complete."}
    assert (copy.folder / "drawn" / "counts.png").stat().st_size > 1000


def test_an_action_is_one_file(copy):
    script = """
import sys
from aesearch.__main__ import make_parser
from aesearch.use.actions import ACTIONS
options = make_parser().parse_args(["use", "m", "weigh", "--unit", "kilograms", "--replica", "0"])
print(list(ACTIONS)[4:7], ACTIONS[options.action].run("3", None, None, options), "torch" in sys.modules)
make_parser().parse_args(["use", "--help"])
"""
    out = copy.run(script).stdout
    assert out.startswith("['sample', 'weigh', 'interpolate'] ['3 kilograms'] False\n")
    assert "say how large the model is" in out


def test_an_objective_and_a_data_set_are_configured_and_saved(said):
    assert said["saved"]
    assert said["saved as"] == ["Numerals", "Doubled"]
