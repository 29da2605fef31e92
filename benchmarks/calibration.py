"""Hold what is said of a few seeds against the truth of made-up studies.

python benchmarks/calibration.py     chances of being on the front, and 95 % intervals: two minutes on one core
python benchmarks/calibration.py --shapes     a row for each shape of a front: three times as long

A made-up study has 16 settings in two metrics. Their true means are known, and so is the true front. The standard
deviation over seeds is 0.2 to 1.2 of that of the means. "old" is what aesearch said before it had a posterior.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from table import print_table

from aesearch.pareto import on_front
from aesearch.search.more_replicas import more
from aesearch.statistics.posterior import chances, intervals, true_means
from aesearch.study import Adaptive

Values = NDArray[np.float64]

SETTINGS = 16
DRAWS = 300
SEEDS = (3, 5, 8)
TENTHS = 10
LEAST = 40  # chances in a tenth, below which nothing is said of it


def means(shape: str, rng: np.random.Generator) -> Values:
    """Draw the true means of settings (SETTINGS, 2), of deviation 1 in a metric."""
    if shape == "all equal":
        return np.zeros((SETTINGS, 2))
    if shape in ("no trade-off", "agreeing", "opposed"):
        correlation = {"no trade-off": 0.0, "agreeing": 0.6, "opposed": -0.8}[shape]
        return rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], SETTINGS)
    x = rng.uniform(size=SETTINGS)
    y = {"straight": 1 - x, "convex": (1 - np.sqrt(x)) ** 2, "concave": np.sqrt(1 - x**2)}[shape]
    # Settings lie at or above the curve, as those of a search do.
    found = np.stack([x, y], axis=1) + 0.15 * abs(rng.standard_normal((SETTINGS, 1)))
    return np.asarray(found / found.std(0))


def errors(kind: str, seeds: int, rng: np.random.Generator) -> Values:
    """Draw what seeds add to the true means (SETTINGS, seeds, 2), with mean 0."""
    shape = (SETTINGS, seeds, 2)
    deviation = np.exp(rng.uniform(np.log(0.2), np.log(1.2)))
    if kind == "normal":
        return np.asarray(deviation * rng.standard_normal(shape))
    if kind == "unequal spreads":
        # Two thirds of the settings have 0.55 to 1.8 times the common spread.
        return np.asarray(deviation * np.exp(0.6 * rng.standard_normal((SETTINGS, 1, 1))) * rng.standard_normal(shape))
    # Bimodal: a seed collapses with a chance of its setting, and moves both metrics.
    rate = rng.uniform(0, 0.5, (SETTINGS, 1, 1))
    collapsed = (rng.uniform(size=(SETTINGS, seeds, 1)) < rate) - rate
    return np.asarray(deviation * (2 * collapsed + 0.3 * rng.standard_normal(shape)))


def old(values: Sequence[Values], seed: int) -> Values:
    """Draw medians as aesearch did before, without shrinkage of settings.

    The common spread counts as two degrees of freedom.

    values: for each of N settings (R, M). Returns (DRAWS, N, M).
    """
    rng = np.random.default_rng(seed)
    table = np.stack(values)
    freedom = table.shape[1] + 1
    squares = ((table - table.mean(1, keepdims=True)) ** 2).sum(1)
    common = squares.mean(0) / (table.shape[1] - 1)
    deviations = np.sqrt((2 * common + squares) / freedom)
    factors = np.sqrt(freedom / rng.chisquare(freedom, (DRAWS, len(table), 1)))
    noise = np.median(rng.standard_normal((DRAWS, *table.shape)), axis=2)
    return np.asarray(np.median(table, axis=1) + deviations * factors * noise)


def new(values: Sequence[Values], seed: int) -> Values:
    return true_means(values, seed, DRAWS)


def study(shape: str, kind: str, seeds: int, number: int) -> tuple[Values, list[Values]]:
    """Make a study: its true means, and the values of its seeds."""
    rng = np.random.default_rng([number, seeds])
    true = means(shape, rng)
    return true, list(true[:, None] + errors(kind, seeds, rng))


TRADE_OFFS = ("straight", "convex", "concave", "opposed")
OTHERS = ("no trade-off", "agreeing")


def reliability(method: Any, shapes: Sequence[str], seeds: int, studies: int) -> tuple[list[str], float, float]:
    """Compare chances with memberships by tenth.

    Returns said/true (n) of each tenth, the largest difference, and the share of members below a chance of 10 %.
    """
    said, true = [], []
    for number in range(studies):
        centres, values = study(shapes[number % len(shapes)], "normal", seeds, number)
        said.append(chances(method(values, number)))
        true.append(on_front(centres))
    chance, member = np.concatenate(said), np.concatenate(true)
    tenth = np.minimum((chance * TENTHS).astype(int), TENTHS - 1)
    cells, worst = [], 0.0
    for i in range(TENTHS):
        inside = tenth == i
        if inside.sum() < LEAST:
            cells.append("")
            continue
        a, b = chance[inside].mean(), member[inside].mean()
        worst = max(worst, float(abs(a - b)))
        cells.append(f"{100 * a:.0f}/{100 * b:.0f} ({inside.sum()})")
    return cells, worst, float((chance[member] < 0.1).mean())


def coverage(method: Any, shape: str, kind: str, seeds: int, studies: int) -> tuple[float, float]:
    """Count 95 % intervals that hold the true mean: of all, and of the best-looking."""
    every, best = [], []
    for number in range(studies):
        true, values = study(shape, kind, seeds, number)
        low, high = intervals(method(values, number))
        held = (low <= true) & (true <= high)
        every.append(held.mean())
        looks = np.mean(values, axis=1).argmin(0)
        best.append(held[looks, [0, 1]].mean())
    return float(np.mean(every)), float(np.mean(best))


def adaptive(shapes: Sequence[str], studies: int) -> tuple[float, float]:
    """Replay ``Adaptive(1, 5)``, and compare it with five seeds of every setting.

    Returns its share of their training, and the share of the true front that got all seeds.
    """
    rule, shares, whole = Adaptive(1, 5), [], []
    for number in range(studies):
        true, values = study(shapes[number % len(shapes)], "normal", rule.most, number)
        have = [rule.first] * SETTINGS
        while wanted := more([one[:count] for one, count in zip(values, have, strict=True)], rule):
            for i, count in wanted.items():
                have[i] = count
        shares.append(sum(have) / (SETTINGS * rule.most))
        whole.append(np.array(have)[on_front(true)] == rule.most)
    return float(np.mean(shares)), float(np.concatenate(whole).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=240, help="made-up studies of each row (default: 240)")
    parser.add_argument("--shapes", action="store_true", help="a row for each shape of a front")
    asked = parser.parse_args()
    methods = {"old": old, "new": new}
    families: dict[str, Sequence[str]] = {"trade-off": TRADE_OFFS, "no trade-off": OTHERS}
    if asked.shapes:
        families = {shape: (shape,) for shape in (*TRADE_OFFS, *OTHERS)}
    rows = []
    for name, shapes in families.items():
        for seeds in SEEDS:
            for said, method in methods.items():
                cells, worst, missed = reliability(method, shapes, seeds, asked.studies)
                rows.append([name, seeds, said, *cells, f"{100 * worst:.0f}", f"{100 * missed:.0f} %"])
    tenths = [f"{10 * i} to {10 * i + 10} %" for i in range(TENTHS)]
    print("\nChance of being on the front, by tenth: said/true in % (n)\n")
    print_table(["front", "seeds", "", *tenths, "largest difference", "members said to be below 10 %"], rows)
    rows = []
    for shape, kind in (
        ("all equal", "normal"),
        ("straight", "normal"),
        ("no trade-off", "normal"),
        ("straight", "bimodal"),
        ("all equal", "bimodal"),
        ("straight", "unequal spreads"),
        ("all equal", "unequal spreads"),
    ):
        for seeds in SEEDS:
            found = [coverage(method, shape, kind, seeds, asked.studies // 2) for method in methods.values()]
            rows.append(
                [shape, kind, seeds, *(f"{100 * held:.0f} %" for pair in zip(*found, strict=True) for held in pair)]
            )
    print("\n95 % intervals that hold the true mean\n")
    print_table(["front", "seeds' law", "seeds", "all, old", "all, new", "looks best, old", "looks best, new"], rows)
    replayed = {name: adaptive(shapes, max(4, asked.studies // 8)) for name, shapes in families.items()}
    print("\nAdaptive(1, 5) against five seeds of every setting\n")
    rows = [[name, *(f"{100 * share:.0f} %" for share in of_family)] for name, of_family in replayed.items()]
    print_table(["front", "training", "true members that get all seeds"], rows)


if __name__ == "__main__":
    main()
