"""The whole way of a study, with a real Ray, a real ledger and a real MLflow store."""

import csv
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import optuna
import pytest
from helpers.searching import search
from helpers.small import TINY
from helpers.tracked import five_hours_ago
from mlflow import MlflowClient

from aesearch import ASHA, Hyperband, Maximize, Median, Minimize, Pareto, Plateau, Sprites, Study, TrainConfig
from aesearch.errors import UserError
from aesearch.model import load_model
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE, Linear, Reconstruction
from aesearch.records.results import Results
from aesearch.report import best_trial, write_report
from aesearch.report.analysis import analyse
from aesearch.search import cluster
from aesearch.search.ledger import Ledger
from aesearch.search.searcher import JudgedScheduler
from aesearch.tracking import read_study, send_all


def space(trial: optuna.Trial) -> TrainConfig:
    beta = trial.suggest_float("beta", 0.5, 8.0, log=True)
    return TrainConfig(data=TINY, network=MLP((16,)), latent_dim=3, objective=BetaVAE(beta), replicas=2, epochs=2)


def failing(trial: optuna.Trial) -> TrainConfig:
    """A trial diverges, one raises in the worker, one in the space of the real study, one is well."""
    kind = trial.suggest_categorical("kind", ["diverge", "raise", "space", "well"])
    if kind == "space" and trial.study.study_name == "failing":
        raise ValueError("no such space")
    network = Exploding() if kind == "raise" else MLP((16,))
    rate = 1e9 if kind == "diverge" else 1e-3
    objective = Reconstruction("gaussian")
    return TrainConfig(TINY, network, 3, objective, replicas=2, epochs=2, learning_rate=rate)


class Exploding(MLP):
    """A network that fails where it is built: only in the worker."""

    def encoder(self, shape, outputs):
        raise RuntimeError("no such layer")


TWO = Study("two", space, (Minimize("val/mse"), Maximize("val/mig")), n_trials=3, max_concurrent=1)


@dataclass
class Searched:
    """What the study TWO left in ``folder``, read before any test adds to it."""

    folder: Path
    uri: str
    ledger: Ledger
    trials: dict[int, optuna.trial.FrozenTrial]
    results: Results


@pytest.fixture(scope="module")
def two(local_ray, tmp_path_factory, data_root) -> Searched:
    folder = tmp_path_factory.mktemp("two")
    ledger, uri = search(TWO, folder, data_root, by_ray=True)
    assert ledger.counts() == {"COMPLETE": 3}
    return Searched(folder, uri, ledger, ledger.trials(), read_study(uri, "two"))


def test_a_study_is_searched_tracked_and_leaves_its_models(two):
    results = two.results
    for key, trial in two.trials.items():
        row = results.trials.set_index("trial").loc[key]
        assert trial.values == [row["val/mse"], row["val/mig"]]
        assert row["param:beta"] == trial.params["beta"]
        loaded = load_model(results.pictures[key], replica=1)
        model, config = loaded.network, loaded.config
        assert config.objective.beta == trial.params["beta"]
        assert model.decoder[0].in_features == 3
        assert (results.pictures[key] / "reconstructions.png").stat().st_size > 500
        assert (results.pictures[key] / "traversals.png").stat().st_size > 500
    assert len(results.history) == 3 * 2 * 2


def test_the_same_study_does_nothing_and_more_trials_extend(two, data_root):
    again, _ = search(TWO, two.folder, data_root)
    assert len(again.table.trials()) == 3
    more, _ = search(replace(TWO, n_trials=4), two.folder, data_root)
    assert more.counts() == {"COMPLETE": 4}
    client = MlflowClient(two.uri)
    experiment = client.get_experiment_by_name("two")
    assert len(client.search_runs([experiment.experiment_id])) == 5


