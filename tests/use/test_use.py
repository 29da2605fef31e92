"""``aesearch use``: every action on every kind of model, in this process; training takes a second each."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from aesearch.__main__ import main
from aesearch.bottlenecks import VectorQuantized
from aesearch.commands.parser import make_parser
from aesearch.datasets import BreastCancer, Digits, ImageFolder, OneClass, Table
from aesearch.datasets.arrays import MOST_BYTES
from aesearch.datasets.folder import MOST_PIXELS
from aesearch.model import load_model
from aesearch.model.artifacts import save_artifacts
from aesearch.networks import MLP, Conv
from aesearch.objectives import VAE, Reconstruction
from aesearch.train import TrainConfig, train

KINDS = {
    "vae": TrainConfig(Digits(), MLP((32,)), 4, VAE(), replicas=1, epochs=20, batch_size=32),
    "conditional": TrainConfig(Digits(), MLP((32,)), 4, VAE(), conditional=True, replicas=1, epochs=20, batch_size=32),
    "vq": TrainConfig(Digits(), Conv((8,)), 4, Reconstruction("gaussian"), VectorQuantized(16), replicas=1, epochs=3),
    "one class": TrainConfig(OneClass(Digits(), 3), MLP((32,)), 4, Reconstruction(), replicas=1, epochs=40),
    "table": TrainConfig(
        OneClass(BreastCancer(), "benign"), MLP((32,)), 4, VAE("gaussian"), replicas=1, epochs=60, batch_size=32
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, config in KINDS.items():
        data = config.data.load(root)
        for epoch in train(config, data):
            result = epoch.result
        (root / name).mkdir()
        save_artifacts(root / name, config, result, data)
    return root


def use(models: Path, name: str, action: str, *options: str) -> int:
    return main(["use", str(models / name), action, "--data", str(models), "--out", "out", *options])


def test_encode_writes_a_row_per_item(models, in_tmp, capsys):
    assert use(models, "vae", "encode") == 0
    table = pd.read_parquet("out/codes.parquet")
    data = Digits().load(models)
    model = load_model(models / "vae")
    assert list(table.columns) == ["name", "label", "z0", "z1", "z2", "z3"]
    assert table["label"].tolist() == [str(label) for label in data.labels[data.test]]
    np.testing.assert_array_equal(table[["z0", "z1", "z2", "z3"]], model.encode(data.images[data.test]))
    assert f"{len(data.test)} codes of 4 numbers: out/codes.parquet" in capsys.readouterr().out


def test_encode_takes_a_persons_own_images(models, in_tmp):
    Path("mine").mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (20 + i, 30), np.uint8)).save(f"mine/{i}.png")
    Path("mine/broken.png").write_bytes(b"no image")
    assert use(models, "vae", "encode", "--input", "mine") == 0
    assert pd.read_parquet("out/codes.parquet")["name"].tolist() == ["0.png", "1.png", "2.png"]


def test_names_of_files_are_shown_as_text(models, in_tmp, capsys):
    """One begins a formula, one clears the screen, one has bytes that are no text, one is broken."""
    Path("mine").mkdir()
    for name in ("=1+1.png", "\x1b[2J\n.png", os.fsdecode(b"\xff.png")):
        Image.new("L", (20, 30)).save(Path("mine") / name)
    (Path("mine") / "\x1bbroken\n.png").write_bytes(b"no image")
    assert use(models, "vae", "reconstruct", "--input", "mine") == 0
    assert pd.read_csv("out/errors.csv")["name"].tolist() == [r"\x1b[2J\n.png", "'=1+1.png", r"\udcff.png"]
    said = capsys.readouterr().out
    assert r"were skipped: \x1bbroken\n.png: cannot identify" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("name", ["vae", "conditional", "vq"])
def test_reconstruct_denoise_and_traverse_draw_pictures(models, in_tmp, capsys, name):
    actions = [["reconstruct"], ["denoise", "--noise", "0.2"], ["traverse", "--item", "2"]]
    for action in actions[: 2 if name == "vq" else 3]:
        assert use(models, name, *action, "--limit", "50") == 0
    assert np.load("out/reconstructions.npy").shape == (50, 1, 8, 8)
    errors = pd.read_csv("out/errors.csv")
    rebuilt, data = np.load("out/reconstructions.npy"), Digits().load(models)
    exact = ((rebuilt - data.images[data.test[:50]] / 255) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(errors["mse"], exact, rtol=1e-4)
    for picture in ("reconstructions", "denoised", *([] if name == "vq" else ["traversals"])):
        assert np.asarray(Image.open(f"out/{picture}.png")).std() > 10
    assert "dB denoised" in capsys.readouterr().out


def test_samples_are_of_the_prior_the_class_or_the_mixture(models, in_tmp, capsys):
    assert use(models, "vae", "sample", "--count", "7") == 0
    assert np.load("out/samples.npy").shape == (7, 1, 8, 8)
    assert use(models, "conditional", "sample", "--label", "3") == 0
    assert use(models, "vq", "sample", "--prior", "mixture") == 0
    assert use(models, "vae", "sample", "--prior", "mixture", "--label", "4") == 0
    capsys.readouterr()
    for name, options, message in (
        ("vq", [], "has no prior to sample from; write --prior mixture"),
        ("vae", ["--label", "4"], "needs a conditional model, but this model is not; write --prior mixture"),
        ("vae", ["--label", "ten"], "unknown class 'ten'"),
    ):
        assert use(models, name, "sample", *options) == 2
        assert message in capsys.readouterr().err


def test_interpolations_are_strips(models, in_tmp):
    assert use(models, "vae", "interpolate", "--pairs", "3", "--steps", "5", "--spherical") == 0
    with Image.open("out/interpolations.png") as picture:
        assert picture.width / picture.height == pytest.approx(5 / 3)


def test_a_map_has_two_dimensions_twice(models, in_tmp):
    assert use(models, "vae", "map", "--limit", "120") == 0
    table = pd.read_csv("out/map.csv")
    assert list(table.columns) == ["name", "label", "pca_1", "pca_2", "tsne_1", "tsne_2"]
    assert len(table) == 120
    assert table["pca_1"].var() >= table["pca_2"].var()


def test_compression_counts_bits(models, in_tmp):
    assert use(models, "vq", "compress") == 0
    table = pd.read_csv("out/compression.csv").set_index("kept as")
    assert table.loc["codebook entries", "bits_per_image"] == 16 * 4
    assert table.loc["codebook entries", "bits_per_dimension"] == 1.0
    assert table.loc["PNG", "mse"] == 0
    assert use(models, "vae", "compress") == 0
    table = pd.read_csv("out/compression.csv").set_index("kept as")
    assert table.loc["4 numbers of 8 bits", "mse"] <= table.loc["4 numbers of 4 bits", "mse"] + 1e-6
    assert table.loc["KL of the code", "bits_per_image"] > 0


@pytest.mark.parametrize(("name", "least"), [("one class", 0.85), ("table", 0.9)])
def test_anomalies_are_told_from_what_was_normal(models, in_tmp, capsys, name, least):
    assert use(models, name, "detect") == 0
    out = capsys.readouterr().out
    table, data = pd.read_csv("out/scores.csv"), KINDS[name].data.load(models)
    assert len(table) == len(data.test)
    assert table["error"].is_monotonic_decreasing
    limit = float(out.split("threshold ")[1].split()[0])
    clean = load_model(models / name).clean_scores()["error"]
    assert limit == pytest.approx(np.quantile(clean, 0.95), rel=1e-3)
    assert table["anomaly"].sum() == (table["error"] > limit).sum()
    assert float(out.split("AUROC ")[1].split(",")[0]) > least
    assert Path("out/detection.png").stat().st_size > 5000


def test_detect_takes_another_rule_and_a_class_as_normal(models, in_tmp, capsys):
    assert use(models, "table", "detect", "--score", "elbo", "--deviations", "2") == 0
    assert "mean + 2 standard deviations" in capsys.readouterr().out
    assert use(models, "vae", "detect", "--normal", "3") == 0
    assert "AUROC" in capsys.readouterr().out
    for options, message in (
        (["--normal", "ten"], "unknown class 'ten'"),
        (["--quantile", "1.5"], "--quantile 1.5 is out of range; give a number above 0 and below 1"),
    ):
        assert use(models, "vae", "detect", *options) == 2
        assert message in capsys.readouterr().err
    assert use(models, "vq", "detect", "--score", "elbo") == 2
    assert "write --score error" in capsys.readouterr().err


@pytest.mark.parametrize("name", KINDS)
def test_an_exported_program_needs_no_aesearch(models, in_tmp, name):
    assert use(models, name, "export") == 0
    model = load_model(models / name)
    program = torch.export.load("out/model.pt2").module()
    x = torch.rand(5, *model.shape)
    labels = torch.arange(5) if model.network.classes else None
    codes, rebuilt = program(x) if labels is None else program(x, labels)
    given = None if labels is None else labels.numpy()
    np.testing.assert_allclose(codes.detach(), model.encode(x.numpy(), given), atol=1e-5)
    np.testing.assert_allclose(rebuilt.detach(), model.reconstruct(x.numpy(), given), atol=1e-5)
    again = load_model(Path("out"))
    np.testing.assert_array_equal(again.encode(x.numpy(), given), model.encode(x.numpy(), given))
    card = Path("out/model_card.md").read_text()
    assert "| test/mse |" in card
    assert "## Limits" in card


def test_rows_of_a_table_are_scaled_as_in_training(models, in_tmp):
    from sklearn.datasets import load_breast_cancer

    load_breast_cancer(as_frame=True).data.head(40).to_csv("rows.csv", index=False)
    assert use(models, "table", "encode", "--input", "rows.csv") == 0
    model, data = load_model(models / "table"), BreastCancer().load(models)
    codes = pd.read_parquet("out/codes.parquet")[["z0", "z1", "z2", "z3"]]
    np.testing.assert_allclose(codes, model.encode(data.images[:40]), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("table", ["traverse"], "trained on a table"),
        ("table", ["compress"], "trained on a table"),
        ("vq", ["traverse"], "a codebook has no numbers to vary"),
        ("vae", ["encode", "--input", "nowhere"], "there is no file or folder nowhere"),
        ("vae", ["traverse", "--item", "-1"], "there is no item -1; give --item from 0 to "),
        ("vae", ["denoise", "--noise", "-1"], "--noise -1 is not above 0; give a standard deviation"),
        ("conditional", ["interpolate"], "a conditional model takes the class from a label, so it cannot interpolate"),
        ("vae", ["encode", "--replica", "5"], "replica must be from 0 to 0, but got 5"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(models, in_tmp, capsys, name, options, message):
    assert use(models, name, *options) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


def rows_of_a_person(folder: Path) -> TrainConfig:
    """Train on a table in a file, and keep the model in ``folder``."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(5, 2, 60), "b": rng.normal(size=60), "kind": ["x", "y"] * 30})
    frame.to_csv("rows.csv", index=False)
    config = TrainConfig(Table("rows.csv", label="kind"), MLP((4,)), 2, VAE("gaussian"), replicas=1, epochs=1)
    data = config.data.load(folder)
    *_, last = train(config, data)
    folder.mkdir()
    save_artifacts(folder, config, last.result, data)
    return config


