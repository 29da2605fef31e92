"""Values of a configuration as plain JSON, whose author may be anybody."""

import ast
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from aesearch.datasets import Data, Dataset
from aesearch.errors import UserError, nearest
from aesearch.escapes import printable
from aesearch.train.description import Description, migrated

HOMES = tuple(
    f"aesearch.{room}"
    for room in ("train", "datasets", "networks", "bottlenecks", "objectives", "corruptions", "protocols", "scores")
)
FILE_FIELDS = ("path", "root")  # fields of data sets that say where on a disk they lie
MOST_BYTES = 2**25  # of a JSON file
LARGEST = 2**63  # whole numbers must be smaller: seeds are the largest that are saved
SHOWN = 300  # characters of a reason


@dataclass(frozen=True)
class Elsewhere(Dataset):
    """Training data that is not opened where a model is used.

    described: the data set's value, as JSON.
    known_shape: (C, H, W) of an item.
    known_classes: the names of the classes.
    why: the reason, which ``load`` gives before the value.
    """

    described: str
    known_shape: tuple[int, int, int]
    known_classes: tuple[str, ...]
    why: str

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.known_shape

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return {}

    @property
    def classes(self) -> tuple[str, ...]:
        return self.known_classes

    def load(self, root: Path) -> Data:  # noqa: ARG002
        raise UserError(f"{self.why}: {shortened(self.described)}; give items with --input")


def to_json(value: Any) -> Any:
    """Convert a configuration value to plain JSON.

    A dataclass becomes its type's name and its fields, a tuple a list.
    """
    if isinstance(value, Elsewhere):
        return json.loads(value.described)
    if is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__} | {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
    return [to_json(item) for item in value] if isinstance(value, tuple) else value


def of_today(content: Any, since: int) -> Any:
    """Bring JSON that ``to_json`` wrote to today's names.

    since: the format in which it was written.
    """
    if isinstance(content, list):
        return [of_today(item, since) for item in content]
    if not isinstance(content, dict):
        return content
    values = {name: of_today(value, since) for name, value in content.items() if name != "type"}
    names: dict[str, Description] = {name: name for name in values}
    now = migrated({"class": str(content.get("type")), **names}, since)
    assert isinstance(now, dict)
    fields = {name: values[was] if was in values else ast.literal_eval(was) for name, was in _texts(now)}
    return {"type": now["class"], **fields} if "type" in content else fields


def _texts(node: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, str(was)) for name, was in node.items() if name != "class"]


def from_json(content: Any, instead: Callable[[Mapping[str, Any]], Dataset] | None = None) -> Any:
    """Make the configuration value that ``to_json`` wrote.

    instead: a function that makes another value of a data set that names files, from its JSON. The data set itself is
    then never made, as some list or read their files at once.
    Raises UserError for a type that is not one of aesearch's own, as others might run code, and for fields of another
    type or beyond all sense.
    """
    if isinstance(content, list):
        return tuple(from_json(item, instead) for item in content)
    if isinstance(content, int | float) and not abs(content) < LARGEST:
        raise UserError(f"numbers of a saved configuration must lie within 2^63, but one is {shortened(repr(content))}")
    if not isinstance(content, dict):
        return content
    kind = _kind(content)
    if instead and issubclass(kind, Dataset) and any(content.get(name) is not None for name in FILE_FIELDS):
        return instead(content)
    return make(kind, {name: from_json(value, instead) for name, value in content.items() if name != "type"})


def make(kind: type, arguments: Mapping[str, Any]) -> Any:
    """Make a value of the dataclass ``kind`` from its fields.

    Raises UserError for a field that it does not have, and for one of another type.
    """
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    for name, value in arguments.items():
        if name not in known:
            raise UserError(f"{kind.__name__} has no field {name!r}: {nearest(name, known)}")
        if not _fits(value, hints[name]):
            wanted = hints[name].__name__ if isinstance(hints[name], type) else hints[name]
            raise UserError(f"{name} of {kind.__name__} must be {wanted}, but got {shortened(repr(value))}")
    return kind(**arguments)


def names_files(content: Any) -> bool:
    """Return True if a data set's JSON says where on a disk it lies."""
    if not isinstance(content, dict):
        return False
    return any(content.get(name) is not None for name in FILE_FIELDS) or any(map(names_files, content.values()))


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises UserError for a file that is missing, larger than 32 MiB, or anything else.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path.name}")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise UserError(f"{path.name} must have at most {MOST_BYTES:,} bytes, but has {size:,}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise UserError(f"{path.name} must be JSON of few levels, but has too many") from error
    except ValueError as error:
        raise UserError(f"{path.name} must be JSON, but: {shortened(str(error))}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path.name} must hold a JSON object, but holds {shortened(repr(content))}")
    return content


def shortened(text: str) -> str:
    """Shorten text of unknown origin to a line of 300 printable characters."""
    line = printable(" ".join(text[: 4 * SHOWN].split()))
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}..."


def _kind(content: Mapping[str, Any]) -> type:
    name = str(content.get("type"))
    for home in map(import_module, HOMES):
        kind = getattr(home, name, None)
        if is_dataclass(kind) and isinstance(kind, type):
            return kind
    raise UserError(f"type {shortened(repr(name))} of a saved configuration is not one of aesearch's own types")


def _fits(value: Any, hint: Any) -> bool:
    """Return True if a value made from JSON is of a field's annotated type."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if kind is tuple:
        if not isinstance(value, tuple):
            return False
        if parts[1:] == (...,):
            return all(_fits(item, parts[0]) for item in value)
        return len(value) == len(parts) and all(map(_fits, value, parts))
    if hint in (int, float):
        # Python counts a truth value as a number.
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return isinstance(value, hint)
