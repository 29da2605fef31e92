"""Text of others is shown as text: in every file of a report, whatever a study, a file or an error is called."""

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from helpers.results import keep_codes, make
from optuna.distributions import distribution_to_json

from aesearch.datasets import Table
from aesearch.records.results import Results
from aesearch.report import write_report

SPREADSHEET = ('=HYPERLINK("http://x.invalid")', "+1+cmd", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", " =1")
TERMINAL = ("\x1b]0;owned\x07", "\x1b[2J", "two\nlines", "back\rwards", "\x9b31m", "\u202egnp.exe", "\ud800")
PAGES = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;b&gt;", "```\n<b>", "`|`", "$x$")
LINKS = ("[a](javascript:alert(1))", "\\](javascript:1)", "![a](http://x.invalid/a.png)", "[a]: javascript:1")
LINKS += ("HTTP://x.invalid/a", "_www.x.invalid_", "a.b@-x.invalid")
HOSTILE = (*SPREADSHEET, *TERMINAL, *PAGES, *LINKS, "$\\nothing$")
# A lone surrogate is in no table: what comes from names of files is printable before.
CHOICES = tuple(text for text in HOSTILE if text != "\ud800")
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
KNOWN_TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "pre", "p", "ul", "li", "div", "table"}
KNOWN_TAGS |= {"thead", "tbody", "tr", "th", "td", "figure", "img", "figcaption", "footer"}


def hostile(folder: Path) -> Results:
    """Make results in which all that a person, a file or an error can name is hostile."""
    made = make(folder, complete=len(CHOICES))
    trials = made.trials.copy()
    trials["param:network"] = [*CHOICES, *CHOICES[:2]]
    trials.loc[trials["state"] == "FAIL", "reason"] = " ".join(CHOICES)
    choices = optuna.distributions.CategoricalDistribution(CHOICES)
    distributions = {**made.distributions, "network": distribution_to_json(choices)}
    for name in ("=1+1|\x1b[2J", "<script>$x"):
        trials[f"param:{name}"] = np.linspace(-1, 1, len(trials))
        distributions[name] = distribution_to_json(optuna.distributions.FloatDistribution(-9, 9))
    for end in ("", "_min", "_max"):
        trials[f"test/<script>\x1b|`{end}"] = 0.5
    replicas = made.replicas.rename(columns={"val/pca_mse": "=val/pca", "val/probe_10": "val/\x1b<script>"})
    for key in range(len(CHOICES)):
        keep_codes(folder / str(key), ["<script>\x1b", "$\\nothing$", "=1"])
    text = "\n".join(HOSTILE)
    info = made.info | {"question": text, "file": f"{text}.py", "version": HOSTILE[6], "name": HOSTILE[12]}
    return replace(made, info=info, trials=trials, replicas=replicas, distributions=distributions)


class Tags(HTMLParser):
    """Reader of a page that keeps its tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {(tag, name) for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    return write_report(hostile(folder / "pictures"), folder / "out").parent


def test_no_file_of_a_report_has_raw_control_characters(written):
    files = [path for path in written.rglob("*") if path.suffix in (".csv", ".html", ".md")]
    assert len(files) == 4
    for path in files:
        text = path.read_bytes().decode()
        assert RAW.findall(text) == [], path.name
        assert r"\x1b" in text, f"{path.name} shows what was there"


def test_the_page_has_only_its_own_tags(written):
    page = Tags()
    page.feed((written / "index.html").read_text())
    assert page.tags <= KNOWN_TAGS
    assert not {name for _, name in page.attributes if name.startswith("on")}
    assert "<script>alert(1)</script>" in page.text
    assert "javascript:alert(1)" in page.text


def test_the_markdown_has_no_tags_no_links_and_whole_tables(written):
    text = (written / "report.md").read_text()
    start = text.index("````\n")
    end = text.index("\n````\n", start + 5)
    question, rest = text[start:end], text[:start] + text[end:]
    assert "```\n<b>" in question, "a longer fence holds a shorter one"
    assert "<" not in rest
    links = re.findall(r"(?<!\\)\]\(([^)]*)\)", rest)
    assert links
    assert all(re.fullmatch(r"figures/\w+\.png", link) for link in links)
    assert re.findall(r"(?i)(?<!\\)://|www\.|\w@(?!&#8203;)", rest) == []
    tables = [block.splitlines() for block in re.split(r"\n\n+", rest) if block.startswith("|")]
    assert len(tables) >= 3
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
        assert all(line.startswith("|") and line.endswith("|") for line in table)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in rest


@pytest.mark.parametrize("name", ["trials.csv", "replicas.csv"])
def test_no_cell_of_a_table_is_a_formula(written, name):
    with (written / name).open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    begun = [cell for cell in cells if cell.strip().startswith(tuple("=+-@"))]
    assert [cell for cell in begun if not is_number(cell)] == []
    if name == "trials.csv":
        assert begun, "negative numbers stay numbers"
        assert """'-1+cmd|' /C calc'!A0""" in cells
    else:
        assert "'=val/pca" in cells


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_trials_csv_is_read_back(written, tmp_path):
    made = hostile(tmp_path / "again")
    trials = pd.read_csv(written / "trials.csv")
    assert trials["beta"].tolist() == made.trials["param:beta"].tolist()
    assert trials[r"'=1+1|\x1b[2J"].tolist() == made.trials["param:=1+1|\x1b[2J"].tolist()
    assert trials["val/mse"].dropna().tolist() == made.trials["val/mse"].dropna().tolist()
    assert trials["state"].tolist() == made.trials["state"].tolist()
    table = Table(str(written / "trials.csv"), label="state")
    assert len(table.load(tmp_path).images) == len(made.trials)
    assert set(table.classes) == {"COMPLETE", "FAIL", "PRUNED"}


def test_a_report_of_plain_names_is_as_before(tmp_path):
    """Oracle: pandas alone writes the same bytes where nothing is hostile."""
    made = make(tmp_path / "pictures")
    folder = write_report(made, tmp_path / "out").parent
    assert (folder / "replicas.csv").read_text() == made.replicas.to_csv(index=False)
    assert "&lt;beta&gt;" not in (folder / "report.md").read_text(), "a block of code needs no escapes"
    assert "val/fast.mig" in (folder / "replicas.csv").read_text()
    assert "pca_mse" in (folder / "report.md").read_text()
