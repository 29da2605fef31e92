"""What a study survives: workers that die, hang or eat all memory, and a search that breaks, with a real Ray."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import optuna
import psutil
import pytest
from helpers.faults import study, table
from helpers.searching import search
from helpers.small import TINY
from helpers.stores import new_store
from mlflow import MlflowClient

from aesearch import ASHA, Minimize, Sprites, Study, TrainConfig
from aesearch.errors import UserError
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE
from aesearch.search.cluster import Where
from aesearch.search.driver import Ended, run_study
from aesearch.search.handover import Handover
from aesearch.search.ledger import Ledger
from aesearch.search.searcher import MOST_ATTEMPTS, QueueSearcher
from aesearch.search.values import Progress
from aesearch.tracking import Tracker, read_study


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_root):
    """The tables of an uninterrupted search without faults and without Ray."""
    ledger, uri = search(study("whole"), tmp_path_factory.mktemp("whole"), data_root)
    assert ledger.counts() == {"COMPLETE": 3}
    return table(uri, "whole")


@pytest.mark.usefixtures("local_ray")
def test_a_trial_of_a_killed_worker_goes_on_from_checkpoint(in_tmp, data_root, whole):
    ledger, uri = search(study("killed", "die", str(in_tmp / "died")), in_tmp / "killed", data_root, by_ray=True)
    assert (in_tmp / "died").exists()
    assert ledger.counts() == {"COMPLETE": 3}
    assert [trial.state.name for trial in ledger.table.trials()] == ["COMPLETE"] * 3
    for one, expected in zip(table(uri, "killed"), whole, strict=True):
        assert one.to_csv() == expected.to_csv()
    key = next(key for key, trial in ledger.trials().items() if trial.params["beta"] == 2.0)
    (remark,) = ledger.record(key).remarks()
    assert remark == "its process ended; another one goes on after epoch 4"


def killed_once(marker: str) -> None:
    """End this process, the first time that it is asked for by this ``marker``."""
    if marker and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Deadly(Sprites):
    """Kills the process that loads it, once."""

    marker: str = ""

    def load(self, root):
        killed_once(self.marker)
        return super().load(root)


@dataclass(frozen=True)
class Fatal(BetaVAE):
    """Has its process killed once at each of the ``places``: what it is about to hand over.

    Before the third manifest the weights that it belongs to are moved to the checkpoints, as where the keeper is killed
    between the two. At the fifth checkpoint lines of the history are lost, as where power fails.
    """

    folder: str = ""
    places: tuple[str, ...] = ()

    def regulariser(self, output, target, step):
        own = getattr(Handover._tell, "own", Handover._tell)

        def tell(handover, method, *arguments):
            name = "result.json" if method == "finish" else str(arguments[0])
            if name in self.places and not (Path(self.folder) / name).exists():
                if name != "result.json":
                    [record] = [path.parent for path in Path(self.folder).glob("anywhere/home/*/trials/*/incoming")]
                if name == "epoch-000003.json":
                    weights = record / "incoming" / "epoch-000003.safetensors"
                    weights.rename(record / "checkpoints" / weights.name)
                if name == "epoch-000005.safetensors":
                    history = record / "history.jsonl"
                    history.write_text("".join(history.read_text().splitlines(keepends=True)[:3]))
                killed_once(f"{self.folder}/{name}")
            return own(handover, method, *arguments)

        # Another trial of this process may have left its own.
        tell.own = own
        Handover._tell = tell
        return super().regulariser(output, target, step)


@pytest.mark.usefixtures("local_ray")
def test_a_worker_may_be_killed_at_any_place(in_tmp, data_root, whole):
    """While it loads data, before a checkpoint, between its weights and its manifest, before the result is there."""
    places = {2.0: ("epoch-000003.json", "epoch-000005.safetensors"), 4.0: ("result.json",)}

    def space(trial: optuna.Trial) -> TrainConfig:
        beta = trial.suggest_categorical("beta", [1.0, 2.0, 4.0])
        data = Deadly(**vars(TINY), marker=str(in_tmp / "loading")) if beta == 1.0 else TINY
        objective = Fatal(beta, folder=str(in_tmp), places=places.get(beta, ()))
        return TrainConfig(data, MLP((16,)), latent_dim=3, objective=objective, replicas=2, epochs=8)

    options = {"sampler": "grid", "checkpoint_seconds": 0, "max_concurrent": 1}
    ledger, uri = search(
        Study("anywhere", space, Minimize("val/mse"), **options), in_tmp / "anywhere", data_root, by_ray=True
    )
    died = {path.name for path in in_tmp.iterdir() if path.is_file()}
    assert died == {"loading", "epoch-000003.json", "epoch-000005.safetensors", "result.json"}
    assert ledger.counts() == {"COMPLETE": 3}
    for one, expected in zip(table(uri, "anywhere"), whole, strict=True):
        assert one.to_csv() == expected.to_csv()
    records = {trial.params["beta"]: ledger.record(key) for key, trial in ledger.trials().items()}
    remarks = {beta: one.remarks() for beta, one in records.items()}
    went_on = "its process ended; another one goes on after epoch"
    assert remarks[1.0] == [f"{went_on} 0"]
    assert [line for line in remarks[2.0] if line.startswith("its process")] == [f"{went_on} 2", f"{went_on} 3"]
    passed = [line for line in remarks[2.0] if not line.startswith("its process")]
    assert passed[0].startswith("the checkpoint epoch-000003.safetensors is skipped: ")
    assert passed[1] == "the checkpoint epoch-000004.safetensors is skipped: the metrics of only 3 epochs are known"
    assert {beta: one.read("worker.json")["attempts"] for beta, one in records.items()} == {1.0: 2, 2.0: 3, 4.0: 2}


@pytest.mark.usefixtures("local_ray")
def test_a_worker_killed_between_two_trials_costs_neither(in_tmp, data_root, whole):
    """Tune gives a trial to a worker that is dead by then, and calls that a failure of the trial."""
    uri = f"sqlite:///{in_tmp}/mlflow.db"
    ledger = Ledger.open(study("between"), in_tmp / "home")
    tracker = Tracker(uri, ledger.describe(), ledger.folder / "trials")
    tracker.open()
    killed = []

    def changed(key: int) -> None:
        tracker.notify(key)
        if len(killed) < 2 and key == len(killed) and ledger.record(key).read("state.json"):
            killed.append(ledger.record(key).read("worker.json")["pid"])
            assert psutil.Process(killed[-1]).nice() == psutil.Process().nice(), "it has the priority of its driver"
            os.kill(killed[-1], signal.SIGKILL)
            psutil.wait_procs([psutil.Process(killed[-1])] if psutil.pid_exists(killed[-1]) else [], timeout=10)

    run_study(ledger, Where(None, data_root), changed, lambda shares: None)
    tracker.close("FINISHED")
    ledger.close()
    assert len(set(killed)) == 2
    assert ledger.counts() == {"COMPLETE": 3}
    states = Counter(trial.state.name for trial in ledger.table.trials())
    assert states["COMPLETE"] == 3
    assert states["RUNNING"] + states["WAITING"] == 0
    for one, expected in zip(table(uri, "between"), whole, strict=True):
        assert one.to_csv() == expected.to_csv()


@pytest.mark.usefixtures("local_ray")
def test_a_trial_that_kills_workers_fails_and_others_go_on(in_tmp, data_root):
    ledger, uri = search(study("deadly", "die"), in_tmp, data_root, by_ray=True)
    trials, _ = table(uri, "deadly")
    assert trials["state"].to_dict() == {1.0: "COMPLETE", 2.0: "FAIL", 4.0: "COMPLETE"}
    assert trials.loc[2.0, "reason"] == "the worker process of the trial ended, killed or out of memory"
    attempts = {
        trial.params["beta"]: ledger.record(key).read("worker.json")["attempts"]
        for key, trial in ledger.trials().items()
    }
    assert attempts == {1.0: 1, 2.0: MOST_ATTEMPTS, 4.0: 1}
    assert "RUNNING" not in {trial.state.name for trial in ledger.table.trials()}


@dataclass(frozen=True)
class Poisoned(BetaVAE):
    """Has a regulariser of ``value`` in some of the epochs, in training or where val is measured."""

    seen: bool = True
    epochs: tuple[int, ...] = ()
    value: float = 0.0

    def regulariser(self, output, target, step):
        training = output.logits.requires_grad
        if training:
            # Where val is measured, the progress is that of the end.
            Poisoned.epoch = 1 + int(4 * float(step.progress) + 1e-3)
        whole = super().regulariser(output, target, step)
        return whole + self.value if training == self.seen and Poisoned.epoch in self.epochs else whole


NAN, INF = float("nan"), float("inf")
# "dips" comes first: a loss of -inf must not stop those that come after.
POISONS = {
    "dips": (False, (1, 2), -INF),
    "well": (True, (), 0.0),
    "first": (True, (1,), NAN),
    "middle": (True, (3,), INF),
    "last": (True, (4,), NAN),
    "never": (False, (1, 2, 3, 4), NAN),
    "ends": (False, (4,), -INF),
}


def test_values_that_are_not_finite_fail_their_trial_alone(in_tmp, data_root):
    """Oracle: a trial that only was measured badly on the way comes to the same as one that was not."""

    def space(trial: optuna.Trial) -> TrainConfig:
        objective = Poisoned(1.0, "bernoulli", *POISONS[trial.suggest_categorical("poison", list(POISONS))])
        return TrainConfig(TINY, MLP((16,)), latent_dim=3, objective=objective, replicas=1, epochs=4)

    options = {"sampler": "grid", "early_stopping": ASHA(1, 2), "max_concurrent": 1}
    ledger, uri = search(Study("poisoned", space, Minimize("val/loss"), **options), in_tmp, data_root)
    trials = read_study(uri, "poisoned").trials.set_index("param:poison")
    diverged = "NonFiniteLossError: the training loss of replica 0 is nan in epoch"
    assert trials["reason"].to_dict() == {
        "dips": "",
        "well": "",
        "first": f"{diverged} 1",
        "middle": f"{diverged.replace('nan', 'inf')} 3",
        "last": f"{diverged} 4",
        "never": "NonFiniteLossError: the val loss of replica 0 was not finite after any epoch",
        "ends": "the searched metrics must be finite, but got [-inf]",
    }
    assert trials["epochs"].to_dict() == dict(zip(POISONS, (4, 4, 0, 2, 3, 3, 4), strict=True))
    states = {trial.params["poison"]: trial.state.name for trial in ledger.table.trials()}
    assert states == trials["state"].to_dict()
    assert states == {kind: "FAIL" if reason else "COMPLETE" for kind, reason in trials["reason"].items()}
    assert ledger.best() == {"val/loss": trials.loc["well", "val/loss"]}
    same = [name for name in trials if "/" in name and "train" not in name]
    assert trials.loc["dips", same].equals(trials.loc["well", same])


@pytest.mark.usefixtures("local_ray")
def test_a_trial_that_hangs_fails_and_the_study_goes_on(in_tmp, data_root):
    started = time.monotonic()
    ledger, uri = search(study("hung", "hang", epoch_seconds=10.0), in_tmp, data_root, by_ray=True)
    assert time.monotonic() - started < 60
    trials, _ = table(uri, "hung")
    assert trials["state"].to_dict() == {1.0: "COMPLETE", 2.0: "FAIL", 4.0: "COMPLETE"}
    assert trials.loc[2.0, "reason"] == "hung: no epoch ended within 10 s"
    assert trials.loc[2.0, "epochs"] == 4, "those before are kept"
    key = next(key for key, trial in ledger.trials().items() if trial.params["beta"] == 2.0)
    assert "in hang" in ledger.record(key).read("failure.json")["traceback"]


@pytest.mark.usefixtures("local_ray")
def test_a_broken_search_is_begun_again_for_what_is_missing(in_tmp, data_root, whole, monkeypatch):
    """Tune's controller ends with whatever its searcher raises, as it does when Ray ends a worker for its memory."""
    sound = QueueSearcher.on_trial_result
    broken = []

    def breaking(self, trial_id, result):
        told = result["told"]
        if isinstance(told, Progress) and told.epoch == 3 and len(broken) < 2:
            broken.append(self.live[trial_id].place.key)
            raise RuntimeError("injected")
        sound(self, trial_id, result)

    monkeypatch.setattr(QueueSearcher, "on_trial_result", breaking)
    ledger, uri = search(study("broken"), in_tmp / "broken", data_root, by_ray=True)
    assert len(broken) == 2
    assert ledger.counts() == {"COMPLETE": 3}
    for one, expected in zip(table(uri, "broken"), whole, strict=True):
        assert one.to_csv() == expected.to_csv()


