"""Draw docs/metrics.png: each metric of six constructed codes.

    python benchmarks/metric_answers.py [--figure docs/metrics.png]

The factors have the sizes of dSprites'. A minute or two.
"""

import argparse
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from table import print_table

from aesearch import metrics as m

SIZES = np.array([3, 6, 40, 32, 32])
KINDS = {
    "noise": "10 codes\nof noise",
    "perfect": "5 factors\n+ 5 noise",
    "noisy": "each with\n0.3 sd noise",
    "rotated": "the 5\nrotated",
    "duplicated": "the 5\ntwice",
    "shared": "2 factors\nin one code",
}
FIGURE = Path(__file__).parents[1] / "docs" / "metrics.png"


def codes_and_factors(kind: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw codes (n, 10) that carry the factors (n, 5) in one of the six ways."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(0, size, n) for size in SIZES], axis=1)
    noise = rng.normal(size=(n, 10))
    v = (factors - (SIZES - 1) / 2) / np.sqrt((SIZES**2 - 1) / 12)
    rotation, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(5, 5)))
    carried = {
        "noise": noise[:, :0],
        "perfect": v,
        "noisy": v + 0.3 * rng.normal(size=v.shape),
        "rotated": v @ rotation,
        "duplicated": np.hstack([v, v]),
        "shared": np.stack([v[:, 0] + v[:, 1], v[:, 2] + v[:, 3], v[:, 4]], axis=1),
    }[kind]
    return np.hstack([carried, noise[:, carried.shape[1] :]]), factors


def answers(kind: str) -> dict[str, float]:
    codes, factors = codes_and_factors(kind, 10_000, seed=0)
    test = codes_and_factors(kind, 5_000, seed=1)
    dci, infomec = m.dci(codes, factors, *test), m.infomec(codes, factors)
    return {
        "MIG, 20 bins": m.mig(codes, factors),
        "MIG, Chen (posteriors of sd 0.05)": m.mig_chen(codes, np.full(codes.shape, 2 * np.log(0.05)), factors),
        "SAP, R²": m.sap(codes, factors),
        "SAP, SVM": m.sap_svm(codes, factors, *test),
        "DCI completeness": dci.completeness,
        "InfoC": infomec.compactness,
        "DCI disentanglement": dci.disentanglement,
        "DCIMIG": m.dcimig(codes, factors),
        "MIG-sup": m.mig_sup(codes, factors),
        "InfoM": infomec.modularity,
        "modularity": m.modularity(codes, factors),
        "IRS": m.irs(codes, factors),
        "FactorVAE score": m.factor_vae_score(codes, factors),
        "BetaVAE score": m.beta_vae_score(codes, factors),
        "DCI informativeness": dci.informativeness,
        "InfoE": infomec.explicitness,
        "explicitness": m.explicitness(codes, factors, *test),
    }


def draw(table: np.ndarray, names: list[str], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 7.5), layout="constrained")
    axes.imshow(table, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.75 else "black")
    axes.set_xticks(range(len(KINDS)), [f"{name}\n{what}" for name, what in KINDS.items()])
    axes.set_yticks(range(len(names)), names)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for groups in (5.5, 11.5):
        axes.axhline(groups, color="black", linewidth=1)
    figure.supxlabel(
        "10,000 points, L = 10. Top: one code per factor; middle: one factor per code; bottom: is it there at all?",
        fontsize=9,
    )
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    path = parser.parse_args().figure
    found = {kind: answers(kind) for kind in KINDS}
    names = list(found["noise"])
    table = np.array([[found[kind][name] for kind in KINDS] for name in names])
    print_table(
        ["metric", *KINDS],
        [[name, *(f"{value:.3f}" for value in row)] for name, row in zip(names, table, strict=True)],
    )
    draw(table, names, path)


if __name__ == "__main__":
    main()
