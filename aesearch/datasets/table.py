"""The rows of a table as a data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aesearch.datasets.columns import MOST_LEVELS, as_text, fit, transform
from aesearch.datasets.dataset import Data, Dataset, Shape, check_limit, held_out, random_split, stratified_split
from aesearch.datasets.repeats import first_equals, remarks_on
from aesearch.errors import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd

LEAST = 20
MOST_BYTES = 2**31  # of the cells of a Parquet file, in memory
SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")


@dataclass(frozen=True)
class Table(Dataset):
    """Rows of a CSV or Parquet file.

    label: the column with the class, which is no input. drop: columns to leave out.
    Numbers become (x - median) / (interquartile range / 1.349) of the train rows, clipped to 10 either way, so that a
    normal column gets variance 1; a missing one is the median; where that range is 0, the standard deviation counts.
    Categories become one column per level of the train rows, "(missing)" among them if any are; a level that those do
    not have is 0 in all. Columns that do not vary in the train rows are left out. A fifth of the rows each, 10,000 at
    most, by class where there is one, is val and test. most_bytes: a Parquet file whose rows times columns, at 8 bytes
    each, are more is not read; repeated values take next to no room in it.
    """

    path: str
    label: str | None = None
    drop: tuple[str, ...] = ()
    # Not in its repr, by which a study knows its data: a limit changes none of them.
    most_bytes: int = field(default=MOST_BYTES, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.drop, tuple):
            raise UserError(f'drop must be a tuple of columns, such as ("id",), but got drop={self.drop!r}')
        check_limit("most_bytes", self.most_bytes)

    @property
    def shape(self) -> Shape:
        return (1, 1, self._loaded().images.shape[3])

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return {}

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self._loaded().fitted["classes"])

    def load(self, root: Path) -> Data:  # noqa: ARG002
        return self._loaded()

    def _loaded(self) -> Data:
        file = Path(self.path)
        stamp = file.stat().st_mtime_ns if file.is_file() else 0
        return _load(self.path, self.label, self.drop, self.most_bytes, stamp)


@lru_cache(maxsize=4)
def _load(
    path: str,
    label: str | None,
    drop: tuple[str, ...],
    most_bytes: int,
    stamp: int,  # noqa: ARG001
) -> Data:
    return from_frame(read_frame(Path(path), most_bytes), label, drop, path)


def read_frame(path: Path, most_bytes: int = MOST_BYTES) -> "pd.DataFrame":
    """Read the table of a CSV or Parquet file, without the row numbers of pandas.

    most_bytes: the size that the cells of a Parquet file may have in memory, at 8 bytes each.
    Raises UserError for a file that cannot be read, and for a larger one.
    """
    import pandas as pd

    if not path.is_file():
        others = [str(file) for file in path.parent.glob("*") if file.suffix in SUFFIXES]
        raise UserError(f"there is no table {path}" + (f": {nearest(str(path), others)}" if others else ""))
    try:
        if path.suffix in (".parquet", ".pq"):
            _check_size(path, most_bytes)
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, sep=_separator(path), low_memory=False)
    except UserError:
        raise
    except Exception as error:  # pandas and pyarrow raise errors of many kinds
        raise UserError(f"{path} must be a CSV or Parquet file, but: {' '.join(str(error).split())[:200]}") from error
    frame = frame.set_axis([str(column) for column in frame.columns], axis=1)
    if "Unnamed: 0" in frame and np.array_equal(frame["Unnamed: 0"], np.arange(len(frame))):
        frame = frame.drop(columns="Unnamed: 0")
    return frame


def _check_size(path: Path, most_bytes: int) -> None:
    from pyarrow import parquet

    described = parquet.read_metadata(path)
    size = 8 * described.num_rows * described.num_columns
    if size > most_bytes:
        raise UserError(
            f"{path} has {described.num_rows:,} rows of {described.num_columns:,} columns, {size:,} bytes, more than "
            f"{most_bytes:,}; raise most_bytes to read it"
        )


def _separator(path: Path) -> str:
    """Find the separator of a CSV file's columns, by its first line.

    It is a comma, semicolon or tab.
    """
    with path.open("rb") as file:
        head = file.readline(1 << 16)
    if b"\0" in head:
        raise ValueError("it is not text")
    return max(",;\t", key=lambda separator: head.count(separator.encode()))


def from_frame(frame: "pd.DataFrame", label: str | None, drop: tuple[str, ...], name: str) -> Data:
    """Make the data of a table; error messages call it ``name``.

    Raises UserError for what cannot be learnt from.
    """
    columns = list(frame.columns)
    for column in (*([label] if label else []), *drop):
        if column not in columns:
            raise UserError(f"{name} has no column {column!r}: {nearest(column, columns)}")
    classes: tuple[str, ...] = ()
    labels, names, remarks = None, None, []
    if label:
        if gone := int(frame[label].isna().sum()):
            frame = frame[frame[label].notna()]
            remarks.append(f"{gone} row(s) without a {label} were left out")
            names = tuple(str(row) for row in frame.index)
        labels, classes = _labels(frame[label], label, name)
    if len(frame) < LEAST:
        raise UserError(f"a table needs at least {LEAST} rows, but {name} has {len(frame)}")
    n = len(frame)
    features = frame.drop(columns=[*([label] if label else []), *drop])
    first = first_equals(_hashes(features))
    remarks.extend(remarks_on(first, "rows"))
    splits = random_split(n, held_out(n), first) if labels is None else stratified_split(labels, held_out(n), first)
    fitted = fit(features.iloc[splits["train"]], name) | {"classes": list(classes), "label": label}
    if fitted["left_out"]:
        remarks.append(f"left out, as they do not vary in the train rows: {', '.join(fitted['left_out'])}")
    rows, more = transform(features, fitted, name)
    return Data(rows, labels=labels, names=names, remarks=(*remarks, *more), fitted=fitted, **splits)


def _hashes(frame: "pd.DataFrame") -> NDArray[np.uint64]:
    """Compute a number for each row, which equal rows share.

    That two others share one has a chance of 1 in 10^19.
    """
    from pandas.util import hash_pandas_object

    # Values of other types have no hash, or are refused later.
    texts = {column: str for column, dtype in frame.dtypes.items() if dtype.kind == "O"}
    return np.asarray(hash_pandas_object(frame.astype(texts), index=False), np.uint64)


def _labels(values: "pd.Series[str]", label: str, name: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Read the class of each row, and name the classes.

    Raises UserError for a column that holds none.
    """
    from pandas.api.types import is_numeric_dtype

    unique = sorted(values.unique()) if is_numeric_dtype(values) else sorted(map(as_text, values.unique()))
    places = {as_text(value): place for place, value in enumerate(unique)}
    if len(places) < 2:
        raise UserError(f"the label {label!r} of {name} must have two classes or more, but has {list(places)}")
    if len(places) > MOST_LEVELS or len(places) > max(2, len(values) // 2):
        raise UserError(
            f"the label {label!r} of {name} must be a class, but has {len(places)} different values in {len(values)} "
            "rows; leave label out"
        )
    return np.array([places[as_text(value)] for value in values], dtype=np.int64), tuple(places)
