"""Time DCI with our boosted trees, and compare its scores with scikit-learn's.

The factors have the sizes of dSprites'.

python benchmarks/dci.py               1,000 points with both, 10,000 with ours: about 5 minutes
python benchmarks/dci.py --reference   10,000 points with scikit-learn's too: some 15 minutes more
"""

import argparse
import time
from itertools import product

from metric_answers import codes_and_factors
from table import print_table

from aesearch.metrics.dci import DCI, Regressor, dci

KINDS = ("noise", "perfect", "noisy", "rotated", "duplicated")


def measure(kind: str, n: int, regressor: Regressor) -> tuple[float, DCI]:
    codes, factors = codes_and_factors(kind, n, seed=0)
    test_codes, test_factors = codes_and_factors(kind, 5000, seed=1)
    started = time.process_time()
    found = dci(codes, factors, test_codes, test_factors, regressor)
    return time.process_time() - started, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", action="store_true", help="scikit-learn's at 10,000 points too, on two codes")
    parser.add_argument("--points", type=int, default=1000, help="of what both fit; ours alone fits ten times as many")
    asked = parser.parse_args()
    both: tuple[Regressor, ...] = ("boosted_trees", "sklearn_boosted_trees")
    runs = [*product([asked.points], KINDS, both), *product([10 * asked.points], KINDS, both[:1])]
    if asked.reference:
        runs += product([10 * asked.points], ("noisy", "rotated"), both[1:])
    rows = []
    for n, kind, regressor in sorted(runs):
        seconds, found = measure(kind, n, regressor)
        scores = [f"{score:.3f}" for score in found[:3]]
        rows.append([f"{n:,}", kind, regressor, f"{seconds:.1f} s", *scores])
    print_table(["points", "codes", "regressor", "time on one core", "D", "C", "I"], rows)


if __name__ == "__main__":
    main()
