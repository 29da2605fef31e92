"""Export a model for use without its study."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aesearch.use.action import Action, no_options

if TYPE_CHECKING:
    from aesearch.model import Model
    from aesearch.use.inputs import Source


def run(model: "Model", source: "Source", out: Path, options: argparse.Namespace) -> list[str]:  # noqa: ARG001
    """Write the folder of one replica, which is a model to take away.

    It has model.safetensors, config.json, info.json, model_card.md and model.pt2.
    """
    from aesearch.use.program import export

    return export(model, out)


ACTION = Action(100, "write weights, configuration, model card and a torch.export program", no_options, run)
