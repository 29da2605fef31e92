"""Functions that MLflow calls to serve a model.

``mlflow.pyfunc.load_model`` and ``mlflow models predict`` use them. Saved models name this file's path.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aesearch.errors import UserError, nearest
from aesearch.model import Model, load_model

OUTPUTS = ("reconstruction", "code", "error")


class Served:
    """A model with the one method that MLflow calls."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> NDArray[np.float32]:
        """Compute reconstructions, codes or anomaly scores of items (N, C, H, W).

        params: ``output`` is reconstruction (the default, (N, C, H, W)), code (N, L) or error (N,).
        Raises UserError for another output or shape.
        """
        output = (params or {}).get("output", "reconstruction")
        if output not in OUTPUTS:
            raise UserError(f"unknown output {output!r}: {nearest(str(output), OUTPUTS)}")
        if self.model.network.classes:
            raise UserError("a conditional model needs labels, which MLflow does not pass; use aesearch.load_model")
        items = np.asarray(model_input, np.float32)
        if output == "code":
            return self.model.encode(items)
        return self.model.reconstruct(items) if output == "reconstruction" else self.model.score(items)["error"]


def _load_pyfunc(path: str) -> Served:
    """MLflow's entry. path: the folder of the model, or a file in it."""
    folder = Path(path)
    return Served(load_model(folder if folder.is_dir() else folder.parent))
