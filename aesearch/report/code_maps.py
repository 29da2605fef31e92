"""Maps of a model's codes to the factors of the data that they inform about."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from aesearch.metrics import dci, mutual_information
from aesearch.metrics.tables import entropies

FITTED = 0.7  # the share of the items that the trees are fitted on; the others test them


class CodeMap(NamedTuple):
    """Information of a model's L codes about the K factors that vary.

    information: (L, K), mutual information as a share of each factor's entropy.
    importance: (L, K), importance of each code to DCI's boosted trees, as a share of each factor.
    kl: (L,), KL of each code in nats.
    names: names of the K factors.
    """

    information: NDArray[np.float64]
    importance: NDArray[np.float64]
    kl: NDArray[np.float64]
    names: tuple[str, ...]


def code_map(folder: Path) -> CodeMap | None:
    """Compute the code map from the codes of val that a trial keeps in ``folder``.

    Returns None where it keeps no codes, where they are not finite, or where no factor varies.
    """
    path = folder / "reference.safetensors"
    kept = load_file(path) if path.exists() else {}
    if not {"codes", "factors", "kl"} <= kept.keys() or not np.isfinite(kept["codes"]).all():
        return None
    columns = np.flatnonzero(kept["factors"].min(0) < kept["factors"].max(0))
    if not len(columns):
        return None
    codes, factors = kept["codes"].astype(np.float64), kept["factors"][:, columns].astype(np.int64)
    cut = int(FITTED * len(codes))
    trees = dci(codes[:cut], factors[:cut], codes[cut:], factors[cut:]).importances
    # dci leaves out a factor that is constant in the fitted part; the map needs every factor.
    if trees.shape[1] != len(columns):
        return None
    names = json.loads((folder / "info.json").read_text())["factors"]
    information = mutual_information(codes, factors) / entropies(factors)
    return CodeMap(information, trees, kept["kl"].astype(np.float64), tuple(names[k] for k in columns))
