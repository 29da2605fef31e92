"""What a call may use: how it is written, and what happens when it is used up."""

import signal
import time

import pytest
from helpers.small import TINY, make, smooth
from helpers.stores import new_store

from aesearch import Minimize, Study, TrainConfig
from aesearch.discarding import is_discarded
from aesearch.networks import MLP
from aesearch.objectives import VAE
from aesearch.search.budgets import Budget, duration, size
from aesearch.search.cluster import Where
from aesearch.search.driver import Ended, run_study
from aesearch.search.kept_models import KeptModels
from aesearch.search.ledger import Ledger
from aesearch.search.values import Outcome
from aesearch.tracking import Tracker, read_study


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("1.5d", 129600), ("1m30s", 90)]
)
def test_times(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 h", "2h30", "-1h", "0s", "2hours"])
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match=f"must be a time.* but got '{text}'"):
        duration(text)


@pytest.mark.parametrize(("text", "count"), [("20GB", 20 * 10**9), ("500MiB", 500 * 2**20), ("1.5TB", 15 * 10**11)])
def test_sizes(text, count):
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "20", "20gb", "GB", "0MB", "-1GB", "1 GB"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match=f"must be a size .* but got '{text}'"):
        size(text)


def test_time_that_is_used_up_interrupts(monkeypatch):
    budget = Budget(seconds=0.2)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), budget.running():
        time.sleep(20)
    assert 0.15 < time.monotonic() - started < 5
    assert budget.reached == "time"


def test_time_that_is_not_used_up_does_nothing():
    budget = Budget(seconds=0.3)
    with budget.running():
        pass
    time.sleep(0.5)
    assert budget.reached == ""


def test_disk_counts_models_twice_and_what_was_removed_no_more(tmp_path):
    before, seen = signal.getsignal(signal.SIGINT), []
    budget = Budget(bytes=1000)
    for key in range(3):
        (tmp_path / str(key) / "artifacts").mkdir(parents=True)
        (tmp_path / str(key) / "history").write_bytes(b"x" * 100)
        (tmp_path / str(key) / "artifacts" / "model").write_bytes(b"x" * 200)
    budget.ended(tmp_path / "0", [])
    assert sum(budget.used.values()) == 500
    (tmp_path / "0" / "artifacts" / "model").unlink()
    budget.ended(tmp_path / "1", [tmp_path / "0"])
    assert sum(budget.used.values()) == 600
    signal.signal(signal.SIGINT, lambda *_: seen.append(budget.reached))
    budget.ended(tmp_path / "2", [])
    signal.signal(signal.SIGINT, before)
    assert seen == ["disk"]
    budget.ended(tmp_path / "2", [])


def narrow(trial):
    return TrainConfig(
        TINY, MLP((16,)), 3, VAE(), replicas=1, epochs=1, learning_rate=trial.suggest_float("r", 1e-4, 1e-2)
    )


@pytest.mark.usefixtures("local_ray")
def test_a_study_stops_at_its_disk_budget_and_goes_on_with_more(in_tmp, data_root):
    study = Study("small", narrow, Minimize("val/mse"), n_trials=6, max_concurrent=1)
    uri = new_store(in_tmp / "mlflow.db")

    def search(budget):
        ledger = Ledger.open(study, in_tmp)
        tracker = Tracker(uri, ledger.describe(), ledger.folder / "trials")
        tracker.open()
        try:
            ended = run_study(ledger, Where("local", data_root), tracker.notify, lambda *_: None, budget)
        finally:
            tracker.close("KILLED")
            ledger.close()
        return ledger, ended

    budget = Budget(bytes=1)
    assert search(budget)[1] is Ended.INTERRUPTED
    assert budget.reached == "disk"
    states = read_study(uri, "small").trials["state"].tolist()
    assert 1 <= len(states) < 6
    assert set(states) == {"COMPLETE"}
    ledger, ended = search(Budget(bytes=10**9))
    assert ended is Ended.FINISHED
    assert ledger.counts() == {"COMPLETE": 6}


def finished(home, values, **fields):
    """A study with complete trials of these values, one metric or two, each with a model."""
    metrics = Minimize("val/mse") if isinstance(values[0], float) else (Minimize("val/mse"), Minimize("val/kl"))
    ledger = Ledger.open(make(space=smooth, metrics=metrics, n_trials=len(values), **fields), home)
    removed, models = [], KeptModels(ledger)
    for value in values:
        key, _ = ledger.ask()
        of_trial = [value] if isinstance(value, float) else list(value)
        ledger.record(key).finish({"metrics": {n: [v] for n, v in zip(ledger.searched, of_trial, strict=True)}})
        for name in ("model.safetensors", "reference.safetensors", "traversals.png"):
            (ledger.record(key).artifacts / name).write_bytes(b"...")
        ledger.tell(key, Outcome("COMPLETE", tuple(of_trial)))
        removed += models.discard()
    return ledger, removed


def test_models_of_the_best_and_of_the_front_are_kept(tmp_path):
    ledger, removed = finished(tmp_path, [3.0, 1.0, 2.0, 4.0, 0.5], keep=2)
    assert removed == [0, 3, 2], "each as soon as two are better"
    for key in range(5):
        there = {path.name for path in ledger.record(key).artifacts.iterdir()}
        expected = {"discarded.txt"} if key in removed else {"model.safetensors", "reference.safetensors"}
        assert there == {"traversals.png"} | expected
        assert is_discarded(ledger.record(key).artifacts) == (key in removed)
    assert KeptModels(ledger).discard() == []
    ledger.close()


def test_all_of_a_front_is_kept(tmp_path):
    values = [(0.0, 9.0), (9.0, 0.0), (4.0, 4.0), (5.0, 5.0), (1.0, 9.5), (4.0, 4.0)]
    ledger, removed = finished(tmp_path, values, keep=1)
    assert removed == [3, 4]
    ledger.close()


def test_nothing_is_removed_where_all_is_wanted(tmp_path):
    from aesearch.scores import UDR

    for number, fields in enumerate([{"keep": None}, {"keep": 1, "comparisons": (UDR(),)}]):
        ledger, removed = finished(tmp_path / str(number), [3.0, 1.0, 2.0], **fields)
        assert removed == []
        ledger.close()


def test_a_model_that_was_not_kept_says_why(tmp_path):
    from aesearch.errors import UserError
    from aesearch.model import load_model

    ledger, _ = finished(tmp_path, [3.0, 1.0], keep=1)
    with pytest.raises(UserError, match=r"the model in .* was not kept: the trial was neither on the front"):
        load_model(ledger.record(0).artifacts)
    ledger.close()
