"""Points that are tried first: given, of another study, of the study that one was made from."""

import pytest
from helpers.small import make, smooth

from aesearch import AtMost, Best, Maximize, Minimize, TrainConfig
from aesearch.errors import UserError
from aesearch.search.ledger import Ledger
from aesearch.search.values import Outcome
from aesearch.train import Epoch


def run(home, values=(), **fields):
    """Ask for as many trials as there are values and tell them; the rates that were proposed."""
    ledger = Ledger.open(make(space=smooth, **{"n_trials": max(1, len(values))} | fields), home)
    rates = []
    for value in values:
        key, config = ledger.ask()
        metrics = {name: [one] for name, one in zip(ledger.searched, value, strict=True)}
        ledger.record(key).append(Epoch(1, metrics, 0.0, 0.0), 0.0)
        ledger.record(key).finish({"metrics": metrics | {"val/kl": [1.0]}})
        ledger.tell(key, Outcome("COMPLETE", tuple(value)))
        rates.append(config.learning_rate)
    ledger.close()
    return rates


def test_known_points_come_first_and_once(tmp_path):
    enqueue = ({"rate": 0.05}, {"rate": 0.001})
    first = run(tmp_path, [(1.0,)], enqueue=enqueue)
    then = run(tmp_path, [(1.0,)] * 3, enqueue=enqueue, n_trials=4)
    assert first + then[:1] == [0.05, 0.001]
    assert not {0.05, 0.001} & set(then[1:])


def test_the_best_of_another_study_come_first(tmp_path):
    rates = run(tmp_path, [(3.0,), (1.0,), (2.0,), (9.0,)], name="earlier")
    warm = run(tmp_path, [(0.0,)] * 3, name="later", enqueue=(Best("earlier", 2),))
    assert warm[:2] == [rates[1], rates[2]]
    assert warm[2] not in rates


def test_the_front_of_a_study_of_two_metrics_comes_first(tmp_path):
    metrics = (Minimize("val/mse"), Maximize("val/mig"))
    values = [(1.0, 0.1), (2.0, 0.2), (3.0, 0.1), (0.5, 0.05)]
    rates = run(tmp_path, values, name="earlier", metrics=metrics)
    warm = run(tmp_path, [(0.0,)] * 4, name="later", enqueue=(Best("earlier", 3),))
    assert set(warm[:3]) == {rates[0], rates[1], rates[3]}
    assert warm[3] not in rates


def test_what_does_not_fit_the_space_is_drawn(tmp_path):
    def narrower(trial):
        config = smooth(trial)
        return TrainConfig(**{**vars(config), "latent_dim": trial.suggest_int("codes", 2, 9)})

    rates = run(tmp_path, [(1.0,)], name="earlier")
    ledger = Ledger.open(make(space=narrower, name="later", n_trials=1, enqueue=(Best("earlier"),)), tmp_path)
    _, config = ledger.ask()
    assert config.learning_rate == rates[0]
    assert 2 <= config.latent_dim <= 9
    ledger.close()

    def elsewhere(trial):
        config = smooth(trial)
        trial.suggest_float("unrelated", 0, 1)
        return TrainConfig(**{**vars(config), "learning_rate": trial.suggest_float("rate_", 1e-4, 1e-1)})

    ledger = Ledger.open(make(space=elsewhere, name="other", n_trials=1, enqueue=(Best("earlier"),)), tmp_path)
    assert ledger.ask()[1].learning_rate != rates[0]
    ledger.close()


def test_a_study_that_is_not_there_is_named(tmp_path):
    run(tmp_path, [(1.0,)], name="earlier")
    with pytest.raises(UserError, match=r"there is no study 'earlyer' below .*: did you mean earlier?"):
        Ledger.open(make(space=smooth, name="later", enqueue=(Best("earlyer"),)), tmp_path)


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"rat": 0.1}, "enqueue names an unknown parameter 'rat': did you mean rate"),
        ({"rate": 5.0}, "enqueue has rate=5.0, which is not in the space, .*; choose a value"),
        ({"rate": "fast"}, "enqueue has rate='fast', which is not in the space, .*; choose a value"),
    ],
)
def test_a_point_outside_the_space_is_refused(point, message):
    with pytest.raises(UserError, match=message):
        make(space=smooth, enqueue=(point,)).check()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"enqueue": [{"rate": 0.1}]}, r"enqueue=\[{'rate': 0.1}\] is not a tuple of points"),
        ({"enqueue": (0.1,)}, r"enqueue=\(0.1,\) is not a tuple of points"),
        ({"keep": -1}, "keep=-1 is below 0; give a number of trials"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        make(space=smooth, **fields)
    with pytest.raises(UserError, match="Best needs most >= 1"):
        Best("s", 0)


def test_rivals_keep_the_bounds(tmp_path):
    ledger = Ledger.open(make(space=smooth, n_trials=3, constraints=(AtMost("val/kl", 1.5),)), tmp_path)
    for kl in (1.0, 2.0, 1.5):
        key, _ = ledger.ask()
        ledger.record(key).finish({"metrics": {"val/mse": [0.1], "val/kl": [kl]}})
        ledger.tell(key, Outcome("COMPLETE", (0.1,)))
    assert list(ledger.rivals()) == [0, 2]
    ledger.close()


def test_a_study_says_what_it_was_made_of(tmp_path):
    ledger = Ledger.open(make(space=smooth, forked_from="earlier"), tmp_path)
    info = ledger.describe()
    ledger.close()
    assert info["forked_from"] == "earlier"
    assert info["packages"]["torch"].startswith("2.")
    assert {"python", "ray", "optuna", "mlflow"} <= set(info["packages"])
