import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aesearch.datasets import BreastCancer, Digits, Iris, Table, Wine, read_items
from aesearch.datasets.columns import REACH, fit, transform
from aesearch.datasets.dataset import stratified_split
from aesearch.datasets.table import from_frame
from aesearch.errors import UserError

RNG = np.random.default_rng(0)


def frame(n: int = 100) -> pd.DataFrame:
    """Two numbers, a category, a boolean, and a label of three to one."""
    return pd.DataFrame(
        {
            "age": RNG.normal(40, 10, n),
            "visits": RNG.integers(0, 50, n),
            "colour": RNG.choice(["red", "green", "blue"], n),
            "member": np.arange(n) % 3 == 0,
            "ill": np.where(np.arange(n) % 4 == 0, "yes", "no"),
        }
    )


def csv(tmp_path: Path, table: pd.DataFrame, **options) -> str:
    table.to_csv(tmp_path / "t.csv", index=False, **options)
    return str(tmp_path / "t.csv")


def test_numbers_categories_and_booleans_become_columns(tmp_path: Path):
    table = Table(csv(tmp_path, frame()), label="ill")
    data = table.load(tmp_path)
    assert data.fitted["features"] == ["age", "visits", "colour=blue", "colour=green", "colour=red", "member"]
    assert table.shape == data.images.shape[1:] == (1, 1, 6)
    assert table.classes == ("no", "yes")
    assert data.labels.tolist() == [1, 0, 0, 0] * 25
    assert data.images[:, 0, 0, 2:5].sum(axis=1).tolist() == [1] * 100
    assert data.remarks == ()
    assert json.loads(json.dumps(data.fitted)) == data.fitted


def test_scaling_is_by_median_and_quartiles_of_train_rows(tmp_path: Path):
    table = frame()
    data = Table(csv(tmp_path, table), label="ill").load(tmp_path)
    train = table["age"].iloc[data.train]
    low, median, high = train.quantile([0.25, 0.5, 0.75])
    np.testing.assert_allclose(
        data.images[:, 0, 0, 0], (table["age"] - median) / ((high - low) / 1.349), rtol=1e-5, atol=1e-6
    )
    table.loc[data.test, "age"] += 1000
    again = from_frame(table, "ill", (), "t")
    assert again.fitted["columns"] == data.fitted["columns"]
    np.testing.assert_array_equal(again.images[again.test, 0, 0, 0], REACH)
    assert again.remarks == (f"{len(again.test)} value(s) of t lie beyond 10 spreads and were clipped",)


def test_a_parquet_file_gives_the_same_as_a_csv_file(tmp_path: Path):
    table = frame()
    table.astype({"colour": "category"}).to_parquet(tmp_path / "t.parquet")
    parquet, text = (Table(str(path), label="ill") for path in (tmp_path / "t.parquet", csv(tmp_path, table)))
    np.testing.assert_allclose(parquet.load(tmp_path).images, text.load(tmp_path).images, atol=1e-6)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_the_separator_is_read_off_the_first_line(tmp_path: Path, separator):
    assert Table(csv(tmp_path, frame(), sep=separator), label="ill").shape == (1, 1, 6)


def test_row_numbers_that_pandas_wrote_are_no_column(tmp_path: Path):
    frame().to_csv(tmp_path / "t.csv")
    assert Table(str(tmp_path / "t.csv"), label="ill").shape == (1, 1, 6)


def test_what_is_missing_is_filled_in_and_counted(tmp_path: Path):
    table = frame().astype({"visits": float})
    table.loc[:9, "age"] = np.nan
    table.loc[10, "visits"] = np.inf
    table.loc[::5, "colour"] = None
    table.loc[[3, 4], "ill"] = None
    data = Table(csv(tmp_path, table), label="ill").load(tmp_path)
    assert set(data.fitted["features"][2:6]) == {"colour=(missing)", "colour=blue", "colour=green", "colour=red"}
    assert len(data.images) == 98
    assert data.names[2:5] == ("2", "5", "6")
    assert data.images[0, 0, 0, 0] == 0
    assert data.remarks[0] == "2 row(s) without a ill were left out"
    assert data.remarks[1].startswith("29 value(s)")


def test_columns_that_do_not_vary_are_left_out_and_named(tmp_path: Path):
    table = frame().assign(empty=np.nan, same="x", one=1.0)
    data = Table(csv(tmp_path, table), label="ill").load(tmp_path)
    assert len(data.fitted["features"]) == 6
    assert data.remarks == ("left out, as they do not vary in the train rows: empty, same, one",)