def test_failures_are_recorded_and_the_study_goes_on(in_tmp, data_root):
    study = Study("failing", failing, Minimize("val/mse"), sampler="grid")
    ledger, uri = search(study, in_tmp, data_root)
    assert ledger.counts() == {"COMPLETE": 1, "FAIL": 3}
    reasons = "; ".join(ledger.failures())
    assert "NonFiniteLossError: the training loss of replica" in reasons
    assert "RuntimeError: no such layer" in reasons
    assert "ValueError: no such space" in reasons
    trials = read_study(uri, "failing").trials.set_index("param:kind")
    assert trials["state"].to_dict() == {"diverge": "FAIL", "raise": "FAIL", "space": "FAIL", "well": "COMPLETE"}
    assert trials.loc["raise", "reason"] == "RuntimeError: no such layer"
    states = {trial.params["kind"]: trial.state.name for trial in ledger.trials().values()}
    assert states == trials["state"].to_dict()


@pytest.mark.usefixtures("local_ray")
def test_an_early_stop_is_pruned_with_intermediate_values(in_tmp, data_root):
    def rates(trial):
        rate = trial.suggest_categorical("rate", [1e-2, 1e-3, 1e-4, 1e-5])
        return TrainConfig(TINY, MLP((16,)), 3, Reconstruction(), replicas=1, epochs=6, learning_rate=rate)

    study = Study("pruned", rates, Minimize("val/mse"), sampler="grid", early_stopping=ASHA(1, 2), max_concurrent=1)
    ledger, uri = search(study, in_tmp, data_root, by_ray=True)
    trials = {trial.params["rate"]: trial for trial in ledger.trials().values()}
    # The best rate comes first, so nothing that follows can pass its first rung.
    assert trials[1e-2].state.name == "COMPLETE"
    assert trials[1e-2].intermediate_values.keys() == {1, 2, 3, 4, 5}
    for rate in (1e-3, 1e-4, 1e-5):
        assert trials[rate].state.name == "PRUNED"
        assert trials[rate].intermediate_values.keys() == {1}
    rows = read_study(uri, "pruned").trials.set_index("param:rate")
    assert rows.loc[1e-5, "state"] == "PRUNED"
    assert rows.loc[1e-5, "epochs"] == 1
    assert rows.loc[1e-5, "val/mse"] == trials[1e-5].intermediate_values[1]
    assert rows.loc[1e-2, "epochs"] == 6


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("fields", [{"cpus": 64}, {"gpus": 1}])
def test_a_trial_that_no_machine_could_hold_is_refused(in_tmp, data_root, fields):
    with pytest.raises(UserError, match=r"does not fit on the machine: it needs .* of 2 CPUs and 0 GPUs"):
        search(Study("large", space, Minimize("val/mse"), n_trials=1, **fields), in_tmp, data_root, by_ray=True)


def test_one_trial_at_a_time_repeats_exactly_also_without_ray(two, in_tmp, data_root):
    _, uri = search(TWO, in_tmp, data_root)
    tables = [results.trials for results in (two.results, read_study(uri, "two"))]
    tables = [table.drop(columns=[c for c in table if "seconds" in c]) for table in tables]
    assert tables[0].to_csv() == tables[1].to_csv()


@dataclass(frozen=True)
class Late(Sprites):
    """In a process that loads it, once the ``marker`` is there, the clock is five hours late."""

    marker: str = ""

    def load(self, root):
        if Path(self.marker).exists():
            now = time.time
            time.time = lambda: now() - 5 * 3600
        return super().load(root)


class Behind(datetime):
    """Five hours late."""

    @classmethod
    def now(cls, tz=None):
        return super().now(tz) - timedelta(hours=5)


