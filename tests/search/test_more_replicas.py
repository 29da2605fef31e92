"""More replicas for trials that could be on the front: with a real Ray, and the real files."""

import json
import math
import os
import signal
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from helpers.searching import search
from helpers.small import TINY

from aesearch import Adaptive, Minimize, Plateau, Study, TrainConfig
from aesearch.discarding import discard
from aesearch.errors import UserError
from aesearch.model import load_model
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE
from aesearch.scores import UDR
from aesearch.search.handover import Handover
from aesearch.search.ledger import Ledger
from aesearch.search.more_replicas import Parts, parts
from aesearch.search.values import Outcome
from aesearch.train import Epoch, train


@dataclass(frozen=True)
class Dying(BetaVAE):
    """Kills its process in the second replica's last epoch, once, and writes down each of its steps."""

    folder: str = ""

    def regulariser(self, output, target, step):
        folder = Path(self.folder)
        if self.folder and output.logits.requires_grad:
            with (folder / "steps.txt").open("a") as file:
                file.write(f"{self.beta} {float(step.progress):.4f}\n")
            steps = (folder / "steps.txt").read_text().splitlines()
            second = sum(line.startswith(f"{self.beta} ") for line in steps) > 300
            if second and float(step.progress) > 0.9 and not (folder / "died").exists():
                (folder / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().regulariser(output, target, step)


@dataclass(frozen=True)
class EndingBeforeItReports(BetaVAE):
    """Counts its steps, and kills its process between each trial's result and its report."""

    folder: str = ""

    def regulariser(self, output, target, step):
        own, folder = Handover._tell, Path(self.folder)

        def tell_and_die(handover, method, *arguments):
            own(handover, method, *arguments)
            if method in ("finish", "join"):
                os.kill(os.getpid(), signal.SIGKILL)

        if output.logits.requires_grad:
            with (folder / "steps.txt").open("a") as file:
                file.write("step\n")
            if own.__name__ == "_tell":
                Handover._tell = tell_and_die
        return super().regulariser(output, target, step)


def study(name: str, replicas, folder: str = "", objective=Dying, **fields) -> Study:
    """Three trials, the last of which learns next to nothing."""

    def space(trial):
        losses = objective(trial.suggest_categorical("beta", [0.5, 4.0, 16.0]), folder=folder)
        return TrainConfig(TINY, MLP((16,)), 3, losses, epochs=20, batch_size=64)

    options = {"replicas": replicas, "sampler": "grid", "checkpoint_seconds": 0, "max_concurrent": 1} | fields
    return Study(name, space, (Minimize("val/mse"), Minimize("val/kl")), **options)


def test_added_replicas_are_those_of_a_larger_trial(in_tmp, data_root):
    rule = Adaptive(1, 3)
    ledger, _ = search(study("adaptive", rule), in_tmp / "adaptive", data_root)
    assert ledger.counts() == {"COMPLETE": 3}
    counts = {key: len(ledger.replicas(key)["val/mse"]) for key in ledger.trials()}
    assert set(counts.values()) <= {1, 2, 3}
    assert max(counts.values()) > 1, "mse and kl trade off, so more than one may be on the front"
    assert parts(ledger) == []
    for key, count in counts.items():
        record = ledger.record(key)
        config = ledger.study.config(ledger.trials()[key])
        *_, last = train(config, config.data.load(data_root), replicas=range(count))
        result = record.read("result.json")
        assert result["metrics"] == {name: list(values) for name, values in last.result.metrics.items()}
        assert result["selected_epochs"] == list(last.result.epochs)
        assert [len(line["metrics"]["val/mse"]) for line in record.history()] == [count] * 20
        assert record.history()[-1]["metrics"]["train/loss"] == list(last.metrics["train/loss"])
        assert not (record.folder / "more").exists() or not list((record.folder / "more").iterdir())
        model = load_model(record.artifacts, replica=count - 1, config=config)
        weights = {name: tensor[count - 1] for name, tensor in last.result.weights.items()}
        for name, tensor in model.network.state_dict().items():
            np.testing.assert_array_equal(tensor.numpy(), weights[name].numpy())
        assert result["pictured_replica"] == int(np.argmin(result["metrics"]["val/loss"]))
        assert json.loads((record.artifacts / "info.json").read_text())["replica"] == result["pictured_replica"]


@pytest.mark.usefixtures("local_ray")
def test_a_part_of_a_killed_worker_comes_to_the_same(in_tmp, data_root):
    whole, _ = search(study("whole", Adaptive(1, 2), str(in_tmp)), in_tmp / "whole", data_root, by_ray=True)
    steps = len((in_tmp / "steps.txt").read_text().splitlines())
    assert (in_tmp / "died").exists()
    (in_tmp / "steps.txt").unlink()
    again, _ = search(study("again", Adaptive(1, 2), str(in_tmp)), in_tmp / "again", data_root)
    once = len((in_tmp / "steps.txt").read_text().splitlines())
    assert once <= steps <= once + 2 * 8, "of two epochs at most the steps are done again"
    for key in again.trials():
        first, second = (ledger.record(key).read("result.json") for ledger in (whole, again))
        assert {**first, "seconds": 0, "time_ms": 0} == {**second, "seconds": 0, "time_ms": 0}
    remarks = [line for key in whole.trials() for line in whole.record(key).remarks()]
    assert len(remarks) == 1
    assert remarks[0].startswith("replicas 1 to 1: its process ended; another one goes on after epoch ")


@pytest.mark.usefixtures("local_ray")
def test_work_done_before_a_worker_is_killed_is_kept(in_tmp, data_root):
    killed = study("killed", Adaptive(1, 2), str(in_tmp), EndingBeforeItReports, n_trials=2)
    ledger, _ = search(killed, in_tmp / "killed", data_root, by_ray=True)
    counts = [len(ledger.replicas(key)["val/mse"]) for key in ledger.trials()]
    assert 2 in counts, "the parts are of interest too"
    assert ledger.counts() == {"COMPLETE": 2}
    steps_of_one = 20 * math.ceil(len(TINY.load(data_root).train) / 64)
    assert len((in_tmp / "steps.txt").read_text().splitlines()) == sum(counts) * steps_of_one
    assert [ledger.record(key).read("worker.json")["attempts"] for key in ledger.trials()] == [2, 2]
    assert [ledger.record(key).remarks() for key in ledger.trials()] == [[], []]
    assert not list(ledger.folder.glob("trials/*/more/*"))


FIVE = Adaptive(1, 5)


def complete(home: Path, values: list[list[list[float]]], replicas=FIVE) -> Ledger:
    """A study with complete trials of these values of two metrics per replica, without training."""
    ledger = Ledger.open(study("made", replicas, sampler="random", n_trials=len(values)), home)
    for of_trial in values:
        key, _ = ledger.ask()
        mse, kl = zip(*of_trial, strict=True)
        metrics = {"val/mse": mse, "val/kl": kl}
        ledger.record(key).append(Epoch(1, metrics, 0.0, 0.0), 0.0)
        ledger.record(key).finish({"metrics": metrics})
        ledger.tell(
            key,
            Outcome(
                "COMPLETE",
                (
                    mse[0],
                    kl[0],
                ),
            ),
        )
    return ledger


def test_a_part_that_failed_is_not_tried_again(in_tmp):
    ledger = complete(in_tmp, [[[1.0, 2.0]], [[2.0, 1.0]], [[9.0, 9.0]], [[99.0, 99.0]]])
    waiting = parts(ledger)
    assert [(part.key, part.start, part.stop) for part in waiting] == [(0, 1, 2), (1, 1, 2), (2, 1, 2)]
    queue = Parts(ledger, deque(waiting))
    place, config = queue.ask()
    assert (place, config.replicas, queue.left) == (waiting[0], 2, 3)
    queue.tell(place, Outcome("FAIL", reason="it diverged"))
    assert queue.left == 2
    assert ledger.record(0).remarks() == ["of replicas 1 to 1 nothing came: it diverged"]
    assert [part.key for part in parts(ledger)] == [1, 2]
    assert [queue.ask()[0].key, queue.ask()[0].key] == [1, 2]
    ledger.close()


def test_a_trial_whose_model_was_not_kept_gets_no_more(in_tmp):
    """There is nothing that its further replicas could be joined to."""
    ledger = complete(in_tmp, [[[1.0, 2.0]], [[2.0, 1.0]]])
    (ledger.record(0).artifacts / "model.safetensors").touch()
    assert discard(ledger.record(0).artifacts, "it was not among the best")
    for _ in range(2):
        assert [part.key for part in parts(ledger)] == [1]
    assert ledger.record(0).remarks() == ["it gets no further replicas, as its model was not kept"]
    ledger.close()


def test_a_rule_that_asks_for_more_gives_the_front_more(in_tmp):
    complete(in_tmp, [[[1.0, 2.0], [1.1, 2.1]], [[2.0, 1.0], [2.1, 1.1]]], Adaptive(1, 2)).close()
    same = Ledger.open(study("made", Adaptive(1, 2), sampler="random", n_trials=2), in_tmp)
    assert parts(same) == []
    same.close()
    more = Ledger.open(study("made", Adaptive(1, 3), sampler="random", n_trials=2), in_tmp)
    assert [(part.key, part.start, part.stop) for part in parts(more)] == [(0, 2, 3), (1, 2, 3)]
    more.close()
    with pytest.raises(UserError, match=r"replicas was Adaptive\(first=1, most=3, .*, is Adaptive\(first=1, most=2, "):
        Ledger.open(study("made", Adaptive(1, 2), sampler="random", n_trials=2), in_tmp)


def test_nothing_is_raced_before_the_search_is_done(in_tmp):
    ledger = complete(in_tmp, [[[1.0, 2.0]], [[2.0, 1.0]]])
    assert parts(ledger)
    ledger.close()
    more = Ledger.open(study("made", Adaptive(1, 5), sampler="random", n_trials=3), in_tmp)
    assert parts(more) == []
    more.close()


@pytest.mark.parametrize(("first", "most"), [(0, 3), (3, 3), (1.5, 3), (4, 2)])
def test_a_rule_that_cannot_be_is_refused(first, most):
    with pytest.raises(UserError, match="Adaptive needs whole numbers 1 <= first < most"):
        Adaptive(first, most)
    with pytest.raises(UserError, match="Adaptive needs a chance 0 < unlikely < 1"):
        Adaptive(unlikely=0)


def test_what_needs_a_fixed_number_of_replicas_is_refused():
    def compared(trial):
        return TrainConfig(TINY, MLP((16,)), 3, BetaVAE(1.0), scores=(UDR(),))

    with pytest.raises(UserError, match="UDR compares a fixed number of replicas, but got replicas=Adaptive"):
        Study("s", compared, Minimize("val/mse"), n_trials=2, replicas=Adaptive(2, 5)).check()
    with pytest.raises(UserError, match="Adaptive replicas need trials of one length"):
        replace(study("s", Adaptive()), metrics=Minimize("val/mse"), early_stopping=Plateau()).check()


def test_adaptive_in_a_configuration_says_what_to_write():
    with pytest.raises(UserError, match=r"but got replicas=Adaptive\(.*; .* write Study\(replicas=Adaptive\("):
        TrainConfig(TINY, MLP((16,)), 3, BetaVAE(1.0), replicas=Adaptive(1, 2))


def test_the_number_of_replicas_may_stand_in_the_study():
    fixed = study("s", 4)
    assert [config.replicas for _, config in fixed.probes][:2] == [4, 4]
    assert fixed.adaptive is None
    assert study("s", Adaptive(2, 5)).probes[0][1].replicas == 2
    assert replace(study("s", Adaptive(2, 5)), overrides={"replicas": 3}).adaptive is None
    with pytest.raises(UserError, match="replicas=0 is not valid; give a whole number of at least 1, or Adaptive"):
        study("s", 0)
