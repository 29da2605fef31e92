"""Metrics of kept models, measured without training."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from aesearch.datasets import Digits, Sprites
from aesearch.errors import UserError
from aesearch.metrics.registry import find_metric
from aesearch.model import save_artifacts
from aesearch.networks import MLP
from aesearch.objectives import VAE, Reconstruction
from aesearch.protocols import chen, dlib, fast
from aesearch.records.results import Results
from aesearch.rescore import Task, chosen, compare, load, rescore, score_trial
from aesearch.scores import UDR, Disentanglement, Likelihood, Quality
from aesearch.train import TrainConfig, train

SCORES = (Disentanglement(("mig", "factor_vae"), replace(dlib, votes=200, test_votes=100)), UDR(), Quality())
CONFIG = TrainConfig(
    Sprites(resolution=16, scales=2, orientations=2, positions=8),
    MLP((16,)),
    latent_dim=3,
    objective=VAE(),
    replicas=2,
    epochs=2,
    scores=SCORES,
)


def trained(folder, config, data_root):
    """A trial's folder, as a worker leaves it, and its result."""
    folder.mkdir(parents=True)
    data = config.data.load(data_root)
    *_, last = train(config, data)
    save_artifacts(folder, config, last.result, data)
    return last.result


def results(folders, rows=None) -> Results:
    trials = [{"trial": key, "state": "COMPLETE"} | (rows or {}).get(key, {}) for key in folders]
    empty = pd.DataFrame()
    return Results({"name": "kept"}, pd.DataFrame(trials), empty, empty, {}, dict(folders))


@pytest.fixture(scope="module")
def kept(tmp_path_factory, data_root):
    root = tmp_path_factory.mktemp("kept")
    return {
        key: (root / str(key), trained(root / str(key), replace(CONFIG, latent_dim=3 + key), data_root))
        for key in (0, 1)
    }


def test_a_kept_model_scores_as_at_the_end_of_training(kept, data_root):
    folder, result = kept[0]
    found = score_trial(Task(0, folder, data_root, SCORES))
    assert set(found["metrics"]) == {
        *("test/dlib.mig", "test/dlib.factor_vae", "val/udr_lasso", "val/udr_spearman"),
        *("val/psnr", "test/psnr", "val/ssim", "test/ssim"),
    }
    for name, values in found["metrics"].items():
        assert values == pytest.approx(result.metrics[name], rel=1e-5), name
    names = ("test/dlib.mig", "test/dlib.factor_vae", "val/udr_lasso", "val/udr_spearman")
    assert found["references"] == {name: result.references[name] for name in names}
    assert found["protocols"]["dlib"] == result.protocols["dlib"]


def test_each_trial_is_scored_in_processes_and_only_once(kept, data_root):
    folders = {key: folder for key, (folder, _) in kept.items()}
    scores = [Quality()]
    found = dict(rescore(results(folders), scores, data_root, workers=2, study=None))
    assert set(found) == {0, 1}
    for key, (_, result) in kept.items():
        assert found[key]["metrics"]["test/psnr"] == pytest.approx(result.metrics["test/psnr"], rel=1e-5)
    known = {f"{split}/{name}": 0.5 for split in ("val", "test") for name in ("psnr", "ssim")}
    assert set(dict(rescore(results(folders, {0: known}), scores, data_root, 2, None))) == {1}
    assert not dict(rescore(results(folders, {0: known, 1: known}), scores, data_root, 2, None))


def test_models_of_all_code_sizes_are_compared(kept, data_root):
    folders = {key: folder for key, (folder, _) in kept.items()}
    found = dict(compare(results(folders), [UDR()], data_root, None))
    assert set(found) == {0, 1}
    values = np.array([found[key]["metrics"]["val/study.udr_spearman"] for key in (0, 1)])
    assert values.shape == (2, 2)
    assert (values > 0).all()
    assert (values <= 1).all()
    within = score_trial(Task(0, folders[0], data_root, (UDR(),)))["metrics"]["val/udr_spearman"]
    assert tuple(values[0]) != within, "the other trial's models count too"


def test_models_of_different_data_are_not_compared(kept, tmp_path, data_root):
    other = replace(CONFIG, data=Digits(), scores=())
    trained(tmp_path / "digits", other, data_root)
    with pytest.raises(UserError, match="of the same data, but got 4 models of 2 data sets"):
        list(compare(results({0: kept[0][0], 1: tmp_path / "digits"}), [UDR()], data_root, None))


