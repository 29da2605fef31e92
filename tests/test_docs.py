"""The Python in the pages runs, and what CONTRIBUTING names is there."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.doc_blocks import PAGES, ROOT, blocks
from helpers.small import TINY

from aesearch import Study, TrainConfig, load_study
from aesearch.model.artifacts import save_artifacts
from aesearch.networks import MLP
from aesearch.objectives import VAE, Reconstruction
from aesearch.scores import Trained
from aesearch.train import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """The artifacts of a small model."""
    folder, data = tmp_path_factory.mktemp("trained"), TINY.load(data_root)
    config = TrainConfig(TINY, MLP((8,)), 3, VAE(), replicas=1, epochs=1)
    *_, last = train(config, data)
    save_artifacts(folder, config, last.result, data)
    return folder


def test_every_page_with_python_is_run_by_a_test():
    """A page that gets its first block of Python gets a test, here or beside what it shows."""
    assert {page for page in PAGES if blocks(page)} == {
        "README.md",
        "docs/metrics.md",
        "docs/mlflow.md",  # and the last block of docs/use.md: tests/tracking/test_tracker.py
        "docs/models.md",
        "docs/use.md",
    }


@pytest.mark.parametrize(("page", "number"), [("README.md", 1), ("docs/use.md", 0)])
def test_a_model_is_loaded_as_a_page_says(page, number, trained, in_tmp, tiny):
    shutil.copytree(trained, in_tmp / "mine")
    shutil.copytree(trained, in_tmp / "use" / "anomaly" / "export")
    names = {"images": np.array(tiny.images[:4])}
    exec(blocks(page)[number].code, names)
    assert names["codes"].shape == (4, 3)


@pytest.mark.parametrize("page", ["README.md", "docs/metrics.md"])
def test_a_study_of_a_page_can_be_searched(page, in_tmp):
    (in_tmp / "shown.py").write_text(blocks(page)[0].code)
    study = load_study(in_tmp / "shown.py")
    study.check()
    assert isinstance(study, Study)


def test_a_configuration_of_a_page_is_one():
    names = {}
    code = blocks("docs/models.md")[0].code
    exec(code.replace("\nTrainConfig(", "\nshown = TrainConfig("), names)
    assert isinstance(names["shown"], TrainConfig)


def test_the_score_of_a_page_is_measured(data_root):
    """A model that adds a quarter to each pixel is a quarter too bright."""

    class Brighter(torch.nn.Module):
        classes, latent_dim = 0, 64

        def encode(self, x, label=None):
            return x

        def decode(self, codes, label=None):
            return codes + 0.25

    names = {}
    exec(blocks("docs/metrics.md")[1].code, names)
    data = TINY.load(data_root)
    model = Trained(
        Brighter(), Reconstruction("gaussian"), data, lambda i: torch.from_numpy(data.images[i]).float() / 512, 0
    )
    assert names["Brightness"]().measure(model, "test") == {"brightness_error": pytest.approx(0.25)}


def test_every_file_that_contributing_names_is_there():
    """A name without a suffix is of a file or of a folder, whichever it is today."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    # Commits show files of their own time.
    today = re.sub(r"`git show [^`]+`", "", text)
    names = set(re.findall(r"`((?:aesearch|tests|docs|helpers|studies|benchmarks)/[\w./]*)`", today))
    assert len(names) > 15
    places = {name: ROOT / ("tests" if name.startswith("helpers/") else "") / name for name in names}
    assert [name for name, path in places.items() if not (path.exists() or path.with_suffix(".py").exists())] == []


def test_every_commit_that_contributing_shows_has_its_file():
    shown = re.findall(r"`git show ([0-9a-f]{7,}) -- (\S+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(shown) == 6
    for commit, path in shown:
        command = ["git", "cat-file", "-e", f"{commit}:{path}"]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if "invalid object name" in found.stderr or "not a git repository" in found.stderr:
            pytest.skip("this copy of the repository lacks its history")
        assert found.returncode == 0, f"{commit} has no {path}"


def test_the_life_of_a_trial_names_what_there_is():
    """Every file, function and test that docs/how-a-trial-lives.md names is there, and the way has at most 8 steps."""
    page = (ROOT / "docs" / "how-a-trial-lives.md").read_text()
    paths = set(re.findall(r"\b(?:aesearch|tests)/[\w/]+\.py|\baesearch/\w+/(?=\s)", page))
    assert len(paths) > 15
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    way = [
        ("aesearch/__main__.py", "main"),
        ("aesearch/commands/run.py", "run"),
        ("aesearch/search/driver.py", "run_study"),
        ("aesearch/search/searcher.py", "suggest"),
        ("aesearch/search/worker.py", "run_trial"),
        ("aesearch/train/loop.py", "train"),
        ("aesearch/train/cohort.py", "train_epoch"),
    ]
    for path, name in way:
        assert re.search(rf"{re.escape(path)}\s+{name}\b|{re.escape(path)} {name} ", page), f"{path} {name}"
        assert f"def {name}(" in (ROOT / path).read_text()
    record = (ROOT / "aesearch" / "records" / "record.py").read_text()
    for name in re.findall(r"`trials/<key>/([\w.]+)/?`", page):
        assert name in record, f"{name} is none of a record's files"
