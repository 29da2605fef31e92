import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import optuna
import pytest
from helpers.small import TINY, make, space

from aesearch import ASHA, MNIST, Maximize, Minimize, TrainConfig, load_study
from aesearch.datasets import Digits
from aesearch.errors import UserError
from aesearch.networks import MLP
from aesearch.objectives import VAE, BetaVAE, Reconstruction
from aesearch.scores import Probe, Score
from aesearch.study import describe_study

STUDIES = Path(__file__).parents[2] / "studies"


def write(folder: Path, body: str) -> Path:
    path = folder / "mine.py"
    path.write_text(
        '"""Mine?"""\n'
        "from aesearch import Minimize, Maximize, Sprites, Study, TrainConfig\n"
        "from aesearch.networks import MLP\n"
        "from aesearch.objectives import VAE, BetaVAE\n"
        f"{body}\n"
    )
    return path


SPACE = """
def space(trial):
    return TrainConfig(data=Sprites(resolution=16), network=MLP(), latent_dim=2, objective={objective})
study = Study("mine", space, metrics={metrics}, n_trials=2{more})
"""


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.py")), ids=lambda path: path.stem)
def test_every_study_loads_and_asks_a_question(path):
    study = load_study(path)
    assert study.name == path.stem
    assert "?" in study.question
    assert f"python -m aesearch run studies/{path.name}" in study.question


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metrics": ()}, "s has 0 metrics to search over; give one or two"),
        ({"metrics": (Minimize("val/mse"), Maximize("val/mig"), Minimize("val/kl"))}, "s has 3 metrics to search over"),
        ({"sampler": "nsga"}, "unknown sampler 'nsga': did you mean nsga2"),
        ({"n_trials": None}, "n_trials is missing; give a number of trials, or use sampler='grid'"),
        ({"n_trials": 0}, "n_trials=0 is too small; give at least 1"),
        ({"name": "a/b"}, "'a/b' is not a name of a study; begin with a letter or digit and use only"),
        ({"cpus": 0}, "cpus > 0"),
        ({"metrics": (Minimize("val/mse"), Maximize("val/mig")), "early_stopping": ASHA()}, "ASHA takes one metric"),
        ({"constraints": "mse"}, "constraints='mse' is not a tuple of bounds; write one such as"),
        ({"early_stopping": "asha"}, "early_stopping='asha' is not a rule; write one such as Pareto"),
    ],
)
def test_impossible_studies_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        make(**fields)


def test_probes_repeat_and_find_conditional_parameters():
    one, other = make(), make()
    assert [config for _, config in one.probes] == [config for _, config in other.probes]
    assert set(one.distributions) == {"variational", "beta", "latent_dim"}


def test_overrides_and_seed_reach_every_configuration():
    study = make(overrides={"epochs": 7, "replicas": 2}, seed=5)
    assert {(config.epochs, config.replicas, config.seed) for _, config in study.probes} == {(7, 2, 5)}


def test_a_grid_is_every_combination_of_a_conditional_space():
    grid = make(sampler="grid", n_trials=None).grid()
    assert grid == [
        *({"variational": False, "latent_dim": n} for n in (2, 4, 6)),
        *({"variational": True, "beta": beta, "latent_dim": n} for beta in (1.0, 4.0) for n in (2, 4, 6)),
    ]


def test_a_continuous_grid_is_refused():
    def continuous(trial):
        return TrainConfig(
            data=TINY, network=MLP((8,)), latent_dim=2, objective=BetaVAE(trial.suggest_float("beta", 0, 1))
        )

    with pytest.raises(UserError, match=r"beta is continuous; write trial.suggest_categorical\('beta'"):
        make(space=continuous, sampler="grid", n_trials=None).check()


def test_a_metric_that_some_configurations_lack_is_refused():
    with pytest.raises(UserError, match="unknown metric 'val/kl'"):
        make(metrics=Minimize("val/kl")).check()
    make(metrics=Minimize("val/sap")).check()


def test_mnist_has_no_factors_to_search_over():
    def digits(trial):
        return TrainConfig(data=MNIST(), network=MLP((8,)), latent_dim=2, objective=VAE())

    with pytest.raises(UserError, match="unknown metric 'val/mig'"):
        make(space=digits, metrics=Maximize("val/mig")).check()


def test_the_spec_changes_with_what_is_trained_not_how_much():
    spec = describe_study(make())
    assert describe_study(make(n_trials=9, max_concurrent=1)) == spec
    assert describe_study(make(seed=1)) != spec
    assert describe_study(make(overrides={"epochs": 9})) != spec
    assert describe_study(make(metrics=Maximize("val/mse"))) != spec