@pytest.mark.usefixtures("local_ray")
def test_a_clock_that_goes_back_changes_nothing(two, in_tmp, data_root, monkeypatch):
    """Neither the machine's nor the time zone's; the oracle is the same study in one session."""
    marker = in_tmp / "back"

    def same(trial: optuna.Trial) -> TrainConfig:
        return replace(space(trial), data=Late(**vars(TINY), marker=str(marker)))

    study = replace(TWO, space=same)
    search(replace(study, n_trials=2), in_tmp, data_root)
    marker.touch()
    try:
        with monkeypatch.context() as late:
            five_hours_ago(late)
            late.setattr("optuna.storages._rdb.storage.datetime", Behind)
            late.setattr("optuna.storages._in_memory.datetime", Behind)
            late.setenv("TZ", "UTC+5")
            time.tzset()
            ledger, uri = search(study, in_tmp, data_root, by_ray=True)
            results, ahead = read_study(uri, "two"), search(study, in_tmp, data_root)[0]
    finally:
        time.tzset()
    first, _, last = ledger.table.trials()
    assert last.datetime_start < first.datetime_start, "Optuna's clock did go back"
    times = [ledger.record(key).history()[-1]["time_ms"] for key in range(3)]
    assert times[2] < times[0], "and the worker's"
    assert ledger.counts() == ahead.counts() == {"COMPLETE": 3}
    tables = [[one.trials, one.replicas, one.history] for one in (results, two.results)]
    for found, expected in zip(*tables, strict=True):
        kept = [column for column in expected if "seconds" not in column]
        assert found[kept].to_csv() == expected[kept].to_csv()
    page = write_report(results, in_tmp / "report")
    with (page.parent / "trials.csv").open() as file:
        assert [row["trial"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    elsewhere = f"sqlite:///{in_tmp}/elsewhere.db"
    assert send_all(elsewhere, ledger.describe(), ledger.folder / "trials").trials == 3
    assert read_study(elsewhere, "two").trials.to_csv() == results.trials.to_csv()
    assert send_all(uri, ledger.describe(), ledger.folder / "trials").points == 0, "nothing is missing"


@pytest.mark.usefixtures("local_ray")
def test_a_study_file_that_workers_cannot_import_still_runs(in_tmp, data_root):
    from aesearch import load_study

    (in_tmp / "mine.py").write_text(
        '"""Mine?"""\n'
        "from dataclasses import dataclass\n"
        "from aesearch import Minimize, Sprites, Study, TrainConfig\n"
        "from aesearch.networks import MLP\n"
        "from aesearch.objectives import Objective\n"
        "@dataclass(frozen=True)\n"
        "class Shrunk(Objective):\n"
        "    likelihood: str = 'bernoulli'\n"
        "    variational = False\n"
        "    def check(self):\n"
        "        pass\n"
        "    def regulariser(self, output, target, step):\n"
        "        return output.code.mean.square().sum(1)\n"
        "def space(trial):\n"
        "    data = Sprites(resolution=16, scales=2, orientations=2, positions=8)\n"
        "    return TrainConfig(data, MLP((8,)), trial.suggest_int('n', 2, 3), Shrunk(), replicas=1, epochs=1)\n"
        "study = Study('mine', space, Minimize('val/mse'), n_trials=2)\n"
    )
    study = load_study(in_tmp / "mine.py")
    ledger, _ = search(study, in_tmp, data_root, by_ray=True)
    assert ledger.counts() == {"COMPLETE": 2}
    folder = ledger.record(0).artifacts
    with pytest.raises(UserError, match="type 'Shrunk' of a saved configuration is not one of aesearch's own types"):
        load_model(folder)
    config = study.config(ledger.trials()[0])
    assert load_model(folder, config=config).network.decoder[0].in_features == config.latent_dim


def test_the_reports_tables_have_the_columns_that_are_promised(two, in_tmp):
    from aesearch.report import write_report

    page = write_report(two.results, in_tmp / "reports" / "two")
    with (page.parent / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0])
    assert columns[:5] == ["trial", "state", "epochs", "seconds", "beta"]
    assert {"val/mse", "val/mse_min", "val/mse_max", "test/mig", "test/mig_max"} <= set(columns)
    assert [row["state"] for row in rows] == ["COMPLETE"] * 3
    with (page.parent / "replicas.csv").open() as file:
        assert [(row["trial"], row["replica"]) for row in csv.DictReader(file)] == [
            ("0", "0"),
            ("0", "1"),
            ("1", "0"),
            ("1", "1"),
            ("2", "0"),
            ("2", "1"),
        ]


def test_two_metrics_stop_dominated_trials_and_no_others(in_tmp, data_root):
    def rates(trial):
        rate = trial.suggest_categorical("rate", [1e-2, 3e-3, 1e-5, 3e-6])
        return TrainConfig(TINY, MLP((16,)), 3, BetaVAE(1.0), replicas=1, epochs=6, learning_rate=rate)

    # Both metrics are better where more is learned, so the slow ones are dominated.
    metrics = (Minimize("val/mse"), Maximize("val/elbo"))
    study = Study("pareto", rates, metrics, sampler="grid", early_stopping=Pareto(1, 2), max_concurrent=1)
    ledger, uri = search(study, in_tmp, data_root)
    trials = {trial.params["rate"]: trial for trial in ledger.trials().values()}
    assert trials[1e-2].state.name == "COMPLETE"
    rows = read_study(uri, "pareto").trials.set_index("param:rate")
    for rate in (1e-5, 3e-6):
        assert trials[rate].state.name == "PRUNED"
        assert rows.loc[rate, "state"] == "PRUNED"
        assert rows.loc[rate, "epochs"] == 1
        key = trials[rate].user_attrs["key"]
        assert not ledger.record(key).read("failure.json"), "Tune ends a trial by SystemExit"
        kept = trials[rate].user_attrs["intermediate_values"]["1"]
        assert kept == [rows.loc[rate, "val/mse"], rows.loc[rate, "val/elbo"]]
    # Another driver knows what was reached, so the first of its trials can be stopped.
    ledger = Ledger.open(study, in_tmp / "home")
    scheduler = JudgedScheduler(ledger, {}, partial(Pareto(1, 2).judge, 7))
    ledger.close()
    judge = scheduler.judges[()]
    assert len(judge.reached[1]) == 4
    assert judge.stops(9, 1, (1.0, 1e9))


@pytest.mark.parametrize("rule", [Median(1, 1), Hyperband(1, 2)])
def test_rules_of_one_metric_stop_the_slowest(in_tmp, data_root, rule):
    def rates(trial):
        rate = trial.suggest_categorical("rate", [1e-2, 3e-3, 1e-3, 1e-5, 3e-6, 1e-6])
        return TrainConfig(TINY, MLP((16,)), 3, BetaVAE(1.0), replicas=1, epochs=4, learning_rate=rate)

    study = Study("one", rates, Minimize("val/mse"), sampler="grid", early_stopping=rule, max_concurrent=1)
    ledger, uri = search(study, in_tmp, data_root)
    rows = read_study(uri, "one").trials.set_index("param:rate")
    assert rows.loc[1e-2, "state"] == "COMPLETE"
    assert "PRUNED" in set(rows.loc[[1e-5, 3e-6, 1e-6], "state"])
    for _, row in rows.iterrows():
        assert row["epochs"] == (4 if row["state"] == "COMPLETE" else row["epochs"])
        assert row["state"] == "COMPLETE" or row["epochs"] < 4
    assert ledger.counts()["PRUNED"] == (rows["state"] == "PRUNED").sum()


ONE = (Minimize("val/kl"),)
WON = {1: "The best trial on val/kl is {} ", 2: "1 of 2 complete trials are Pareto-optimal on val: {}."}


@pytest.mark.parametrize(
    ("metrics", "rule"), [(ONE, ASHA(1, 3)), ((*ONE, Maximize("val/active_units")), Pareto(1, 3))], ids=["one", "two"]
)
def test_a_stopped_trial_never_wins_by_its_warmup_value(in_tmp, data_root, metrics, rule):
    """The weight of the KL term grows from nothing, and the KL with it: the first epoch's is below all later ones."""

    def rates(trial):
        rate = trial.suggest_categorical("rate", [1e-3, 1.2e-3, 1.3e-3])
        options = {"replicas": 1, "epochs": 8, "learning_rate": rate, "warmup": Linear(1.0)}
        return TrainConfig(TINY, MLP((16,)), 3, BetaVAE(1.0), **options)

    study = Study("warm", rates, metrics, sampler="grid", early_stopping=rule, max_concurrent=1)
    ledger, uri = search(study, in_tmp, data_root)
    results = read_study(uri, "warm")
    rows = results.trials.set_index("trial")
    pruned, complete = rows[rows["state"] == "PRUNED"], rows[rows["state"] == "COMPLETE"]
    assert len(pruned) >= 1
    assert pruned["val/kl"].min() < complete["val/kl"].min(), "an unfinished value that would win"
    assert {t.state.name for key, t in ledger.trials().items() if key in pruned.index} == {"PRUNED"}
    assert (pruned["val/active_units"] == complete["val/active_units"].max()).all(), "with two metrics too"
    best = int(complete["val/kl"].idxmin())
    assert ledger.best()["val/kl"] == complete.loc[best, "val/kl"]
    assert set(ledger.rivals()) == set(complete.index)
    assert best_trial(results) == best_trial(results, "val/kl") == best
    assert analyse(results).front == [best]
    assert set(analyse(results).shown.values()) <= set(complete.index)
    write_report(results, in_tmp / "report")
    text = (in_tmp / "report" / "report.md").read_text()
    assert WON[len(metrics)].format(best) in text


def test_a_trial_on_a_plateau_ends_early_and_is_complete(in_tmp, data_root):
    def rates(trial):
        rate = trial.suggest_categorical("rate", [1e-9, 1e-2])
        return TrainConfig(TINY, MLP((16,)), 3, BetaVAE(1.0), replicas=2, epochs=6, learning_rate=rate)

    rule = Plateau(patience=2, gain=1e-4)
    study = Study("rest", rates, Minimize("val/mse"), sampler="grid", early_stopping=rule, max_concurrent=1)
    _, uri = search(study, in_tmp, data_root)
    rows = read_study(uri, "rest").trials.set_index("param:rate")
    assert rows["state"].tolist() == ["COMPLETE"] * 2
    assert rows["epochs"].to_dict() == {1e-9: 3, 1e-2: 6}
    assert rows["test/mse"].notna().all()


@pytest.mark.usefixtures("local_ray")
def test_ctrl_c_works_again_after_a_search(in_tmp, data_root):
    before = signal.getsignal(signal.SIGINT)
    search(Study("quick", space, Minimize("val/mse"), n_trials=1), in_tmp, data_root, by_ray=True)
    assert signal.getsignal(signal.SIGINT) is before


SHUT_DOWN = """
import gc, sys, threading, time
from pathlib import Path
import ray
from aesearch.search.cluster import Where, connected
from aesearch.study import load_study

shutting_down, collected, ended = threading.Event(), [], threading.Event()

def shut_down(own=ray.shutdown):
    shutting_down.set()
    own()
    shutting_down.clear()

def work():
    while not ended.wait(0.0005):
        cycles = [[] for _ in range(50)]
        for cycle in cycles:
            cycle.append(cycle)

ray.shutdown = shut_down
gc.callbacks.append(lambda phase, _: collected.append(phase) if shutting_down.is_set() else None)
gc.set_threshold(10)
with connected(Where("local", Path()), load_study(Path(sys.argv[1]))):
    threading.Thread(target=work).start()
    kept = [ray.put(1)]
    kept.append(kept)
    del kept
ended.set()
print(len(collected), gc.isenabled())
"""


def test_no_garbage_is_collected_while_ray_shuts_down():
    """A reference of Ray's that another thread collects just then ends the process, with no word of Python's."""
    command = [sys.executable, "-c", SHUT_DOWN, str(Path(__file__).parents[2] / "studies" / "beta_sweep.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["0", "True"]), done.stderr


@pytest.mark.parametrize(
    ("cpus", "most", "threads"), [(4, None, 4), (0.5, None, 1), (4, "2", 2), (2, "8", 2), (4, "3,1", 3), (4, "", 4)]
)
def test_a_trial_computes_on_its_cpus_or_fewer_threads(monkeypatch, cpus, most, threads):
    monkeypatch.delenv("OMP_NUM_THREADS")
    if most is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", most)
    assert cluster.threads(cpus) == threads
