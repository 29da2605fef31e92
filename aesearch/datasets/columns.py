"""Columns of a table as inputs.

Numbers are scaled robustly, categories become one-hot, missing values are filled in and counted.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aesearch.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

MISSING = "(missing)"
MOST_LEVELS = 100
REACH = 10.0  # scaled numbers are clipped to +- this: one absurd entry must not rule the loss
FAR = 1e100  # no measurement: taken for missing, as infinity is
LOOKED_AT = 100
DATE = re.compile(r"\s*\d{1,4}([-/.])\d{1,2}\1\d{1,4}([T ].*)?")
TEXTS = ("string", "boolean", "categorical", "mixed-integer", "integer", "floating", "empty")

Rows = NDArray[np.float32]


def fit(frame: "pd.DataFrame", name: str) -> dict[str, Any]:
    """Fit how each column of the train rows becomes inputs; give it as plain JSON.

    Raises UserError for columns that cannot be inputs.
    """
    rules = [_rule(frame[column], column, name) for column in frame.columns]
    used = [rule for rule in rules if "unused" not in rule]
    if not used:
        raise UserError(f"{name} must have a column to learn from beside its label, one that varies, but has none")
    features = [f"{rule['name']}={level}" if level else rule["name"] for rule in used for level in _levels(rule)]
    return {"columns": used, "left_out": [rule["name"] for rule in rules if "unused" in rule], "features": features}


def _levels(rule: Mapping[str, Any]) -> list[str]:
    levels: list[str] = rule.get("levels", [""])
    return levels


def _rule(values: "pd.Series[Any]", column: str, name: str) -> dict[str, Any]:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(values):
        return {"name": column} | _scale(values.to_numpy(dtype=np.float64, na_value=np.nan))
    known = values.dropna()
    _check_texts(known, column, name)
    levels = sorted(set(known.map(as_text)))
    if len(levels) > MOST_LEVELS or len(levels) == len(known) > 10:
        raise UserError(
            f"column {column!r} of {name} has {len(levels)} different texts in {len(known)} rows, too many to be "
            f"categories; leave it out with drop=({column!r},)"
        )
    levels += [MISSING] if len(known) < len(values) else []
    return {"name": column, "levels": levels} if len(levels) > 1 else {"name": column, "unused": True}


def _check_texts(known: "pd.Series[Any]", column: str, name: str) -> None:
    from pandas.api.types import infer_dtype

    kind = infer_dtype(known.astype(object))
    if kind == "string" and len(known) and all(DATE.fullmatch(text) for text in known.iloc[:LOOKED_AT]):
        kind = "date"
    if kind not in TEXTS:
        what = "dates or times" if "date" in kind or "time" in kind or kind == "period" else f"values of kind {kind}"
        raise UserError(
            f"columns must hold numbers, booleans or categories, but {column!r} of {name} holds {what}; "
            f"turn them into numbers, or leave the column out with drop=({column!r},)"
        )


def _scale(values: NDArray[np.float64]) -> dict[str, Any]:
    known = values[np.abs(values) < FAR]
    if not len(known) or known.min() == known.max():
        return {"unused": True}
    low, median, high = np.quantile(known, [0.25, 0.5, 0.75])
    spread = (high - low) / 1.349 if high > low else known.std()
    return {"centre": float(median), "spread": float(spread) or 1.0}


def as_text(value: Any) -> str:
    """Write a category or class as text.

    A whole number reads the same whether or not its column has missing values, which make floats of it.
    """
    return str(int(value)) if isinstance(value, float | np.floating) and value.is_integer() else str(value)


def transform(frame: "pd.DataFrame", fitted: Mapping[str, Any], name: str) -> tuple[Rows, list[str]]:
    """Turn rows into inputs (N, 1, 1, columns) as ``fitted`` says.

    Gives remarks on what was filled in, too. Raises UserError where a column is missing or of another kind.
    """
    rules: list[Mapping[str, Any]] = fitted["columns"]
    if lacking := [rule["name"] for rule in rules if rule["name"] not in frame.columns]:
        raise UserError(f"{name} must have the columns that the model was trained on, but lacks {', '.join(lacking)}")
    parts, counts = [], np.zeros(3, np.int64)
    for rule in rules:
        turn = _one_hot if "levels" in rule else _numbers
        part, *counted = turn(frame[rule["name"]], rule, name)
        parts.append(part)
        counts += counted
    said = (
        f"value(s) of {name} were missing and filled in",
        f"value(s) of {name} are of categories that the train rows do not have",
        f"value(s) of {name} lie beyond {REACH:g} spreads and were clipped",
    )
    remarks = [f"{count} {what}" for count, what in zip(counts, said, strict=True) if count]
    return np.concatenate(parts, axis=1, dtype=np.float32)[:, None, None], remarks


def _one_hot(values: "pd.Series[Any]", rule: Mapping[str, Any], name: str) -> tuple[Rows, int, int, int]:  # noqa: ARG001
    gone = values.isna().to_numpy()
    texts = np.array([MISSING if lost else as_text(value) for value, lost in zip(values, gone, strict=True)], object)
    hot = texts[:, None] == np.array(rule["levels"], dtype=object)
    return hot.astype(np.float32), int(gone.sum()), int((~hot.any(1) & ~gone).sum()), 0


def _numbers(values: "pd.Series[Any]", rule: Mapping[str, Any], name: str) -> tuple[Rows, int, int, int]:
    try:
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise UserError(f"column {rule['name']!r} of {name} must hold numbers, as in training, but: {error}") from error
    gone = ~(np.abs(numbers) < FAR)
    with np.errstate(over="ignore"):
        scaled = (np.where(gone, rule["centre"], numbers) - rule["centre"]) / rule["spread"]
    far = int((np.abs(scaled) > REACH).sum())
    return scaled.clip(-REACH, REACH).astype(np.float32)[:, None], int(gone.sum()), 0, far
