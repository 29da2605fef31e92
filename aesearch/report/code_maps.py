"""Maps of a model's codes to the factors of the data that they inform about."""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aesearch.errors import UserError
from aesearch.escapes import say
from aesearch.metrics import dci, mutual_information
from aesearch.metrics.tables import entropies
from aesearch.model import read_reference

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

    Returns None where it keeps no codes, where they are not finite or too few, or where no factor varies. Files
    that are damaged are said, as in MLflow others may have changed them.
    """
    if not (folder / "reference.safetensors").exists():
        return None
    try:
        reference, info = read_reference(folder)
    except UserError as error:
        say(f"no map of codes: {error}", out=sys.stderr)
        return None
    kept = {name: reference[name].numpy() for name in ("codes", "factors", "kl") if name in reference}
    if len(kept) < 3 or not all(np.isfinite(values).all() for values in kept.values()):
        return None
    columns = np.flatnonzero(kept["factors"].min(0) < kept["factors"].max(0))
    if not len(columns):
        return None
    codes = kept["codes"].astype(np.float64)
    # Counted from 0, so that tables of their values have no more rows than there are items.
    factors = np.stack([np.unique(kept["factors"][:, k], return_inverse=True)[1] for k in columns], axis=1)
    cut = int(FITTED * len(codes))
    try:
        trees = dci(codes[:cut], factors[:cut], codes[cut:], factors[cut:]).importances
    except ValueError:
        # There are too few items, or no factor varies in the fitted part.
        return None
    # dci leaves out a factor that is constant in the fitted part; the map needs every factor.
    if trees.shape[1] != len(columns):
        return None
    names = info["factors"]
    information = mutual_information(codes, factors) / entropies(factors)
    return CodeMap(information, trees, kept["kl"].astype(np.float64), tuple(names[k] for k in columns))
