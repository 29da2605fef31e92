"""What each release has left behind, as it was then: the study file, the state of the study and its table.

A folder below ``releases`` is of one release, and is never changed.
"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aesearch.model import load_model
from aesearch.records import local_results
from aesearch.search.ledger import Ledger
from aesearch.study import load_study

RELEASES = sorted((Path(__file__).parent / "releases").iterdir())
STATES = {1e-2: "COMPLETE", 1e9: "FAIL", 1e-6: "PRUNED", 3e-3: "PRUNED"}


@pytest.fixture(params=RELEASES, ids=[path.name for path in RELEASES])
def left(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return shutil.copytree(request.param, tmp_path / "left")


def test_a_study_of_an_older_release_is_finished(left):
    study = load_study(left / "old.py")
    ledger = Ledger.open(study, left / "home")
    assert ledger.left == 0
    assert {trial.params["rate"]: trial.state.name for trial in ledger.trials().values()} == STATES
    assert ledger.best() == {"val/mse": pd.read_csv(left / "trials.csv")["val/mse"][0]}
    assert [len(values) for values in ledger.intermediate().values()] == [3, 0, 1, 2]
    assert ledger.retry_failed() == 1
    key, config = ledger.ask()
    assert (key, config.learning_rate) == (1, 1e9)
    ledger.close()


def test_the_results_of_an_older_release_are_read_as_they_were(left):
    results = local_results(left / "home" / "old")
    known = pd.read_csv(left / "trials.csv").set_index("trial")
    found = results.trials.set_index("trial").rename(columns={"param:rate": "rate"})
    assert found["state"].to_dict() == known["state"].to_dict()
    metrics = [name for name in known if "/" in name]
    assert len(metrics) > 20
    np.testing.assert_array_equal(found.loc[known.index, metrics].to_numpy(float), known[metrics].to_numpy(float))
    assert results.distributions == results.info["distributions"]


def test_a_model_of_an_older_release_is_loaded(left, tiny):
    model = load_model(left / "home" / "old" / "trials" / "00000" / "artifacts")
    codes = model.encode(np.array(tiny.images[:4]))
    assert codes.shape == (4, 2)
    assert np.isfinite(codes).all()
    assert len(np.unique(codes)) == codes.size, "trained, so no two items have the same code"
