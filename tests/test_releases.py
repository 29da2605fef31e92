"""What each release has left behind, as it was then: the study file, the state of the study and its table.

A folder below ``releases`` is of one release, and is never changed.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from aesearch.datasets import Sprites
from aesearch.errors import UserError
from aesearch.model import load_model
from aesearch.records.results import local_results
from aesearch.search.ledger import Ledger
from aesearch.study import describe_study, load_study
from aesearch.train import Checkpoint, write_checkpoint
from aesearch.train.description import FORMAT

RELEASES = sorted((Path(__file__).parent / "releases").iterdir())
PACKAGE = Path(__file__).parents[1] / "aesearch"
SHAPES = ("square", "ellipse", "heart")  # the default of 0.1.0
STATES = {1e-2: "COMPLETE", 1e9: "FAIL", 1e-6: "PRUNED", 3e-3: "PRUNED"}


@pytest.fixture(params=RELEASES, ids=[path.name for path in RELEASES])
def left(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The release's folder, with the study of which a person has written down the shapes that were the default."""
    folder = shutil.copytree(request.param, tmp_path / "left")
    (folder / "old.py").write_text((folder / "old.py").read_text().replace("Sprites(", f"Sprites(shapes={SHAPES}, "))
    return folder


@pytest.mark.parametrize("release", RELEASES, ids=[path.name for path in RELEASES])
def test_a_study_of_the_old_shapes_is_refused_with_the_reason(release, tmp_path):
    """They had images that equal others, so that results of the old and the new ones are not of the same thing."""
    folder = shutil.copytree(release, tmp_path / "left")
    with pytest.raises(UserError, match=r"config.data.shapes was .'square', 'ellipse', 'heart'., is .'heart', 'tri"):
        Ledger.open(load_study(folder / "old.py"), folder / "home")
    with pytest.raises(UserError, match=r"all images of Sprites.* must differ, but 256 of 768 equal an earlier one"):
        Sprites(resolution=16, shapes=SHAPES, scales=2, orientations=2, positions=8).load(tmp_path)


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


def spec(home: Path) -> dict[str, Any]:
    """What the ledger of the study holds it to."""
    kept = optuna.load_study(study_name="old", storage=f"sqlite:///{home / 'old' / 'ledger.db'}")
    return kept.user_attrs["spec"]


def test_the_spec_of_an_older_release_is_rewritten(left):
    study = load_study(left / "old.py")
    assert "format" not in spec(left / "home")
    for _ in range(2):
        Ledger.open(study, left / "home").close()
        assert spec(left / "home") == describe_study(study)


@pytest.mark.parametrize(
    ("was", "now", "difference"),
    [
        ("epochs=3", "epochs=4", "config.epochs was 3, is 4"),
        ("ASHA(1, 2)", "ASHA(1, 3)", "early_stopping was ASHA(grace=1, factor=2), is ASHA(grace=1, factor=3)"),
        ("3e-3]", "2e-3]", "space.rate was CategoricalDistribution(choices=(0.01, 1000000000.0, 1e-06, 0.003)), is "),
        ("rate=rate", "rate=min(rate, 1e8)", "the hash of the sampled configurations was 4f3e9c38, is "),
    ],
)
def test_a_study_of_an_older_release_that_changed_is_refused(left, was, now, difference):
    text = (left / "old.py").read_text()
    assert was in text
    (left / "old.py").write_text(text.replace(was, now))
    with pytest.raises(UserError) as caught:
        Ledger.open(load_study(left / "old.py"), left / "home")
    assert f"the study old has changed since it began: {difference}" in str(caught.value)


GO_ON = """
import json, sys
from pathlib import Path
from aesearch.errors import UserError
from aesearch.search.ledger import Ledger
from aesearch.study import load_study
from aesearch.train import read_checkpoint

study, found = load_study(Path(sys.argv[1])), []
for home in map(Path, sys.argv[2:]):
    try:
        ledger = Ledger.open(study, home)
        counts = dict(ledger.counts())
        ledger.close()
    except UserError as error:
        counts = str(error)
    found.append([counts, read_checkpoint(home / "checkpoints", study.probes[0][1], known=9)[1]])
print(json.dumps(found))
"""
Edit = tuple[str, str, str]


