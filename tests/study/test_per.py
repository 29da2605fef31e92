"""Conditions of a study: what may be one, and what is kept, stopped and extended within each."""

from functools import partial

import optuna
import pytest
from helpers.small import TINY, make

from aesearch import ASHA, Adaptive, Best, Hyperband, Study, TrainConfig
from aesearch.errors import UserError
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE, Reconstruction
from aesearch.search.kept_models import KeptModels
from aesearch.search.ledger import Ledger
from aesearch.search.more_replicas import parts
from aesearch.search.searcher import JudgedScheduler
from aesearch.search.values import Outcome
from aesearch.study import check_spec, describe_study
from aesearch.train import Epoch


def sorts(trial: optuna.Trial) -> TrainConfig:
    """A hard and an easy sort, of two code sizes; the hard one has a parameter of its own."""
    sort = trial.suggest_categorical("sort", ["easy", "hard"])
    latent_dim = trial.suggest_int("latent_dim", 2, 4)
    objective = BetaVAE(trial.suggest_float("beta", 1.0, 4.0)) if sort == "hard" else Reconstruction()
    return TrainConfig(TINY, MLP((8,)), latent_dim, objective, epochs=9, learning_rate=1e-3)


def study(**fields) -> Study:
    return make(**{"space": sorts, "sampler": "random", "per": ("sort",)} | fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"per": "sort"}, "per='sort' is not a tuple of names; write one such as"),
        (
            {"sampler": "tpe"},
            "but sampler='tpe' learns from all of them and would prefer the easiest; write sampler='g",
        ),
        ({"sampler": optuna.samplers.TPESampler()}, "learns from all of them and would prefer the easiest"),
        ({"per": ("sorts",)}, "per names an unknown parameter 'sorts': did you mean sort"),
        ({"per": ("beta",)}, "per needs choices or whole numbers of at most 100 values, but beta is FloatDistribution"),
        ({"space": partial(sorts), "per": ("beta",)}, "but beta is FloatDistribution"),
    ],
)
def test_what_is_no_condition_is_refused_early(fields, message):
    with pytest.raises(UserError, match=message):
        study(**fields).check()


def test_a_condition_is_known_of_every_trial():
    def rare(trial):
        if trial.suggest_categorical("variational", [False, True]):
            trial.suggest_categorical("sort", ["a", "b"])
        return TrainConfig(TINY, MLP((8,)), 2, Reconstruction(), epochs=1)

    with pytest.raises(
        UserError, match=r"per names 'sort', which a trial with \{'variational': False\} does not have; su"
    ):
        study(space=rare).check()


def test_conditions_are_counted_and_of_whole_numbers_too():
    study(sampler=optuna.samplers.RandomSampler(seed=0)).check()
    assert study().conditions == 2
    assert study(per=("sort", "latent_dim")).conditions == 6
    assert study(per=()).conditions == 1


def test_conditions_are_part_of_what_describes_a_study():
    plain, known = describe_study(study(per=())), describe_study(study())
    assert known == plain | {"per": "sort"}, "a study without conditions has the spec of earlier releases"
    assert check_spec(study(), known) == known
    for one, was, difference in (
        (study(), plain, "per was not there, is sort"),
        (study(per=()), known, "per was sort, is"),
    ):
        with pytest.raises(UserError, match=difference):
            check_spec(one, was)


def told(home, values, **fields) -> Ledger:
    """A study whose trials of a sort end with such values: the lists say those of "easy" and of "hard", in order."""
    ledger = Ledger.open(study(n_trials=sum(map(len, values.values())), **fields), home)
    left = {sort: list(of_sort) for sort, of_sort in values.items()}
    for sort in [sort for sort, of_sort in values.items() for _ in of_sort]:
        ledger.table.queue({"sort": sort})
    for _ in range(ledger.total):
        key, _ = ledger.ask()
        value = left[ledger.condition(key)[0]].pop(0)
        seeds = [value] * 2 if fields.get("replicas") else [value]
        ledger.record(key).append(Epoch(1, {"val/mse": seeds}, 0.0, 0.0), 0.0)
        ledger.record(key).finish({"metrics": {"val/mse": seeds}})
        (ledger.record(key).artifacts / "model.safetensors").write_bytes(b"...")
        ledger.tell(key, Outcome("COMPLETE", (value,)))
    return ledger


VALUES = {"easy": [0.3, 0.1, 0.2], "hard": [30.0, 10.0, 20.0]}


def test_the_best_models_of_each_condition_are_kept(tmp_path):
    ledger = told(tmp_path, VALUES, keep=1)
    assert KeptModels(ledger).discard() == [0, 2, 3, 5]
    assert ledger.best() == {}, "the best of all would be that of the easiest"
    assert ledger.describe()["per"] == ["sort"]
    ledger.close()


def test_each_condition_gets_more_replicas(tmp_path):
    ledger = told(tmp_path, VALUES, replicas=Adaptive(2, 4))
    assert {part.key for part in parts(ledger)} == {1, 4}, "seeds do not differ, so only the best are in question"
    ledger.close()


@pytest.mark.parametrize("rule", [ASHA(1, 2), Hyperband(1, 2)])
def test_a_trial_is_stopped_by_those_of_its_condition_only(tmp_path, rule):
    ledger = told(tmp_path, VALUES, early_stopping=rule)
    scheduler = JudgedScheduler(ledger, {}, partial(rule.judge, 9))
    assert set(scheduler.judges) == {("easy",), ("hard",)}
    assert [scheduler.places[key] for key in (2, 3)] == [(("easy",), 2), (("hard",), 0)]
    # Numbers within a condition are dealt to brackets, so each condition has trials in the first.
    judge = scheduler.judges["hard",]
    assert not judge.stops(len(VALUES["hard"]) + 6, 1, (9.0,)), "the best of the hard ones"
    assert judge.stops(0, 1, (31.0,))
    ledger.close()


def test_the_best_of_each_condition_come_first_in_a_fork(tmp_path):
    told(tmp_path, VALUES, name="earlier").close()
    later = Ledger.open(study(name="later", n_trials=4, enqueue=(Best("earlier", 3),)), tmp_path)
    drawn = [later.ask().key for _ in range(3)]
    found = [later.trials()[key].params["sort"] for key in drawn]
    assert found == ["easy", "hard", "easy"], "the best of each before the second of one"
    later.close()
