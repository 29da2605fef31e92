"""Time MIG and both SAPs on codes of 10 entries, with dSprites' factor sizes.

python benchmarks/metrics.py [--points 10000] [--rounds 5]
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from table import print_table

from aesearch.metrics import mig, sap, sap_svm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, size, asked.points) for size in (3, 6, 40, 32, 32)], axis=1)
    codes = np.hstack([factors + rng.normal(size=factors.shape), rng.normal(size=factors.shape)])
    timed: dict[str, Callable[[], float]] = {
        "MIG": lambda: mig(codes, factors),
        "SAP, R^2": lambda: sap(codes, factors),
        "SAP, SVM": lambda: sap_svm(codes, factors, codes[: asked.points // 2], factors[: asked.points // 2]),
    }
    seconds = {}
    for name, function in timed.items():
        function()
        taken = []
        for _ in range(asked.rounds):
            started = time.perf_counter()
            function()
            taken.append(time.perf_counter() - started)
        seconds[name] = median(taken)
    rows = [[name, f"{value:.4f} s", ""] for name, value in seconds.items()]
    rows.append(["together", f"{sum(seconds.values()):.3f} s", "under 2 s"])
    print_table(["metric", f"median of {asked.rounds}", "asked"], rows)


if __name__ == "__main__":
    main()
