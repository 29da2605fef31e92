"""Conditions of a study: values of parameters within which trials are compared."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import pandas as pd
from optuna.distributions import BaseDistribution

from aesearch.errors import UserError, nearest
from aesearch.report.limits import MOST_NAMED, joined
from aesearch.study.space import values_of

MOST_ALIAS = 200  # characters; MLflow takes 255


@dataclass(frozen=True)
class Condition:
    """Values of the parameters in ``per`` that some trials have in common.

    values: by name, in the order of ``per``. alias: of its best model in MLflow.
    """

    values: tuple[tuple[str, Any], ...]
    alias: str

    def __str__(self) -> str:
        return ", ".join(f"{name} = {value}" for name, value in self.values)

    @property
    def option(self) -> str:
        """The options of ``use`` that choose it, such as ``--per normal=3``."""
        return " ".join(f"--per {name}={value}" for name, value in self.values)


def conditions_of(
    complete: pd.DataFrame, distributions: Mapping[str, BaseDistribution], per: Sequence[str]
) -> dict[Condition, list[int]]:
    """Group complete trials by condition, in the order of the values in the space.

    complete: a row per trial, indexed by its key.
    """
    known = {name: values_of(distributions[name]) for name in per if name in distributions}
    groups: dict[tuple[int, ...], list[int]] = {}
    for key, row in complete.iterrows():
        places = tuple(_place(values, row[f"param:{name}"]) for name, values in known.items())
        groups.setdefault(places, []).append(int(str(key)))
    found = {}
    for places in sorted(groups):
        values = tuple((name, known[name][place]) for name, place in zip(known, places, strict=True))
        found[Condition(values, _alias(values, known))] = groups[places]
    return found


def _place(values: list[Any], value: Any) -> int:
    """Find a value among those of the space; a table may have made it a float."""
    return next(i for i, one in enumerate(values) if (one is None and pd.isna(value)) or one == value)


def _alias(values: tuple[tuple[str, Any], ...], known: Mapping[str, list[Any]]) -> str:
    """Name the best model of a condition, with letters, digits, "_" and "-" only."""
    parts = []
    for name, value in values:
        plain = _plain(value)
        # Values that differ in other characters only are told apart by a hash.
        alone = [_plain(other) for other in known[name]].count(plain) == 1
        parts += [_plain(name), plain if alone else f"{plain}-{crc32(str(value).encode()):08x}"]
    alias = "-".join(["best", *parts])
    return alias if len(alias) <= MOST_ALIAS else f"{alias[:MOST_ALIAS]}-{crc32(alias.encode()):08x}"


def _plain(value: Any) -> str:
    return re.sub(r"[^\w-]+", "_", str(value), flags=re.ASCII)


def chosen_condition(conditions: Sequence[Condition], given: Sequence[str], study: str) -> Condition:
    """Find the condition that ``--per NAME=VALUE`` names.

    conditions: those that have a complete trial. given: texts such as "normal=3". study: its name.

    Raises UserError where none of them, or more than one, is named.
    """
    known = f"{joined([f'({one})' for one in conditions], MOST_NAMED)}"
    wanted: dict[str, str] = {}
    names = [name for name, _ in conditions[0].values]
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--per {text} is not valid; write a name and a value, such as {conditions[0].option}")
        if name not in names:
            raise UserError(f"{study} has no condition {name!r}: {nearest(name, names)}")
        values = list(dict.fromkeys(str(dict(one.values)[name]) for one in conditions))
        if value not in values:
            raise UserError(f"{study} has no complete trial with {name} = {value}: {nearest(value, values)}")
        wanted[name] = value
    found = [one for one in conditions if all(str(dict(one.values)[name]) == wanted[name] for name in wanted)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"{study} has no complete trial with {' '.join(given)}; choose one of {known}")
    raise UserError(
        f"{study} has a best trial in each of {len(found)} conditions and none of all; choose one with "
        f"{found[0].option}, or a trial with --trial N: {known}"
    )