def test_a_mostly_constant_number_is_scaled_by_its_deviation():
    rule = fit(pd.DataFrame({"a": [0.0] * 18 + [1.0, 2.0]}), "t")["columns"][0]
    assert rule["spread"] == pytest.approx(np.std([0] * 18 + [1, 2]))


def test_a_level_that_train_lacks_is_all_zeros_and_counted():
    train = pd.DataFrame({"colour": ["red", "green"] * 10, "a": range(20)})
    rows, remarks = transform(pd.DataFrame({"colour": ["red", "pink", None], "a": [0, 1, 2]}), fit(train, "t"), "new")
    assert rows[:, 0, 0, :2].tolist() == [[0, 1], [0, 0], [0, 0]]
    assert [remark.split()[0] for remark in remarks] == ["1", "1"]


@given(
    st.lists(st.integers(0, 4), min_size=20, max_size=200).map(np.array),
)
def test_stratified_splits_are_disjoint_complete_fixed_and_even(labels):
    held_out = len(labels) // 5
    splits = stratified_split(labels, held_out)
    assert sorted(np.concatenate(list(splits.values()))) == list(range(len(labels)))
    assert len(splits["val"]) == len(splits["test"]) == held_out
    assert all(np.array_equal(splits[part], stratified_split(labels, held_out)[part]) for part in splits)
    for label in np.unique(labels):
        expected = (labels == label).sum() * held_out / len(labels)
        assert abs((labels[splits["val"]] == label).sum() - expected) <= 1.5
        assert abs((labels[splits["test"]] == label).sum() - expected) <= 2


@given(
    st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)), min_size=20, max_size=40),
    st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "c"])), min_size=40, max_size=40),
)
def test_rows_of_any_table_are_finite_and_within_reach(numbers, levels):
    table = pd.DataFrame({"i": range(len(numbers)), "x": pd.Series(numbers, dtype=float), "c": levels[: len(numbers)]})
    data = from_frame(table, None, (), "t")
    assert np.isfinite(data.images).all()
    assert np.abs(data.images).max() <= REACH


