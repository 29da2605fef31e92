"""Run ``use``: encode, denoise, sample, detect, export, ... with a trained model."""

import argparse
import re
from pathlib import Path

from aesearch.commands.options import data_folder, named_study
from aesearch.errors import UserError
from aesearch.escapes import say
from aesearch.use.actions import ACTIONS


def use(options: argparse.Namespace) -> int:
    """Do what is asked with a trained model."""
    folder, own = _find_model(options.model, options.best, options.tracking_uri)

    from aesearch.model import load_model
    from aesearch.use.inputs import Source

    model = load_model(folder, options.replica, open_data=own or getattr(options, "open_data", False))
    name = Path(options.model).stem or "model"
    out = options.out or Path("use") / name / options.action
    out.mkdir(parents=True, exist_ok=True)
    source = Source(model, options, data_folder(options.data))
    say(*ACTIONS[options.action].run(model, source, out, options))
    return 0


def _find_model(name: str, best: str | None, uri: str) -> tuple[Path, bool]:
    """Find the folder of a model, and tell whether its data may be opened.

    MODEL is the folder itself, an MLflow run, or a study, of which the knee or the best trial is taken. A folder may
    come from anybody; a study and its runs are those of the person, so their data is too.
    Raises UserError where there is none.
    """
    folder = Path(name)
    if folder.is_dir():
        found = next(
            (f for f in (folder, folder / "artifacts", folder / "model") if (f / "config.json").exists()), None
        )
        if found is None:
            raise UserError(f"a model folder must hold config.json and model.safetensors, but {folder} does not")
        return found, False

    from aesearch.tracking import fetch_model, read_study

    if re.fullmatch(r"[0-9a-f]{32}", name):
        return fetch_model(uri, name), True
    name, _ = named_study(name)

    from aesearch.report import best_trial

    results = read_study(uri, name)
    key = best_trial(results, best)
    say(f"{name}: trial {key}, {f'the best in {best}' if best else 'whose model is registered'}")
    return results.pictures[key], True