def test_a_model_in_a_folder_opens_data_only_when_asked(in_tmp, capsys):
    rows_of_a_person(Path("model"))
    assert main(["use", "model", "encode", "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert "the files that a model names as its data are not opened for it: " in error
    assert "give items with --input" in error
    assert error.count("\n") == 1
    assert not Path("out/codes.parquet").exists()
    assert main(["use", "model", "encode", "--out", "out", "--input", "rows.csv"]) == 0
    assert len(pd.read_parquet("out/codes.parquet")) == 60
    assert main(["use", "model", "encode", "--out", "out", "--open-data"]) == 0
    assert len(pd.read_parquet("out/codes.parquet")) == 12


def test_a_model_of_ones_own_study_opens_its_data(in_tmp, monkeypatch):
    rows_of_a_person(Path("model"))
    store = SimpleNamespace(pictures={3: Path("model")})
    monkeypatch.setattr("aesearch.tracking.read_study", lambda uri, name: store)
    monkeypatch.setattr("aesearch.report.best_trial", lambda results, metric, per: 3)
    assert main(["use", "mine", "encode", "--out", "out"]) == 0
    assert len(pd.read_parquet("out/codes.parquet")) == 12


def test_an_export_of_data_that_was_not_opened_is_loaded(in_tmp):
    config = rows_of_a_person(Path("model"))
    assert main(["use", "model", "export", "--out", "again"]) == 0
    assert load_model("again", open_data=True).config.data == config.data


def test_the_limits_of_use_are_those_of_data_sets():
    options = make_parser().parse_args(["use", "model", "encode"])
    assert (options.most_pixels, options.most_bytes) == (MOST_PIXELS, MOST_BYTES)
    assert (ImageFolder("").most_pixels, Table("").most_bytes) == (MOST_PIXELS, MOST_BYTES)


def test_names_of_strangers_move_no_cursor(models, in_tmp, capsys):
    rows_of_a_person(Path("model"))
    info = json.loads(Path("model/info.json").read_text())
    info["fitted"]["columns"][0]["name"] = "a\n\x1b[2J"
    Path("model/info.json").write_text(json.dumps(info))
    assert main(["use", "model", "encode", "--input", "rows.csv"]) == 2
    error = capsys.readouterr().err
    assert r"but lacks a\n\x1b[2J" in error
    assert error.count("\n") == 1
    Path("mine").mkdir()
    Image.new("L", (20, 20), 90).save("mine/a.png")
    Path("mine/b\x1b[2J.png").write_bytes(b"no image")
    assert use(models, "vae", "encode", "--input", "mine") == 0
    assert "\x1b" not in capsys.readouterr().out


def test_inputs_that_are_too_large_are_said(models, in_tmp, capsys):
    Path("mine").mkdir()
    for name, side in (("small", 20), ("large", 40)):
        Image.new("L", (side, side), 90).save(f"mine/{name}.png")
    assert use(models, "vae", "encode", "--input", "mine", "--most-pixels", "1000") == 0
    assert "1 file(s) could not be read and were skipped: large.png: it has more than 1,000" in capsys.readouterr().out
    assert use(models, "vae", "encode", "--input", "mine/large.png", "--most-pixels", "1000") == 2
    assert "raise most_pixels" in capsys.readouterr().err
    assert use(models, "vae", "encode", "--input", "mine", "--most-pixels", "1600") == 0
    assert len(pd.read_parquet("out/codes.parquet")) == 2
    np.savez_compressed("many.npz", images=np.full((50, 8, 8), 7, np.uint8))
    capsys.readouterr()
    assert use(models, "vae", "encode", "--input", "many.npz", "--most-bytes", "3199") == 2
    assert "has 3,200 bytes, more than 3,199; raise most_bytes to read it" in capsys.readouterr().err
    assert use(models, "vae", "encode", "--input", "many.npz", "--most-bytes", "3200") == 0


def test_a_model_that_is_not_there_is_said_in_one_line(in_tmp, capsys):
    Path("empty").mkdir()
    assert main(["use", "empty", "encode"]) == 2
    assert "a model folder must hold config.json" in capsys.readouterr().err
    assert main(["use", "no_study", "encode"]) == 2
    assert "there is no MLflow store mlflow.db" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["use", "empty", "encod"])
    assert ended.value.code == 2
    assert "did you mean encode" in capsys.readouterr().err
