"""Compare adaptive replicas with five of every trial: the front and the training.

python benchmarks/adaptive.py     5 random searches of 16 trials of the main job's space: about an hour on one core
python benchmarks/adaptive.py --kl --epochs 3     MSE against KL, where nearly all is on the front: a quarter of an hour

Every trial is trained with five replicas, once; what `Adaptive(1, 5)` would have trained of them is then worked out,
since a replica learns the same whenever it is trained. What is trained is kept in --values, for another call.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from table import print_table

from aesearch.pareto import front
from aesearch.search.more_replicas import more
from aesearch.study import Adaptive, Minimize, Study, load_study
from aesearch.train import train

MOST = 5
SUBSETS = 40  # made-up searches of more trials, drawn from all that were trained
Costs = NDArray[np.float64]


def trained(study: Study, searches: int, trials: int, epochs: int | None, file: Path, root: Path) -> list[list[Costs]]:
    """Train what ``file`` lacks; give the costs (MOST, M) of each search's trials."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    known = {(line["seed"], line["key"]): line for line in lines}
    found: list[list[Costs]] = []
    for seed in range(searches):
        sampler = optuna.samplers.RandomSampler(seed=seed)
        search = optuna.create_study(sampler=sampler, directions=study.directions)
        found.append([])
        for key in range(trials):
            config = study.config(search.ask())
            config = replace(config, replicas=MOST, scores=(), seed=seed, epochs=epochs or config.epochs)
            if (seed, key) not in known:
                *_, last = train(config, config.data.load(root))
                assert last.result is not None
                line: dict[str, Any] = {"seed": seed, "key": key}
                line |= {metric.name: last.result.metrics[metric.name] for metric in study.searched}
                with file.open("a") as values:
                    values.write(json.dumps(line) + "\n")
                known[seed, key] = line
            columns = [metric.sign * np.array(known[seed, key][metric.name]) for metric in study.searched]
            found[-1].append(np.stack(columns, axis=1))
    return found


def members(costs: Sequence[Costs]) -> set[int]:
    return set(front([tuple(np.median(of_one, axis=0).tolist()) for of_one in costs]))


def race(full: Sequence[Costs], rule: Adaptive) -> tuple[float, set[int]]:
    """Replay a rule; give its share of the training of all replicas, and its front."""
    have = [rule.first] * len(full)
    while wanted := more([costs[:count] for costs, count in zip(full, have, strict=True)], rule):
        for i, count in wanted.items():
            have[i] = count
    found = members([costs[:count] for costs, count in zip(full, have, strict=True)])
    return sum(have) / (rule.most * len(full)), found


def row(searches: Sequence[Sequence[Costs]], unlikely: float) -> list[object]:
    known = [(full, members(full)) for full in searches]
    results = [(race(full, Adaptive(1, MOST, unlikely)), whole) for full, whole in known]
    shares = [share for (share, _), _ in results]
    same = sum(found == whole for (_, found), whole in results)
    kept = sum(len(found & whole) for (_, found), whole in results) / sum(len(whole) for _, whole in results)
    wrong = sum(len(found - whole) for (_, found), whole in results)
    share = f"{100 * np.median(shares):.0f} % [{100 * min(shares):.0f} to {100 * max(shares):.0f}]"
    # Five replicas of the front, one of each other trial: no rule could do with less.
    bounds = [(len(whole) * MOST + len(full) - len(whole)) / (len(full) * MOST) for full, whole in known]
    least, found = f"{100 * np.median(bounds):.0f} %", f"{100 * kept:.0f} %"
    return [len(searches[0]), unlikely, share, least, f"{same} of {len(searches)}", found, wrong]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=Path("studies/beta_sweep.py"))
    parser.add_argument("--searches", type=int, default=5)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--kl", action="store_true", help="search val/mse and val/kl, whatever the study searches")
    parser.add_argument("--values", type=Path, default=Path("adaptive.jsonl"))
    parser.add_argument("--data", type=Path, default=Path(".adaptive"))
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    study = load_study(asked.study)
    if asked.kl:
        study = replace(study, metrics=(Minimize("val/mse"), Minimize("val/kl")))
    searches = trained(study, asked.searches, asked.trials, asked.epochs, asked.values, asked.data)
    rows = [row(searches, unlikely) for unlikely in (0.05, 0.1, 0.2, 0.3)]
    rng = np.random.default_rng(0)
    pool = [costs for search in searches for costs in search]
    size = min(2 * asked.trials, len(pool))
    drawn = [[pool[i] for i in rng.choice(len(pool), size, replace=False)] for _ in range(SUBSETS)]
    rows += [row(drawn, unlikely) for unlikely in (0.05, 0.1, 0.2, 0.3)]
    columns = ["trials", "unlikely", f"training, of {MOST} for all", "at the least", "searches with the same front"]
    print_table([*columns, "of the front, found", "found, not of the front"], rows)


if __name__ == "__main__":
    main()
