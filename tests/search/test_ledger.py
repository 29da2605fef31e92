import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from helpers.small import TINY, make, smooth
from optuna.trial import TrialState

from aesearch import AtLeast, AtMost, Minimize
from aesearch.errors import UserError
from aesearch.networks import MLP
from aesearch.objectives import VAE, Reconstruction
from aesearch.search.ledger import Ledger
from aesearch.search.state import move_aside
from aesearch.search.values import Outcome
from aesearch.train import Epoch, TrainConfig


def test_trials_end_as_what_they_are(tmp_path: Path):
    ledger = Ledger.open(make(n_trials=4), tmp_path)
    keys = [ledger.ask()[0] for _ in range(4)]
    assert keys == [0, 1, 2, 3]
    ledger.report(1, 0.5, 1)
    ledger.tell(0, Outcome("COMPLETE", (0.25,)))
    ledger.tell(1, Outcome("PRUNED"))
    ledger.tell(2, Outcome("FAIL", reason="out of luck"))
    ledger.tell(3, Outcome("COMPLETE", (float("nan"),)))
    assert ledger.counts() == {"COMPLETE": 1, "PRUNED": 1, "FAIL": 2}
    assert ledger.best() == {"val/mse": 0.25}
    assert ledger.trials()[1].intermediate_values == {1: 0.5}
    assert dict(ledger.failures()) == {"out of luck": 1, "the searched metrics must be finite, but got [nan]": 1}
    assert ledger.record(2).read("state.json")["reason"] == "out of luck"
    ledger.close()

    storage = f"sqlite:///{tmp_path / 's' / 'ledger.db'}"
    states = [trial.state for trial in optuna.load_study(study_name="s", storage=storage).trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.FAIL]


def test_a_missing_searched_metric_is_known_before_training(tmp_path: Path):
    """The space is tried on a sample: what it makes but rarely, a study meets only on its way."""

    def rarely(trial: optuna.Trial) -> TrainConfig:
        sampled = trial.study.study_name != "rare"
        return TrainConfig(TINY, MLP((8,)), 3, VAE() if sampled else Reconstruction())

    study = make(name="rare", space=rarely, metrics=(Minimize("val/mse"), Minimize("val/kl")))
    study.check()
    ledger = Ledger.open(study, tmp_path)
    _, config = ledger.ask()
    assert isinstance(config, UserError)
    assert str(config).startswith("unknown metric 'val/kl' (only a metric that every trial measures on val can be")
    ledger.close()


def test_choices_that_change_fail_their_trial_alone(tmp_path: Path):
    """Optuna knows the choices of earlier trials from the disk."""
    rates = [0.001, 0.01]

    def changing(trial: optuna.Trial) -> TrainConfig:
        # Not in the sample of the space, which a study compares with that at its begin.
        rate = trial.suggest_categorical("rate", rates if trial.study.study_name == "s" else [0.001, 0.01])
        return TrainConfig(TINY, MLP((8,)), trial.suggest_int("latent_dim", 2, 4), VAE(), learning_rate=rate)

    study = make(space=changing)
    ledger = Ledger.open(study, tmp_path)
    ledger.tell(ledger.ask().key, Outcome("COMPLETE", (1.0,)))
    ledger.close()
    rates.append(0.1)
    ledger = Ledger.open(replace(study), tmp_path)
    key, error = ledger.ask()
    assert (key, str(error)) == (1, "CategoricalDistribution does not support dynamic value space.")
    ledger.tell(1, Outcome("FAIL", reason=str(error)))
    ledger.close()
    rates.pop()
    ledger = Ledger.open(replace(study), tmp_path)
    assert isinstance(ledger.ask().config, TrainConfig)
    ledger.close()


