"""Text of others is shown as text, and all output goes through aesearch.escapes."""

import ast
import io
from pathlib import Path

import pandas as pd
import pytest

from aesearch.__main__ import main
from aesearch.errors import UserError
from aesearch.escapes import fenced, markdown, printable, say, write_csv
from aesearch.records import Record

PACKAGE = Path(__file__).parents[1] / "aesearch"
HOSTILE = "\x1b]0;owned\x07\nerror: \x9b31m\u202e\ud800<b>"
RAISING = f'"""Why {HOSTILE[:-4]}"""\nraise ValueError({HOSTILE!r})\n'.replace("\ud800", "")


def test_controls_are_escapes_and_other_text_stays():
    assert printable("a\x1b[2Jb\nc\td\x7f\x9b\u202e\ud800") == r"a\x1b[2Jb\nc\td\x7f\x9b\u202e\ud800"
    for plain in ("β = 4.0, 'é' [1 to 2] C:\\x", "日本　語", "a\u00a0b"):
        assert printable(plain) == plain
        assert printable(printable(f"\x00{plain}")) == rf"\x00{plain}"


def test_what_is_said_is_one_line_each():
    out = io.StringIO()
    say("a\nb\rc", "\x1b", out=out)
    assert out.getvalue() == "a\\nb\\rc\n\\x1b\n"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("val/pca_mse 0.1 [0.05 to 0.2]", "val/pca_mse 0.1 [0.05 to 0.2]"),
        ("<script>&lt;", "&lt;script&gt;&amp;lt;"),
        ("[a](b) [c]: d [e][f]", r"[a\](b) [c\]: d [e\][f]"),
        ("`|` *a* __b__ ~~c~~ $d$", r"\`\|\` \*a\* \_\_b\_\_ \~\~c\~\~ \$d\$"),
        (r"\](a)", r"\\\](a)"),
        ("http://x.invalid HTTPS://x ftp://x", r"http\://x.invalid HTTPS\://x ftp\://x"),
        ("www.x.invalid WWW.x www", r"www\.x.invalid WWW\.x www"),
        ("a.b@x.invalid mailto:a@b.c a @b", "a.b@&#8203;x.invalid mailto:a@&#8203;b.c a @b"),
        ("a\n# b", r"a\\n# b"),
    ],
)
def test_markdown_escapes_only_what_it_would_read(text, written):
    assert markdown(text) == written


def test_a_block_of_code_ends_where_its_text_ends():
    assert fenced("a") == "```\na\n```"
    assert fenced("```\n<b>\n\x1b") == "````\n```\n<b>\n\\x1b\n````"


def test_a_table_of_numbers_is_written_as_pandas_does(tmp_path):
    """Oracle: pandas, of numbers of all kinds, of text that is a number and of nothing."""
    table = pd.DataFrame(
        {"a": [-1, 2], "b": [-0.5, float("nan")], "c": [True, False], "d": ["-1e3", "x"], "e": [None, 1]}
    )
    write_csv(table, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == table.to_csv(index=False)
    write_csv(pd.DataFrame({"=a": ["-x", " @b"]}), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "'=a\n'-x\n' @b\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", HOSTILE],
        ["run", "raising.py"],
        ["show", f"{HOSTILE}.py"],
        ["run", "raising.py", "--trials", HOSTILE],
        ["run", "raising.py", f"--{HOSTILE}"],
        [HOSTILE],
        ["use", HOSTILE, "encode"],
        ["use", HOSTILE, HOSTILE],
        ["sync", HOSTILE, "--home", HOSTILE],
        ["report", HOSTILE],
        ["report", "s", "--tracking-uri", HOSTILE],
        ["report", "s", "--tracking-uri", f"sqlite:///{HOSTILE}/mlflow.db"],
        ["ui", "--tracking-uri", f"sqlite:///{HOSTILE}"],
        ["rescore", "s", "--metric", HOSTILE],
    ],
)
def test_an_error_is_one_line_without_controls(arguments, in_tmp, capsys):
    (in_tmp / "raising.py").write_text(RAISING)
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr()
    assert (status, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("aesearch: ")
    assert said.err[:-1].isprintable()


def test_a_failure_and_a_remark_are_one_line_of_text(tmp_path):
    record = Record(tmp_path)
    reason = record.fail(UserError(HOSTILE))
    record.remark(HOSTILE)
    assert reason == r"UserError: \x1b]0;owned\x07 error: \x9b31m\u202e\ud800<b>"
    assert record.remarks() == [r"\x1b]0;owned\x07\nerror: \x9b31m\u202e\ud800<b>"]


def test_all_output_goes_through_the_escapes():
    """A print, a to_csv or a write to a stream elsewhere would show text as it is."""
    writers = {"print", "to_csv", "to_html", "to_markdown"}
    allowed = {("escapes.py", "print"), ("escapes.py", "to_csv"), ("page.py", "to_html"), ("page.py", "to_markdown")}
    found = {
        (path.name, getattr(node.func, "attr", getattr(node.func, "id", "")))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    }
    assert {(name, called) for name, called in found if called in writers} == allowed
    streams = {
        path.name
        for path in PACKAGE.rglob("*.py")
        if "stderr.write" in (text := path.read_text()) or "stdout.write" in text
    }
    assert streams == set()
