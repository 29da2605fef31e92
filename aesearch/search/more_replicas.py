"""More replicas for the trials that could still be on the front, when a search with adaptive replicas is done.

A part of a trial, its replicas from ``start`` on, trains in a folder of its own below the trial's, and is then joined
to it. What is joined counts; a part that was interrupted goes on from its checkpoint.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from aesearch.datasets import Data
from aesearch.model import read_model, save_artifacts
from aesearch.pareto import on_front, ranked
from aesearch.records import Record, summary
from aesearch.search.ledger import Ledger
from aesearch.seeds import Values, forecasts
from aesearch.study import Adaptive, Study
from aesearch.train import Result, TrainConfig


@dataclass(frozen=True)
class Part:
    """Replicas of a trial: from ``start`` on, before ``stop``."""

    key: int
    start: int
    stop: int

    def record(self, trial: Record) -> Record:
        return Record(trial.folder / "more" / f"{self.start:05d}-{self.stop:05d}")


def parts(ledger: Ledger) -> list[Part]:
    """What is to be trained next, by what the complete trials have; empty when no trial deserves more replicas."""
    rule = ledger.study.adaptive
    if rule is None or ledger.left:
        return []
    known = {key: ledger.replicas(key) for key in ledger.rivals()}
    keys = list(known)
    wanted = more([np.stack(list(known[key].values()), axis=1) * ledger.study.signs for key in keys], rule)
    found = [Part(keys[i], len(next(iter(known[keys[i]].values()))), stop) for i, stop in wanted.items()]
    return [part for part in found if not part.record(ledger.record(part.key)).read("state.json")]


@dataclass
class Race:
    """Parts of trials to be trained. It is asked and told as the ledger is in a search."""

    ledger: Ledger
    waiting: list[Part]
    running: dict[int, Part] = field(default_factory=dict)

    @property
    def study(self) -> Study:
        return self.ledger.study

    @property
    def folder(self) -> Path:
        return self.ledger.folder

    @property
    def searched(self) -> list[str]:
        return self.ledger.searched

    @property
    def left(self) -> int:
        return len(self.waiting) + len(self.running)

    def record(self, key: int) -> Record:
        """Of the part of a trial that is under way."""
        return self.running[key].record(self.ledger.record(key))

    def trial(self, key: int) -> Record:
        return self.ledger.record(key)

    def ask(self) -> tuple[int, TrainConfig]:
        part = self.waiting.pop(0)
        self.running[part.key] = part
        record = self.record(part.key)
        record.begin({"key": part.key, "start": part.start, "stop": part.stop}, again=True)
        config = self.study.config(self.ledger.trials()[part.key])
        return part.key, replace(config, replicas=part.stop)

    def report(self, key: int, value: float, epoch: int) -> None:
        """Nothing: the search is over."""

    def tell(self, key: int, state: str, values: list[float] | None = None, reason: str = "") -> None:  # noqa: ARG002
        """How a part ended. One that failed is not tried again; its trial keeps the replicas that it has."""
        part = self.running[key]
        if state != "COMPLETE":
            self.record(key).close(state, reason)
            self.ledger.record(key).remark(f"of replicas {part.start} to {part.stop - 1} nothing came: {reason}")
        else:
            shutil.rmtree(self.record(key).folder)
        del self.running[key]

    def put_back(self, key: int) -> None:
        """Let a part that is under way wait again."""
        self.waiting.append(self.running.pop(key))

    def discard(self) -> list[int]:
        """Nothing: joining needs the models."""
        return []

    def settle(self, lost: Mapping[int, str]) -> None:
        """After a search that broke: fail the ``lost``, let the others go on."""
        for key, reason in lost.items():
            self.tell(key, "FAIL", reason=reason)
        self.waiting += self.running.values()
        self.running.clear()


def join(trial: Record, part: Record, start: int, config: TrainConfig, result: Result, data: Data) -> None:
    """Make what ``part`` has learned about the replicas from ``start`` on the trial's own.

    config: of all replicas. Done again after an interruption at any place, it comes to the same.
    """
    known = trial.read("result.json")
    before = read_model(trial.artifacts, config).weights
    whole = Result(
        {name: (*known["metrics"][name][:start], *values) for name, values in result.metrics.items()},
        (*known["selected_epochs"][:start], *result.epochs),
        {name: torch.cat([before[name][:start], tensor]) for name, tensor in result.weights.items()},
        known["references"],
        known["protocols"],
    )
    fresh = trial.folder / "artifacts.tmp"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    save_artifacts(fresh, config, whole, data)
    for file in fresh.iterdir():
        file.replace(trial.artifacts / file.name)
    fresh.rmdir()
    trial.join_history(part, start)
    for remark in part.remarks():
        trial.remark(f"replicas {start} to {len(whole.epochs) - 1}: {remark}")
    # They were of fewer replicas.
    (trial.folder / "scores.json").unlink(missing_ok=True)
    # Last: a trial has the replicas that its result has.
    first = {"first_replicas": known.get("first_replicas", start)}
    trial.finish(summary(whole, known["seconds"] + part.history()[-1]["elapsed"]) | first)


def more(costs: Sequence[Values], rule: Adaptive) -> Mapping[int, int]:
    """Which of the trials (R_i, M) are to get more seeds, by place, and how many they then have.

    Where no trial has two seeds, no spread is known: the first two fronts get another one.
    """
    if not costs:
        return {}
    fronts = [front for front, _ in ranked([tuple(np.median(of_one, axis=0).tolist()) for of_one in costs])]
    if max(map(len, costs)) < 2:
        chosen = [i for i, front in enumerate(fronts) if front < 2]
    else:
        chances = on_front(forecasts(costs, rule.most)).mean(0)
        # One that is on the front by luck alone must not stay there untried.
        chosen = [i for i, chance in enumerate(chances) if chance >= rule.unlikely or fronts[i] == 0]
    return {i: min(rule.most, len(costs[i]) + max(1, len(costs[i]) // 2)) for i in chosen if len(costs[i]) < rule.most}