def test_trials_of_a_dead_driver_keep_their_keys(tmp_path: Path):
    ledger = Ledger.open(make(), tmp_path)
    first = ledger.ask()
    ledger.tell(0, Outcome("COMPLETE", (1.0,)))
    left = [ledger.ask(), ledger.ask()]
    ledger.close()

    again = Ledger.open(make(), tmp_path)
    assert set(again.finished()) == {first[0]} == {0}
    assert [again.ask(), again.ask()] == left
    again.tell(1, Outcome("COMPLETE", (2.0,)))
    again.tell(2, Outcome("PRUNED"))
    assert again.counts() == {"COMPLETE": 2, "PRUNED": 1}
    assert again.ask()[0] == 3
    again.close()


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random", "gp"])
def test_an_interrupted_search_proposes_the_same_trials(tmp_path: Path, sampler):
    def search(home: Path, interrupted: bool) -> list[dict[str, float]]:
        study = make(space=smooth, sampler=sampler, n_trials=14)
        ledger = Ledger.open(study, home)
        for number in range(14):
            key, config = ledger.ask()
            if interrupted and number % 3 == 0:
                # The driver dies with this trial under way, and the next one asks for it again.
                ledger.close()
                ledger = Ledger.open(replace(study), home)
                assert ledger.ask() == (key, config)
            ledger.tell(key, Outcome("COMPLETE", (config.learning_rate,)))
        trials = ledger.trials()
        ledger.close()
        return [trials[key].params for key in sorted(trials)]

    whole = search(tmp_path / "whole", interrupted=False)
    assert search(tmp_path / "interrupted", interrupted=True) == whole
    assert len({str(params) for params in whole}) == 14, "no point is proposed twice"


def test_a_sampler_of_ones_own_draws_nothing_again(tmp_path: Path):
    proposed = []
    for _ in range(3):
        ledger = Ledger.open(make(space=smooth, sampler=optuna.samplers.RandomSampler(seed=0)), tmp_path)
        key, config = ledger.ask()
        ledger.tell(key, Outcome("COMPLETE", (1.0,)))
        proposed.append(config.learning_rate)
        ledger.close()
    assert len(set(proposed)) == 3


@pytest.mark.parametrize("closed", [False, True])
def test_a_trial_that_ended_before_its_driver_is_not_rerun(tmp_path: Path, closed):
    ledger = Ledger.open(make(), tmp_path)
    ledger.ask()
    ledger.ask()
    # The worker is through with trial 0; the driver dies before, or just after, it closes the record.
    ledger.record(0).append(Epoch(1, {"val/mse": (0.3, 0.1, 0.2)}, 0.0, 0.0), 0.0)
    ledger.record(0).finish({"metrics": {"val/mse": [0.3, 0.1, 0.2]}})
    if closed:
        ledger.record(0).close("COMPLETE", "")
        ledger.record(1).close("FAIL", "it broke")
    ledger.close()

    again = Ledger.open(make(), tmp_path)
    assert again.finished()[0].values == [0.2]
    assert again.record(0).read("state.json")["state"] == "COMPLETE"
    assert dict(again.failures()) == ({"it broke": 1} if closed else {})
    assert again.ask()[0] == (2 if closed else 1)
    again.close()


def test_a_grid_goes_on_where_it_stopped(tmp_path: Path):
    study = make(sampler="grid", n_trials=None)
    seen = []
    for _ in range(3):
        ledger = Ledger.open(study, tmp_path)
        assert ledger.total == 9
        for _ in range(3):
            key, config = ledger.ask()
            seen.append((config.objective, config.latent_dim))
            ledger.tell(key, Outcome("COMPLETE", (1.0,)))
        ledger.close()
    assert len(set(seen)) == 9


def test_another_space_is_refused_with_the_difference(tmp_path: Path):
    Ledger.open(make(), tmp_path).close()
    Ledger.open(make(n_trials=50), tmp_path).close()
    with pytest.raises(
        UserError, match=r"study s has changed .*: config.epochs was 1, is 9; .* start .* --fork NAME, or .* --fresh"
    ):
        Ledger.open(make(overrides={"epochs": 9}), tmp_path)
    aside = move_aside(make(), tmp_path)
    assert aside == tmp_path / "s.old-1"
    assert (aside / "ledger.db").exists()
    Ledger.open(make(overrides={"epochs": 9}), tmp_path).close()
    assert move_aside(make(), tmp_path) == tmp_path / "s.old-2"
    assert move_aside(make(), tmp_path) is None