def test_an_impossible_score_is_refused_with_the_reason(kept, tmp_path, data_root):
    plain = replace(CONFIG, objective=Reconstruction(), replicas=1, scores=())
    trained(tmp_path / "plain", plain, data_root)
    with pytest.raises(UserError, match="Likelihood needs a variational objective"):
        list(rescore(results({0: tmp_path / "plain"}), [Likelihood()], data_root, 1, None))
    both = results({0: tmp_path / "plain", 1: kept[1][0]})
    found = dict(rescore(both, [Likelihood(samples=2)], data_root, 1, None))
    assert "needs a variational objective" in str(found[0])
    assert "test/log_likelihood_2" in found[1]["metrics"]


def test_a_model_that_is_damaged_is_refused(kept, tmp_path, data_root):
    folder = tmp_path / "damaged"
    folder.mkdir()
    for file in kept[0][0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="has no complete model"):
        score_trial(Task(0, folder, data_root, (Quality(),)))


def test_a_type_of_the_study_file_is_found_there(kept, tmp_path, data_root):
    """What a worker was sent by value cannot be named in config.json, so the study file is asked."""
    study = tmp_path / "own.py"
    study.write_text(
        '''"""Own?"""
from dataclasses import dataclass
from aesearch import Minimize, Sprites, Study, TrainConfig
from aesearch.networks import MLP
from aesearch.objectives import VAE

@dataclass(frozen=True)
class Own(VAE):
    pass

def space(trial):
    return TrainConfig(Sprites(resolution=16, scales=2, orientations=2, positions=8), MLP((16,)),
                       latent_dim=trial.suggest_int("latent_dim", 3, 4), objective=Own(), replicas=2, epochs=2)

study = Study("own", space, Minimize("val/mse"), n_trials=1)
'''
    )
    folder = tmp_path / "model"
    folder.mkdir()
    for file in kept[0][0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config["objective"]["type"] = "Own"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="type 'Own' of a saved configuration is not one of aesearch's own types"):
        load(folder, data_root)
    found = score_trial(Task(0, folder, data_root, (Quality(),), (study, {"latent_dim": 3})))
    assert found["metrics"]["test/psnr"] == pytest.approx(kept[0][1].metrics["test/psnr"], rel=1e-5)


def test_names_on_the_command_line_stand_for_scores():
    assert chosen(["dci", "udr", "mig", "dci"], "dlib", {}) == [Disentanglement(("dci", "mig"), dlib), UDR()]
    for metric, protocol, message in [
        ("dcii", "dlib", "unknown metric 'dcii': did you mean dci"),
        ("dci", "dlibb", "unknown protocol 'dlibb': did you mean dlib"),
        ("dci", "chen", "the protocol chen does not define the metric 'dci'"),
    ]:
        with pytest.raises(UserError, match=message):
            chosen([metric], protocol, {})


def test_figures_of_an_older_estimator_keep_their_column():
    known = {"fast": fast.describe() | {"hash": "00000000"}, "chen": chen.describe()}
    (score,) = chosen(["mig"], "fast", known)
    assert score.names == (f"fast-{fast.hash}.mig",)
    (score,) = chosen(["mig"], "chen", known)
    assert score.names == ("chen.mig",)


def test_figures_of_an_older_score_keep_their_column(kept, data_root):
    """Figures of the first version are beside those of today's, of every trial, and none is written over."""
    folders = {key: folder for key, (folder, _) in kept.items()}
    old = results(folders, {0: {"test/log_likelihood_64": -7.0}})
    columns = {name for name in old.trials.columns if "/" in name}
    (score,) = chosen(["likelihood"], "fast", {}, columns)
    assert score.names[0] == "v2.log_likelihood_64"
    assert find_metric("test/v2.log_likelihood_64").name == "log_likelihood"
    found = dict(rescore(old, [score], data_root, 2, None))
    assert all("test/v2.log_likelihood_64" in each["metrics"] for each in found.values())
    assert not any("test/log_likelihood_64" in each["metrics"] for each in found.values())
    (comparison,) = chosen(["udr"], "fast", {}, {"val/study.udr_lasso"})
    for each in dict(compare(results(folders), [comparison], data_root, None)).values():
        assert set(each["metrics"]) == {"val/study.v2.udr_lasso", "val/study.v2.udr_spearman"}
    new = dict(compare(results(folders), [UDR()], data_root, None))
    assert set(new[0]["references"]) == set(new[0]["metrics"]) == {"val/study.udr_lasso", "val/study.udr_spearman"}
    assert chosen(["udr"], "fast", new[0]["protocols"], {"val/study.udr_lasso"}) == [UDR()], "they are of this version"
