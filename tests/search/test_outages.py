"""What comes over a study from outside while it runs, and what a trial does to the process that it shares with others.

Workers that are killed, hang or eat all memory are in test_faults.py; damaged state in test_recovery.py.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from helpers.command_line import STUDY, finished
from helpers.disks import disk, remount
from helpers.searching import search
from helpers.small import TINY

from aesearch import Minimize, Study, TrainConfig
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE
from aesearch.records.record import MOST_REASON
from aesearch.tracking import read_study

LONG = "no\n such " + "very " * 2000 + "thing"


@dataclass(frozen=True)
class Bad(BetaVAE):
    """Does something bad at a training step of epoch ``when``, counted from 1, of 6."""

    fault: str = ""
    when: int = 1

    def regulariser(self, output, target, step):
        found = super().regulariser(output, target, step)
        if not output.logits.requires_grad or not (self.when - 1) / 6 <= float(step.progress) < self.when / 6:
            return found
        if self.fault == "exits":
            sys.exit(3)
        if self.fault == "long":
            raise RuntimeError(LONG)
        return found * float("nan") if self.fault == "nan" else found


class Unbuildable(MLP):
    def decoder(self, shape, inputs):
        raise MemoryError


FAULTS = {"well": ("", 1), "exits": ("exits", 2), "long": ("long", 2)} | {f"nan {n}": ("nan", n) for n in (1, 3, 6)}


@pytest.mark.usefixtures("local_ray")
def test_whatever_a_trial_does_costs_that_trial_alone(in_tmp, data_root):
    """Oracle: by its fault each trial but the good ones must fail with its own reason, in the ledger and in MLflow."""

    def space(trial: optuna.Trial) -> TrainConfig:
        kind = trial.suggest_categorical("kind", [*FAULTS, "unbuildable", "well again"])
        fault, when = FAULTS.get(kind, ("", 1))
        network = Unbuildable((16,)) if kind == "unbuildable" else MLP((16,))
        return TrainConfig(TINY, network, 3, Bad(1.0, fault=fault, when=when), replicas=2, epochs=6)

    study = Study("outages", space, Minimize("val/mse"), sampler="grid", max_concurrent=1)
    ledger, uri = search(study, in_tmp, data_root, by_ray=True)
    trials = read_study(uri, "outages").trials.set_index("param:kind")
    states = {
        kind: "COMPLETE" if kind.startswith("well") else "FAIL" for kind in (*FAULTS, "unbuildable", "well again")
    }
    assert trials["state"].to_dict() == states
    assert {t.params["kind"]: t.state.name for t in ledger.trials().values()} == states
    assert Counter(trial.state.name for trial in ledger.table.trials()) == {"COMPLETE": 2, "FAIL": 6}
    reasons = trials["reason"]
    assert reasons["exits"] == "SystemExit: 3"
    assert reasons["unbuildable"].startswith("MemoryError")
    assert reasons["long"].startswith("RuntimeError: no such very very")
    assert "\n" not in reasons["long"]
    assert len(reasons["long"]) == MOST_REASON
    for key, trial in ledger.trials().items():
        attempts = ledger.record(key).read("worker.json")["attempts"]
        assert attempts == 1, f"{trial.params['kind']} would do the same in another process"
    for when in (1, 3, 6):
        assert reasons[f"nan {when}"].startswith("NonFiniteLossError: the training loss of replica")
        assert trials.loc[f"nan {when}", "epochs"] == when - 1, "the epochs before are kept"
    # Both good trials are the same but for what ran in their process before them.
    for column in ("val/mse", "val/elbo", "val/mse_min", "val/mse_max"):
        assert trials.loc["well", column] == trials.loc["well again", column]


@dataclass(frozen=True)
class Spoiling(BetaVAE):
    """Leaves behind what a training may: other generators, denormals, threads, types, gradients turned off."""

    spoils: bool = False
    seen: ClassVar[list[int]] = []

    def regulariser(self, output, target, step):
        if self.spoils:
            self.seen.append(1)
            torch.manual_seed(len(self.seen))
            np.random.seed(len(self.seen))
            torch.rand(3)
            torch.set_num_threads(1 + len(self.seen) % 2)
            torch.set_flush_denormal(False)
        return super().regulariser(output, target, step)


def test_a_trial_is_the_same_first_and_last_in_one_process(in_tmp, data_root):
    """Oracle: 12 trials in turn in one process, of which the first, the seventh and the last are the same."""

    def space(trial: optuna.Trial) -> TrainConfig:
        number = trial.suggest_categorical("number", list(range(12)))
        same = number in (0, 6, 11)
        objective = Spoiling(2.0 if same else 1.0 + number, spoils=not same)
        width = 16 if same else 8 + 4 * number
        return TrainConfig(TINY, MLP((width,), dropout=0.1), 3, objective, replicas=2, epochs=2)

    study = Study("reused", space, Minimize("val/mse"), sampler="grid", max_concurrent=1)
    ledger, uri = search(study, in_tmp, data_root)
    assert ledger.counts() == {"COMPLETE": 12}
    workers = {ledger.record(key).read("worker.json")["pid"] for key in range(12)}
    assert workers == {os.getpid()}
    trials = read_study(uri, "reused").trials.set_index("param:number")
    metrics = [column for column in trials if column.startswith(("val/", "test/", "train/"))]
    assert len(metrics) > 10
    for number in (6, 11):
        np.testing.assert_array_equal(
            trials.loc[number, metrics].to_numpy(float), trials.loc[0, metrics].to_numpy(float)
        )


@pytest.fixture
def small_disk(in_tmp) -> Iterator[Path]:
    """A disk with room for one trial and a half, mounted where a study has its state."""
    with disk(in_tmp / ".aesearch", "700k") as folder:
        yield folder


@pytest.mark.slow
def test_a_study_on_a_full_disk_goes_on_once_there_is_room(small_disk, in_tmp, here):
    """Oracle: the results on disk when it was full, and the table of a study on a disk with room."""
    text = STUDY.replace("max_concurrent=2", "max_concurrent=1, checkpoint_seconds=0").replace("epochs=3", "epochs=8")
    (in_tmp / "small.py").write_text(text)

    full = here("run", "small.py")
    assert full.returncode == 2
    assert full.stderr == (
        f"aesearch: a study must have room to write, but the disk of {small_disk}/small is full; free some, and the "
        "same command goes on with what is missing\n"
    )
    before = {name: (small_disk / "small/trials" / name / "result.json").read_bytes() for name in finished(in_tmp)}
    assert before, "one trial had room"
    remount(small_disk, "size=64m")
    done = here("run", "small.py")
    assert done.returncode == 0, done.stderr
    for name, content in before.items():
        assert (small_disk / "small/trials" / name / "result.json").read_bytes() == content
    apart = ("--home", "whole", "--out", "whole", "--tracking-uri", "sqlite:///whole.db")
    assert here("run", "small.py", *apart).returncode == 0
    tables = [pd.read_csv(in_tmp / out / "small/trials.csv").drop(columns="seconds") for out in ("reports", "whole")]
    assert tables[0]["state"].tolist() == ["COMPLETE"] * 4
    pd.testing.assert_frame_equal(*tables, check_exact=True)