def test_a_second_driver_is_refused_with_the_first_ones_pid(tmp_path: Path):
    script = (
        "import sys, time\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[2])\n"
        "from aesearch.search.ledger import Ledger\nfrom helpers.small import make\n"
        "ledger = Ledger.open(make(), Path(sys.argv[1]))\nprint('open', flush=True)\ntime.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parents[1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        try:
            with pytest.raises(UserError, match=f"only one driver .* process {other.pid} on "):
                Ledger.open(make(), tmp_path)
        finally:
            other.kill()
    # The lock of a dead process is no lock.
    Ledger.open(make(), tmp_path).close()


def test_a_damaged_ledger_is_one_line_with_the_cure(tmp_path: Path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "ledger.db").write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match=r"must be an Optuna database, but .*ledger.db: .*--fresh") as caught:
        Ledger.open(make(), tmp_path)
    assert "\n" not in str(caught.value)
    assert move_aside(make(), tmp_path) == tmp_path / "s.old-1"
    Ledger.open(make(), tmp_path).close()


def test_the_description_says_what_was_asked_and_by_which_code(tmp_path: Path):
    study = replace(make(), path=Path(__file__))
    ledger = Ledger.open(study, tmp_path)
    info = ledger.describe()
    ledger.close()
    assert info["metrics"] == [["val/mse", "minimize"]]
    assert info["file_text"] == Path(__file__).read_text()
    assert info["version"].startswith("0.1.0")
    assert json.loads(json.dumps(info)) == info
    again = Ledger.open(study, tmp_path)
    assert again.describe()["identity"] == info["identity"]
    again.close()


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sampler_learns_the_bounds(tmp_path: Path, sampler):
    """The searched metric is better where the bound is broken, so only a sampler that knows the bound stays near it."""
    shares = {}
    for name, constraints in (("free", ()), ("bound", (AtMost("val/kl", 0.0),))):
        study = make(name=name, space=smooth, sampler=sampler, n_trials=40, constraints=constraints)
        ledger = Ledger.open(study, tmp_path)
        rates = []
        for _ in range(40):
            key, config = ledger.ask()
            height = math.log10(config.learning_rate)  # -4 to -1
            ledger.record(key).finish({"metrics": {"val/mse": [-height], "val/kl": [height + 2.5]}})
            ledger.tell(key, Outcome("COMPLETE", (-height,)))
            rates.append(height)
        noted = [trial.constraints for trial in ledger.trials().values()]
        assert noted == [{"val/kl at most": height + 2.5} if constraints else {} for height in rates]
        shares[name] = sum(height <= -2.2 for height in rates[20:]) / 20
        ledger.close()
    assert shares["bound"] > shares["free"] + 0.2


def test_a_bound_is_part_of_what_must_not_change(tmp_path: Path):
    Ledger.open(make(constraints=(AtMost("val/kl", 1.0),)), tmp_path).close()
    with pytest.raises(UserError, match="constraints was val/kl at most 1, is val/kl at least 2"):
        Ledger.open(make(constraints=(AtLeast("val/kl", 2.0),)), tmp_path)
    with pytest.raises(UserError, match="unknown metric 'val/kll'"):
        make(space=smooth, constraints=(AtMost("val/kll", 1.0),)).check()


def test_what_is_not_a_number_breaks_any_bound():
    assert AtMost("val/mse", 1.0).violation(0.5) == -0.5
    assert AtLeast("val/mse", 1.0).violation(0.5) == 0.5
    assert AtMost("val/mse", 1.0).violation(float("nan")) == float("inf")
