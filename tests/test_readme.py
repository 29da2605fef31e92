"""What README says is what there is."""

import re
from pathlib import Path

import pytest

from aesearch.__main__ import make_parser

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


@pytest.mark.parametrize("command", ["run", "show", "report", "ui"])
def test_every_command_and_option_that_it_names_is_there(command):
    assert f"`python -m aesearch {command}" in README
    parser = make_parser()
    run = parser.parse_args(["run", "x.py"]).parser
    options = re.findall(r"`(--[a-z-]+)`", README.split("`run` takes")[1].split("says what they are")[0])
    assert set(options) == set(run._option_string_actions) - {"-h", "-v", "--verbose"}


def test_no_placeholder_is_left():
    assert "@@" not in README