@pytest.fixture
def later(left: Path, tmp_path: Path) -> Callable[[list[Edit]], list[Any]]:
    """Go on with what releases left, under a copy of the package with such edits: (file, what is there, what is then).

    For the study as its release left it, and as today's has gone on with it: the counts of the trials, or why it was
    refused, and why a checkpoint of the study was passed over.
    """
    study = load_study(left / "old.py")
    config = study.probes[0][1]
    today = shutil.copytree(left / "home", left / "today")
    Ledger.open(study, today).close()
    assert spec(today)["format"] == FORMAT
    for home in (left / "home", today):
        (home / "checkpoints").mkdir()
        write_checkpoint(home / "checkpoints", Checkpoint(1, {}), config)
    manifest = left / "home" / "checkpoints" / "epoch-000001.json"
    manifest.write_text(json.dumps({"sha256": json.loads(manifest.read_text())["sha256"], "config": repr(config)}))

    def go_on(edits: list[Edit]) -> list[Any]:
        package = shutil.copytree(PACKAGE, tmp_path / "later" / "aesearch", ignore=shutil.ignore_patterns("*.pyc"))
        for name, was, now in edits:
            for path in package.rglob("*.py") if name == "*" else [package / name]:
                text = path.read_text()
                assert name == "*" or was in text, (name, was)
                if path.name != "first_format.py":
                    path.write_text(text.replace(was, now))
        command = [sys.executable, "-c", GO_ON, str(left / "old.py"), str(left / "home"), str(today)]
        environment = os.environ | {"PYTHONPATH": str(package.parent)}
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return go_on


ADDED_FIELDS = [
    ("train/config.py", "    batch_size: int = 128\n", "    batch_size: int = 128\n    weight_decay: float = 0.0\n"),
    ("objectives/variational.py", "    beta: float = 4.0\n", "    beta: float = 4.0\n    gain: float = 1.0\n"),
    ("protocols.py", "    bins: int = 20\n", "    bins: int = 20\n    neighbours: int = 5\n"),
    ("study/stopping.py", "    factor: int = 3\n", "    factor: int = 3\n    least: int = 0\n"),
]
ADDED_METRIC = [
    (
        "metrics/mig_sap.py",
        "MIG = MetricKind(\n",
        'NEWEST = MetricKind(\n    name="newest",\n    better="more",\n    unit="",\n    explanation="new.",\n'
        '    floor=NOISE,\n    ceiling=FACTORS,\n    cost="codes",\n    measure="newest",\n)\nMIG = MetricKind(\n',
    ),
    ("protocols.py", '    "mig",\n', '    "newest",\n    "mig",\n'),
    (
        "scores/disentanglement.py",
        '    "mig": Measure(',
        '    "newest": Measure(("newest",), _mig),\n    "mig": Measure(',
    ),
]
RENAMED_FIELD = [
    ("*", "noise_factor", "noise"),
    (
        "train/description.py",
        "    ),\n)\n# Format 1",
        """    ),
    Migration(
        "TrainConfig.noise_" "factor is TrainConfig.noise",
        "0.1.0",
        "one word",
        lambda node: {"noise" if name == "noise_" + "factor" else name: value for name, value in node.items()},
    ),
)
# Format 1""",
    ),
]


def test_a_study_goes_on_where_a_release_adds_and_renames(later):
    counts = {"COMPLETE": 1, "FAIL": 1, "PRUNED": 2}
    assert later(ADDED_FIELDS + ADDED_METRIC + RENAMED_FIELD) == [[counts, []]] * 2


def test_a_study_is_refused_where_a_release_changes_numbers(later):
    changed = [
        ("train/config.py", "    batch_size: int = 128\n", "    batch_size: int = 64\n"),
        ("protocols.py", "    bins: int = 20\n", "    bins: int = 30\n"),
    ]
    (first, (first_remark,)), (today, (remark,)) = later(changed)
    assert "config.batch_size was 128, is 64" in first
    assert "protocols was epoch 3dd9f650, is epoch " in first
    assert (
        "old has changed since it began: protocols.epoch.bins was 20, is 30; config.batch_size was 128, is 64; undo"
        in today
    )
    assert "batch_size=64" in first_remark
    assert remark.endswith("it is of another configuration: config.batch_size was 128, is 64")