@pytest.mark.parametrize(
    ("change", "fields", "message"),
    [
        (lambda t: t, {"label": "il"}, r"has no column 'il': did you mean ill\?"),
        (lambda t: t, {"drop": ("colr",)}, "has no column 'colr': did you mean colour"),
        (lambda t: t, {"drop": "age"}, "drop must be a tuple of columns"),
        (lambda t: t[:19], {}, "at least 20 rows, but .* has 19"),
        (lambda t: t.assign(ill="no"), {"label": "ill"}, "two classes or more, but has"),
        (lambda t: t, {"label": "age"}, "must be a class, but has 100 different values in 100 rows"),
        (lambda t: t[["ill"]], {"label": "ill"}, "a column to learn from"),
        (lambda t: t, {"drop": tuple(frame())}, "a column to learn from"),
        (lambda t: t.assign(born="2020-01-31"), {}, r"'born' .* holds dates or times; .* drop=\('born',\)"),
        (lambda t: t.assign(born="31.1.2020 12:00"), {}, "holds dates"),
        (lambda t: t.assign(id=[f"p{i}" for i in range(100)]), {}, r"'id' .* too many .* drop=\('id',\)"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(tmp_path: Path, change, fields, message):
    path = csv(tmp_path, change(frame()))
    with pytest.raises(UserError, match=message):
        Table(path, **fields).load(tmp_path)


@pytest.mark.parametrize(
    "values",
    [pd.date_range("2020", periods=100), pd.timedelta_range("1h", periods=100), [[1, 2]] * 100, [b"x", b"y"] * 50],
)
def test_dates_and_nested_values_of_a_parquet_file_are_refused(tmp_path: Path, values):
    frame().assign(odd=values).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"'odd' .* holds .* drop=\('odd',\)"):
        Table(str(tmp_path / "t.parquet")).load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\0\0\0", b"a,b\n1,2\n1,2,3,4\n", "a,b\nä,ö\n".encode("latin-1")])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_damaged_file_is_refused(tmp_path: Path, content, ending):
    path = tmp_path / f"t.{ending}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="must be a CSV or Parquet file, but"):
        Table(str(path)).load(tmp_path)


def test_a_truncated_parquet_file_and_a_missing_file_are_told(tmp_path: Path):
    frame().to_parquet(tmp_path / "whole.parquet")
    (tmp_path / "half.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-100])
    with pytest.raises(UserError, match="must be a CSV or Parquet file"):
        Table(str(tmp_path / "half.parquet")).load(tmp_path)
    with pytest.raises(UserError, match=r"there is no table .*: did you mean .*whole.parquet"):
        _ = Table(str(tmp_path / "hole.parquet")).shape


def test_a_file_that_changed_is_read_again(tmp_path: Path):
    table = Table(csv(tmp_path, frame()))
    assert table.shape == (1, 1, 8)
    csv(tmp_path, frame(50).drop(columns="age"))
    assert table.shape == (1, 1, 7)


def test_numbers_as_labels_sort_as_numbers_with_gaps_too():
    table = frame().assign(grade=[2, 10, 1, 3] * 25)
    assert from_frame(table, "grade", ("ill",), "t").fitted["classes"] == ["1", "2", "3", "10"]
    table.loc[0, "grade"] = np.nan
    assert from_frame(table, "grade", ("ill",), "t").fitted["classes"] == ["1", "2", "3", "10"]


def test_new_rows_are_read_as_the_training_rows_were(tmp_path: Path):
    table = frame()
    dataset = Table(csv(tmp_path, table), label="ill", drop=("visits",))
    data = dataset.load(tmp_path)
    fitted = json.loads(json.dumps(data.fitted))
    table[["extra", "colour", "member", "age", "ill"]] = table.assign(extra=1)[
        ["extra", "colour", "member", "age", "ill"]
    ]
    table[::-1].to_csv(tmp_path / "new.csv", index=False)
    (tmp_path / "t.csv").unlink()
    items = read_items(tmp_path / "new.csv", dataset, fitted)
    np.testing.assert_array_equal(items.images, data.images[::-1])
    np.testing.assert_array_equal(items.labels, data.labels[::-1])
    assert items.remarks == ("columns that the model does not know were left out: visits, extra",)
    table.drop(columns=["ill", "extra"]).to_parquet(tmp_path / "new.parquet")
    assert read_items(tmp_path / "new.parquet", dataset, fitted).labels is None


def test_new_rows_that_do_not_fit_are_refused(tmp_path: Path):
    dataset = Table(csv(tmp_path, frame()), label="ill")
    fitted = dataset.load(tmp_path).fitted
    for change, message in [
        (lambda t: t.drop(columns=["age", "colour"]), "but lacks age, colour"),
        (lambda t: t.assign(age="old"), "column 'age' .* must hold numbers"),
        (lambda t: t.assign(ill="maybe"), "must be of the classes no, yes, but got maybe"),
    ]:
        change(frame()).to_csv(tmp_path / "new.csv", index=False)
        with pytest.raises(UserError, match=message):
            read_items(tmp_path / "new.csv", dataset, fitted)
    np.save(tmp_path / "new.npy", np.zeros((3, 6), np.float32))
    with pytest.raises(UserError, match="trained on a table, so give it a CSV or Parquet file"):
        read_items(tmp_path / "new.npy", dataset, fitted)
    with pytest.raises(UserError, match="not trained on a table, so give it images or arrays"):
        read_items(tmp_path / "new.csv", Digits(), {})
    with pytest.raises(UserError, match="there is no file or folder"):
        read_items(tmp_path / "none.csv", dataset, fitted)


@pytest.mark.parametrize(
    ("dataset", "n", "shape", "classes"),
    [
        (BreastCancer(), 569, (1, 1, 30), {"malignant": 212, "benign": 357}),
        (Wine(), 178, (1, 1, 13), {"class_0": 59, "class_1": 71, "class_2": 48}),
        (Iris(), 150, (1, 1, 4), {"setosa": 50, "versicolor": 50, "virginica": 50}),
        (
            Digits(),
            1797,
            (1, 8, 8),
            dict(zip("0123456789", [178, 182, 177, 183, 181, 182, 181, 179, 174, 180], strict=True)),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_bundled_sets_are_what_they_say(dataset, n, shape, classes, tmp_path: Path):
    data = dataset.load(tmp_path)
    assert data.images.shape == (n, *shape)
    assert dataset.shape == shape
    counts = np.bincount(data.labels)
    assert dict(zip(dataset.classes, counts.tolist(), strict=True)) == classes
    assert len(data.val) == len(data.test) == n // 5
    for part in (data.train, data.val, data.test):
        np.testing.assert_allclose(np.bincount(data.labels[part]) / len(part), counts / n, atol=0.02)
    assert not list(tmp_path.iterdir())


def test_digits_use_the_whole_range_of_grey(tmp_path: Path):
    data = Digits().load(tmp_path)
    assert (data.images.min(), data.images.max(), len(np.unique(data.images))) == (0, 255, 17)
