r"""Escapes of text that others have written, for each place where it is shown.

A file, a class, a parameter or the error of another program may have any text. All output goes through here: ``say``
and ``printable`` write to a terminal, ``markdown`` and ``fenced`` to a Markdown page, ``write_csv`` to a table that a
spreadsheet opens, and ``plain_labels`` to a figure. HTML is escaped by Jinja and pandas, after ``printable``.
"""

import html
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import pandas as pd

# What a spreadsheet takes for the begin of a formula, in both widths of the East Asian forms.
FORMULA = tuple("=+-@＝＋－＠")  # noqa: RUF001


def printable(text: str, kept: str = "") -> str:
    r"""Write control characters, and all else that has no glyph, as escapes: ``\x1b``.

    kept: characters that stay. Without them, the result is one line.
    """
    if text.isprintable():
        return text
    return "".join(
        one
        if one in kept or one.isprintable() or unicodedata.category(one) == "Zs"
        else one.encode("unicode_escape").decode("ascii")
        for one in text
    )


def say(*lines: str, out: TextIO | None = None) -> None:
    """Print lines, escaped. out: the standard output by default."""
    for line in lines:
        print(printable(line), file=out)


def markdown(text: str) -> str:
    """Escape text for a line of Markdown: no tags, links, formats or table cells."""
    found = html.escape(printable(text), quote=False)
    found = re.sub(r"[\\`*~|$]", r"\\\g<0>", found)
    # Numbers stand in brackets, and names have underscores: both stay readable where they mean nothing to Markdown.
    found = re.sub(r"\](?=[(\[:])", r"\\]", found)
    # GitHub links bare addresses. One of a person is found after the escapes, so a space of no width parts it.
    found = re.sub(r"(?=://)|(?<=www)(?=\.)", r"\\", found, flags=re.IGNORECASE)
    found = re.sub(r"(?<=[\w.+-])@", "@&#8203;", found)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", found)


def fenced(text: str) -> str:
    """Write lines of text as a block of code of Markdown, which they cannot end."""
    fence = "`" * max(3, *(1 + len(run) for run in re.findall("`*", text)))
    return f"{fence}\n{printable(text, kept=chr(10))}\n{fence}"


def escaped_table(table: "pd.DataFrame", escape: Callable[[str], str]) -> "pd.DataFrame":
    """Escape all text of a table, the names of its columns too. Numbers stay."""

    def escaped(cell: object) -> object:
        return escape(cell) if isinstance(cell, str) else cell

    return table.map(escaped).set_axis([escaped(name) for name in table.columns], axis=1)


def write_csv(table: "pd.DataFrame", path: Path) -> None:
    """Write a table whose text no spreadsheet takes for a formula.

    Such a text gets an apostrophe before it. Numbers stay as they are, negative ones too.
    """
    escaped_table(table, _defused).to_csv(path, index=False)


def _defused(text: str) -> str:
    text = printable(text)
    return f"'{text}" if text.lstrip().startswith(FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@contextmanager
def plain_labels() -> Iterator[None]:
    """Draw the text of figures as it is.

    Matplotlib would read a formula between two dollar signs, and raise an error for one that is none. It would warn of
    each character that its font lacks, and print that character.
    """
    import matplotlib as mpl

    with mpl.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph ")
        yield