def test_two_metrics_and_every_named_sampler_work_together():
    for sampler in ("tpe", "nsga2", "random", "gp"):
        study = make(sampler=sampler, metrics=(Minimize("val/mse"), Maximize("val/mig")))
        asked = optuna.create_study(directions=study.directions, sampler=study.make_sampler())
        for value in range(3):
            trial = asked.ask()
            study.config(trial)
            asked.tell(trial, [value, -value])
        assert len(asked.trials) == 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            SPACE.format(objective="BetaVAE(btea=2)", metrics="Minimize('val/mse')", more=""),
            r"mine.py:7: BetaVAE has no field 'btea': did you mean beta\?",
        ),
        (
            SPACE.format(objective="VAE()", metrics="Minimize('val/mze')", more=""),
            r"unknown metric 'val/mze'.*did you mean val/mse",
        ),
        (
            SPACE.format(objective="VAE()", metrics="Minimize('test/mse')", more=""),
            r"unknown metric 'test/mse' \(only a metric that every trial measures on val can be searched over\)",
        ),
        (
            SPACE.format(objective="VAE()", metrics="Minimize('val/mse')", more=", sampler='tpee'"),
            r"mine.py:8: unknown sampler 'tpee': did you mean tpe",
        ),
        ("from aesearch import Sprits", r"mine.py:5: aesearch has no 'Sprits': did you mean Sprites"),
        ("study = 3", "the study file has no study; end it with study = Study"),
        ("1 / 0", "mine.py:5: ZeroDivisionError: division by zero"),
        ("study = Study(", "mine.py:5: SyntaxError"),
        (SPACE.format(objective="3", metrics="Minimize('val/mse')", more=""), "objective must be a Objective"),
        (
            "study = Study('mine', lambda trial: 3, metrics=Minimize('val/mse'), n_trials=1)",
            "the space of mine returned 3; return a TrainConfig",
        ),
    ],
)
def test_a_wrong_study_file_is_one_line_with_its_place(tmp_path, body, message):
    with pytest.raises(UserError, match=message) as caught:
        load_study(write(tmp_path, body))
    assert "\n" not in str(caught.value)


def test_a_missing_study_file_names_the_nearest():
    with pytest.raises(UserError, match=r"did you mean .*beta_sweep\.py"):
        load_study(STUDIES / "beta_sweeep.py")


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.py")), ids=lambda path: path.stem)
def test_every_study_has_a_size_for_a_gpu(path, monkeypatch):
    small = load_study(path).probes[0][1]
    monkeypatch.setenv("AESEARCH_SIZE", "gpu")
    large = load_study(path).probes[0][1]
    if path.stem != "beta_sweep":
        assert (large.epochs, large.replicas) > (small.epochs, small.replicas)


def test_steps_of_a_float_are_a_grid_whatever_their_rounding():
    def noisy(trial):
        noise = trial.suggest_float("noise_factor", 0.0, 0.5, step=0.1)
        return TrainConfig(TINY, MLP((8,)), 2, Reconstruction(), noise_factor=noise, epochs=1)

    grid = make(space=noisy, sampler="grid", n_trials=None).grid()
    assert [params["noise_factor"] for params in grid] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_a_score_can_be_searched_but_not_stopped_early_on():
    def scored(trial):
        trial.suggest_int("n", 2, 4)
        return TrainConfig(Digits(), MLP((8,)), 2, Reconstruction(), epochs=1, scores=(Probe((10, 100)), Detected()))

    make(space=scored, metrics=Maximize("val/probe_100")).check()
    with pytest.raises(UserError, match="unknown metric 'val/auroc'"):
        make(space=scored, metrics=Maximize("val/auroc")).check()
    with pytest.raises(UserError, match="early_stopping needs a metric that is measured at each epoch"):
        make(space=scored, metrics=Maximize("val/probe_100"), early_stopping=ASHA()).check()


@dataclass(frozen=True)
class Detected(Score):
    """A score that only test has, as that of anomalies."""

    splits = ("test",)

    @property
    def names(self):
        return ("auroc",)

    def check(self, data, objective):
        pass

    def measure(self, trained, split):
        return {"auroc": 0.5}


def test_a_space_may_be_a_function_with_some_arguments_given():
    """Workers get its module by value: were that functools, nothing could be sent."""

    def wide(trial, width):
        return replace(space(trial), latent_dim=width)

    study = make(space=partial(partial(wide), width=5))
    assert study.module.__name__ == __name__
    assert study.question == (sys.modules[__name__].__doc__ or "")
    assert {config.latent_dim for _, config in study.probes} == {5}
