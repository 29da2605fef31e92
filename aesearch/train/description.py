"""Descriptions of configurations, which outlive the code that made them.

A description is plain JSON: of a dataclass its class and its fields by name, of a tuple a list, of another value its
repr.

    BetaVAE(beta=4.0)    {"class": "BetaVAE", "beta": "4.0", "likelihood": "'bernoulli'"}

All fields are written down, with those at their defaults: a default that a later release changes is then seen as the
change of the training that it is. A field that a later release adds is in no older description; it is no difference
while it has its default, so that default must do what was done before. A field or a class that gets another name, and a
field whose default does something new, need a migration.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, NamedTuple

from aesearch.protocols import Protocol

Node = dict[str, "Description"]
Description = str | list["Description"] | Node
ABSENT = "not there"


class Migration(NamedTuple):
    """A change of names between two formats.

    name: what is changed, such as "TrainConfig.noise_factor is TrainConfig.noise". release: the last one that wrote the
    old form. change: the description of any dataclass in the old form to the new one; those it does not mean it returns
    as they are.
    """

    name: str
    release: str
    why: str
    change: Callable[[Node], Node]


# In order: each makes the next format of the one before. A format that a release wrote is never removed.
MIGRATIONS: tuple[Migration, ...] = ()
# Format 1, of release 0.1.0, had no descriptions, only the repr or a hash of it: see first_format.
DESCRIBED = 2
# What is written.
FORMAT = DESCRIBED + len(MIGRATIONS)


def describe(value: Any) -> Description:
    """Describe a value with all fields of all its dataclasses."""
    if is_dataclass(value) and not isinstance(value, type):
        found: Node = {each.name: describe(getattr(value, each.name)) for each in fields(value)}
        return {"class": type(value).__qualname__, **found}
    return [describe(item) for item in value] if type(value) is tuple else repr(value)


def text(description: Description) -> str:
    """Write a description as Python does: ``BetaVAE(beta=4.0, likelihood='bernoulli')``."""
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
    """A difference: the name of what differs, and the texts of what it was and is."""

    name: str
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.name} was {self.was}, is {self.now}"


def changes(name: str, known: Description, value: Any) -> Iterator[Change]:
    """Yield by name how ``value`` differs from what is ``known`` of an earlier one."""
    if isinstance(known, dict) and is_dataclass(value) and known["class"] == type(value).__qualname__:
        # A protocol has constants of metrics that nobody measures here: what matters of it, a study's spec says.
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
    """Yield how the fields of a dataclass differ from what is ``known`` of an earlier one; ``only`` those of them."""
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
    """Return whether a field of ``value`` has its default; False where it has none."""
    default = one.default if one.default_factory is MISSING else one.default_factory()
    return describe(getattr(value, one.name)) == describe(default)
