"""What README says is what there is."""

import inspect
import re
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest

from aesearch import metrics
from aesearch.commands.parser import make_parser
from aesearch.metrics import MetricKind
from aesearch.metrics.registry import KINDS
from aesearch.protocols import READY
from aesearch.scores.disentanglement import MEASURES
from aesearch.use.actions import ACTIONS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_study_that_it_shows_is_the_one_that_runs():
    [shown] = re.findall(r"## A study is a file\n\n```python\n(.*?)```", README, re.DOTALL)
    assert shown == (ROOT / "studies" / "beta_sweep.py").read_text()


def test_every_file_that_it_links_or_lists_is_there():
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert len(links) > 3
    listed = re.findall(r"^  ([\w/]+(?:\.py|/))  ", README, re.MULTILINE)
    assert len(listed) > 10
    missing = [name for name in links if not (ROOT / name).exists()]
    missing += [name for name in listed if not (ROOT / "aesearch" / name).exists()]
    assert missing == []


@pytest.mark.parametrize("command", ["run", "plan", "show", "report", "rescore", "sync", "use", "ui"])
def test_every_command_and_option_that_it_names_is_there(command):
    assert f"`python -m aesearch {command}" in README
    parser = make_parser()
    run = parser.parse_args(["run", "x.py"]).parser
    options = re.findall(r"`(--[a-z-]+)`", README.split("`run` takes")[1].split("says what they are")[0])
    assert set(options) == set(run._option_string_actions) - {"-h", "-v", "--verbose"}


@pytest.mark.parametrize(
    ("room", "kind", "guide"),
    [
        ("objectives", "Objective", "models"),
        ("bottlenecks", "Bottleneck", "models"),
        ("corruptions", "Corruption", "models"),
        ("scores", "Score", "models"),
        ("scores", "Comparison", "models"),
        ("networks", "Network", "models"),
        ("datasets", "Dataset", "data"),
        ("study", "Rule", "search"),
    ],
)
def test_the_guides_name_every_value_of_a_kind(room, kind, guide):
    module = import_module(f"aesearch.{room}")
    values = [value for value in vars(module).values() if inspect.isclass(value) and is_dataclass(value)]
    names = {value.__name__ for value in values if issubclass(value, getattr(module, kind))}
    text = (ROOT / "docs" / f"{guide}.md").read_text()
    assert names
    assert {name for name in names if f"`{name}(" not in text} == set()


def row(kind: MetricKind) -> str:
    """The line of a metric in the guide."""
    name = f"{kind.name}_K" if kind.number else kind.name
    cells = (kind.better, kind.unit, kind.number, kind.floor, kind.ceiling, kind.cost)
    return " | ".join([f"| `{name}`", *(cell or "" for cell in cells)]) + " |"


def test_the_guide_of_metrics_names_every_function_and_protocol():
    text = (ROOT / "docs" / "metrics.md").read_text()
    functions = [name for name in metrics.__all__ if name[0].islower()]
    assert {name for name in [*functions, *READY] if f"`{name}`" not in text} == set()
    rows = re.findall(r"^\| `\w+` \| (?:less|more) \|.*", text, re.MULTILINE)
    assert rows == [row(kind) for kind in KINDS.values()]
    assert {name for name in MEASURES if f'"{name}"' not in text and f"`{name}" not in text} <= {"mutual_information"}


def test_the_guide_of_use_has_every_action():
    rows = re.findall(r"^\| `([a-z]+)` \|", (ROOT / "docs" / "use.md").read_text(), re.MULTILINE)
    assert rows == list(ACTIONS)


@pytest.mark.parametrize(
    "path", ["README.md", *(f"docs/{name}.md" for name in ("models", "data", "use", "metrics", "mlflow"))]
)
def test_no_placeholder_is_left(path):
    assert "@@" not in (ROOT / path).read_text()


def test_the_first_finding_is_the_reports():
    """What the first page says of the main study stands in its report."""
    readme, report = (
        " ".join((ROOT / name).read_text().split()) for name in ("README.md", "reports/beta_sweep/report.md")
    )
    said = re.search(
        r"rise \(Spearman (\S+ \[.+?\]) and (\S+ \[.+?\])\). Settings explain (\d+%) of the variance of MSE on test, "
        r"but (\S+ \[.+?\]) of that of MIG",
        readme,
    )
    assert said
    of_mse, of_mig, mse, mig = map(re.escape, said.groups())
    trends = (
        rf"As beta rises .*?test/mse rises from [^;]*Spearman {of_mse}.*?; test/mig rises from [^;]*Spearman {of_mig}"
    )
    assert re.search(trends, report)
    assert re.search(rf"Settings explain {mse} \[.+?\] of the variance of test/mse .*?: settings differ", report)
    few = rf"Settings explain {mig} of the variance of test/mig .*?p &lt; .001\): settings differ, but one seed of a "
    assert re.search(f"{few}setting tells more of the seed", report)
    assert "MSE and MIG rise with β; a seed moves MIG more than a setting" in readme


def test_the_other_findings_are_the_reports():
    """Those of the reports that were made again since the report says how sure it is."""
    trials = pd.read_csv(ROOT / "reports" / "objectives" / "trials.csv").set_index("objective")
    for objective, said in (("beta-TCVAE", "β-TCVAE has MIG"), ("FactorVAE", "FactorVAE")):
        row = trials.loc[objective]
        assert f"{said} {row['test/mig']:.2f} [{row['test/mig_min']:.2f} to {row['test/mig_max']:.2f}]" in README
    assert trials["test/mig"].idxmax() == "beta-TCVAE"
    assert trials["test/mig"].nlargest(2).index[1] == "FactorVAE"
    report = (ROOT / "reports" / "objectives" / "report.md").read_text()
    assert re.search(r"of the variance of test/mig .*?p &lt; .001\): settings differ", report)
    best = pd.read_csv(ROOT / "reports" / "anomaly" / "trials.csv").sort_values("val/mse").groupby("normal").first()
    digits = best["test/auroc"].drop("benign").mean()
    assert f"AUROC {digits:.2f}, mean of ten digits' best; table {best.loc['benign', 'test/auroc']:.2f}" in README
