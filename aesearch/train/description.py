"""Descriptions of configurations, which later releases can read.

A description is plain JSON. A dataclass becomes its class and its fields by name, a tuple a list, and any other value
its repr.

    BetaVAE(beta=4.0)    {"class": "BetaVAE", "beta": "4.0", "likelihood": "'bernoulli'"}

Fields at their defaults are written, too. If a later release changes a default, the change of the training is then
seen. A field that a later release adds is in no older description. At its default it counts as no difference, so that
default must do what was done before. A migration is needed for a field or a class that gets another name, and for a
new field whose default does something new.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, NamedTuple

from aesearch.protocols import Protocol

Node = dict[str, "Description"]
Description = str | list["Description"] | Node
ABSENT = "not there"


class Migration(NamedTuple):
    """Change of names between two formats.

    name: the change in words, such as "TrainConfig.noise_factor is TrainConfig.noise".
    release: the last release that wrote the old form.
    why: the reason for the change.
    change: function from the description of a dataclass in the old form to the new form. It is called for every
    dataclass, and returns those that it does not concern as they are.
    """

    name: str
    release: str
    why: str
    change: Callable[[Node], Node]


# What classes did before they had a field for it.
NUMBERS = {
    "KLSparse": {"decoded": "'logit'"},
    "BetaTCVAE": {"normalised": "False"},
    "Contractive": {"normalised": "False"},
    "VampPrior": {"bounded": "False"},
}
# In order: each makes the next format from the one before. None is removed once a release has written its format.
# A change depends on names alone: it is also called with the names of fields in place of their values.
MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        "KLSparse.decoded, BetaTCVAE.normalised, Contractive.normalised and VampPrior.bounded are new",
        "0.1.0",
        "their numbers changed",
        lambda node: node | {n: was for n, was in NUMBERS.get(str(node["class"]), {}).items() if n not in node},
    ),
)
# Format 1, of release 0.1.0, had no descriptions, but reprs or hashes of them: see first_format.
DESCRIBED = 2
# The format that this release writes.
FORMAT = DESCRIBED + len(MIGRATIONS)


def describe(value: Any) -> Description:
    """Describe a value, with all fields of all its dataclasses."""
    if is_dataclass(value) and not isinstance(value, type):
        found: Node = {each.name: describe(getattr(value, each.name)) for each in fields(value)}
        return {"class": type(value).__qualname__, **found}
    return [describe(item) for item in value] if type(value) is tuple else repr(value)


def text(description: Description) -> str:
    """Write a description as a repr: ``BetaVAE(beta=4.0, likelihood='bernoulli')``."""
    if isinstance(description, str):
        return description
    if isinstance(description, list):
        return f"({', '.join(map(text, description))}{',' if len(description) == 1 else ''})"
    given = (f"{name}={text(value)}" for name, value in description.items() if name != "class")
    return f"{description['class']}({', '.join(given)})"


def migrated(description: Description, since: int) -> Description:
    """Bring a description of the format ``since`` to today's names."""
    for migration in MIGRATIONS[since - DESCRIBED :]:
        description = _everywhere(migration.change, description)
    return description


def _everywhere(change: Callable[[Node], Node], description: Description) -> Description:
    if isinstance(description, str):
        return description
    if isinstance(description, list):
        return [_everywhere(change, item) for item in description]
    node = {name: _everywhere(change, item) for name, item in description.items()}
    return change(node) if "class" in node else node


class Change(NamedTuple):
    """Difference of a field.

    name: the path of the field, such as "config.batch_size".
    was, now: its values as text.
    """

    name: str
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.name} was {self.was}, is {self.now}"


def changes(name: str, known: Description, value: Any) -> Iterator[Change]:
    """Yield the differences of ``value`` from an earlier value.

    name: the path of the value, such as "config.objective".
    known: the description of the earlier value.
    """
    if isinstance(known, dict) and is_dataclass(value) and known["class"] == type(value).__qualname__:
        # A protocol also has constants of metrics that are not measured here, so only its name is compared.
        # A study's spec compares the constants of those that are measured.
        yield from field_changes(name, known, value, ("name",) if isinstance(value, Protocol) else None)
    elif (
        isinstance(known, list)
        and type(value) is tuple
        and len(known) == len(value)
        and any(isinstance(item, dict) for item in known)
    ):
        for place, (one, item) in enumerate(zip(known, value, strict=True)):
            yield from changes(f"{name}[{place}]", one, item)
    elif known != describe(value):
        yield Change(name, text(known), text(describe(value)))


def field_changes(name: str, known: Node, value: Any, only: Collection[str] | None = None) -> Iterator[Change]:
    """Yield the differences of a dataclass's fields from an earlier value.

    name: the path of the value.
    known: the description of the earlier value.
    only: the names of the fields to compare; None for all.
    """
    now = {each.name: each for each in fields(value)}
    for each in [*known, *(one for one in now if one not in known)]:
        if each == "class" or (only is not None and each not in only):
            continue
        whole = f"{name}.{each}"
        if each not in now:
            yield Change(whole, text(known[each]), ABSENT)
        elif each in known:
            yield from changes(whole, known[each], getattr(value, each))
        elif not at_default(value, now[each]):
            yield Change(whole, ABSENT, text(describe(getattr(value, each))))


def at_default(value: Any, one: "Field[Any]") -> bool:
    """Return True if a field of ``value`` has its default; False if it has none."""
    default = one.default if one.default_factory is MISSING else one.default_factory()
    return describe(getattr(value, one.name)) == describe(default)
