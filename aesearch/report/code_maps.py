"""Which code of a model knows which factor."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from aesearch.metrics import dci, mutual_information
from aesearch.metrics.tables import entropies

FITTED = 0.7  # of the items, for the trees; the others judge them


class CodeMap(NamedTuple):
    """What a model's L codes say of the K factors that vary.

    information: (L, K) in shares of each factor's entropy. importance: (L, K) of DCI's boosted trees, in shares of each
    factor. kl: (L,) of each code in nats. names: of the factors.
    """

    information: NDArray[np.float64]
    importance: NDArray[np.float64]
    kl: NDArray[np.float64]
    names: tuple[str, ...]


def code_map(folder: Path) -> CodeMap | None:
    """From the codes of val that a trial keeps in ``folder``; None where it keeps none, or no factors."""
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
    # A factor that is constant in the first part alone is left out there; a map needs all.
    if trees.shape[1] != len(columns):
        return None
    names = json.loads((folder / "info.json").read_text())["factors"]
    information = mutual_information(codes, factors) / entropies(factors)
    return CodeMap(information, trees, kept["kl"].astype(np.float64), tuple(names[k] for k in columns))