@pytest.mark.usefixtures("local_ray")
def test_a_trial_that_breaks_searches_fails_others_go_on(in_tmp, data_root, monkeypatch):
    sound = QueueSearcher.on_trial_result

    def breaking(self, trial_id, result):
        if self.queue.ledger.trials()[self.live[trial_id].place.key].params["beta"] == 2.0:
            raise RuntimeError("injected")
        sound(self, trial_id, result)

    monkeypatch.setattr(QueueSearcher, "on_trial_result", breaking)
    _, uri = search(study("breaking"), in_tmp, data_root, by_ray=True)
    trials, _ = table(uri, "breaking")
    assert trials["state"].to_dict() == {1.0: "COMPLETE", 2.0: "FAIL", 4.0: "COMPLETE"}
    assert "injected" in trials.loc[2.0, "reason"]


HUNGRY = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import ray
from helpers.faults import study, table
from helpers.searching import search
from aesearch.search.cluster import start_local

start_local(num_cpus=2, log_to_driver=False)
ledger, uri = search(study("hungry", "hunger"), Path.cwd(), Path({data!r}), by_ray=True)
trials, _ = table(uri, "hungry")
print(trials["state"].to_dict())
print(trials.loc[2.0, "reason"])
print({{trial.state.name for trial in ledger.table.trials()}})
ray.shutdown()
"""


@pytest.mark.slow
def test_a_trial_that_takes_all_memory_fails_others_go_on(in_tmp, data_root):
    """Ray's memory monitor is told to act 4 GiB above what the machine uses now."""
    memory = psutil.virtual_memory()
    threshold = (memory.total - memory.available + 4 * 2**30) / memory.total
    if threshold > 0.95:
        pytest.skip("the machine has no 4 GiB to spare")
    environment = os.environ | {
        "RAY_memory_usage_threshold": f"{threshold:.4f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    environment.pop("RAY_ADDRESS", None)
    script = HUNGRY.format(tests=str(Path(__file__).parents[1]), data=str(data_root))
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    states, reason, optuna_states = done.stdout.splitlines()[-3:]
    assert states == "{1.0: 'COMPLETE', 2.0: 'FAIL', 4.0: 'COMPLETE'}"
    assert re.fullmatch(
        r"out of memory: Ray ended its process, which used \S+GB, when \S+GB of \S+GB were in use", reason
    )
    assert "RUNNING" not in optuna_states


def test_failed_trials_are_tried_again_in_their_own_runs(in_tmp, data_root, whole):
    once = study("retried", "blow", str(in_tmp / "blown"))
    ledger, uri = search(once, in_tmp, data_root)
    assert ledger.counts() == {"COMPLETE": 2, "FAIL": 1}
    before = read_study(uri, "retried")
    again, _ = search(once, in_tmp, data_root, retry=True)
    assert again.counts() == {"COMPLETE": 3}
    after = read_study(uri, "retried")
    assert after.trials["state"].tolist() == ["COMPLETE"] * 3
    assert after.runs == before.runs
    for one, expected in zip(table(uri, "retried"), whole, strict=True):
        assert one.to_csv() == expected.to_csv()
    key = next(key for key, trial in again.trials().items() if trial.params["beta"] == 2.0)
    points = MlflowClient(uri).get_metric_history(after.runs[key], "val/mse")
    assert [point.step for point in points] == list(range(1, 9))
    assert MlflowClient(uri).get_run(after.runs[key]).data.tags["aesearch.state"] == "COMPLETE"


@pytest.mark.usefixtures("local_ray")
def test_a_keeper_that_is_killed_costs_nothing(in_tmp, data_root, whole):
    """Ray starts it anew and sends again what it had not answered; the worker only waits."""
    uri = new_store(in_tmp / "mlflow.db")
    ledger = Ledger.open(study("keeper"), in_tmp / "home")
    tracker = Tracker(uri, ledger.describe(), ledger.folder / "trials")
    tracker.open()
    killed = []

    def changed(key: int) -> None:
        tracker.notify(key)
        if len(killed) == key and len(ledger.record(key).history()) >= 3 and key < 2:
            below = psutil.Process().children(recursive=True)
            [keeper] = [process for process in below if "ray::Keeper" in " ".join(process.cmdline())]
            killed.append(keeper.pid)
            keeper.kill()

    assert run_study(ledger, Where(None, data_root), changed, lambda shares: None) is Ended.FINISHED
    tracker.close("FINISHED")
    ledger.close()
    assert len(set(killed)) == 2
    assert ledger.counts() == {"COMPLETE": 3}
    assert [ledger.record(key).read("worker.json")["attempts"] for key in range(3)] == [1, 1, 1]
    for one, expected in zip(table(uri, "keeper"), whole, strict=True):
        assert one.to_csv() == expected.to_csv()


@pytest.mark.usefixtures("local_ray")
def test_a_home_moved_while_its_study_runs_loses_nothing(in_tmp, data_root, whole, monkeypatch):
    home, away, report = in_tmp / "home", in_tmp / "away", Ledger.report

    def moving(self: Ledger, key: int, value: float, epoch: int) -> None:
        report(self, key, value, epoch)
        if key == 1 and epoch == 3:
            home.rename(away)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "report", moving)
        with pytest.raises(UserError, match=f"{home}/moved was moved or removed; put it back, or name its new place"):
            search(study("moved"), in_tmp, data_root)
    # As the end of its driver's process would.
    (away / "moved" / "lock").unlink()
    away.rename(home)
    ledger, uri = search(study("moved"), in_tmp, data_root)
    assert ledger.counts() == {"COMPLETE": 3}
    for one, expected in zip(table(uri, "moved"), whole, strict=True):
        assert one.to_csv() == expected.to_csv()
