"""Each file of studies/ is shown and trains a trial: one short epoch on a few hundred of its items."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aesearch import MNIST, load_study
from aesearch.__main__ import main
from aesearch.datasets import Data, OneClass
from aesearch.metrics import boosting
from aesearch.scores import labels
from aesearch.train import train

STUDIES = sorted((Path(__file__).parents[1] / "studies").glob("*.py"))


def digits() -> Data:
    """Random images in the place of MNIST, which not every machine has: what is held is that a trial runs."""
    rng, places = np.random.default_rng(0), np.arange(3000)
    images = rng.integers(0, 256, (3000, 1, 28, 28), np.uint8)
    return Data(images, train=places[:1500], val=places[1500:2000], test=places[2000:2500], labels=places % 10)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_is_shown(path, capsys):
    assert main(["show", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("parameters per replica") >= 1
    assert "?" in shown.splitlines()[0]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_trains_a_trial(path, data_root, monkeypatch):
    monkeypatch.setattr(MNIST, "load", lambda self, root: digits())
    # Fewer steps of fine-tuning and rounds of boosting: other tests hold what these scores come to.
    monkeypatch.setattr(labels, "FINE_TUNING_STEPS", 3)
    monkeypatch.setattr(boosting, "ROUNDS", 2)
    study = load_study(path)
    config = replace(study.probes[0][1], epochs=1, replicas=1)
    data = config.data.load(data_root)
    fewer = (
        data
        if isinstance(config.data, OneClass)
        else replace(data, train=data.train[:1200], val=data.val[:400], test=data.test[:400])
    )
    *_, last = train(config, fewer)
    for metric in study.searched:
        assert np.isfinite(last.result.metrics[metric.name]).all(), metric
