"""The time of the metrics on codes and factors: 10,000 codes of 10 entries, factors of the sizes of dSprites.

python benchmarks/metrics.py
"""

import time
from statistics import median

import numpy as np
from table import print_table

from aesearch.metrics import mig, sap, sap_svm


def main() -> None:
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, size, 10_000) for size in (3, 6, 40, 32, 32)], axis=1)
    codes = np.hstack([factors + rng.normal(size=factors.shape), rng.normal(size=factors.shape)])
    timed = {
        "MIG": lambda: mig(codes, factors),
        "SAP, R^2": lambda: sap(codes, factors),
        "SAP, SVM": lambda: sap_svm(codes, factors, codes[:5000], factors[:5000]),
    }
    seconds = {}
    for name, function in timed.items():
        function()
        taken = []
        for _ in range(5):
            started = time.perf_counter()
            function()
            taken.append(time.perf_counter() - started)
        seconds[name] = median(taken)
    rows = [[name, f"{value:.4f} s", ""] for name, value in seconds.items()]
    print_table(
        ["metric", "median of 5", "asked"], [*rows, ["together", f"{sum(seconds.values()):.3f} s", "under 2 s"]]
    )


if __name__ == "__main__":
    main()
