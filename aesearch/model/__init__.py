"""Trained models: saving, loading and use."""

from aesearch.model.artifacts import reconstructions, save_artifacts, save_grid, traversals
from aesearch.model.files import read_model, read_reference, restore, save_model
from aesearch.model.json_values import from_json, to_json
from aesearch.model.trained import Model, load_model

__all__ = [
    "Model",
    "from_json",
    "load_model",
    "read_model",
    "read_reference",
    "reconstructions",
    "restore",
    "save_artifacts",
    "save_grid",
    "save_model",
    "to_json",
    "traversals",
]
