"""Run ``use``: encode, denoise, sample, detect, export, ... with a trained model."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from aesearch.commands.options import data_folder, named_study
from aesearch.errors import UserError
from aesearch.escapes import say
from aesearch.use.actions import ACTIONS

if TYPE_CHECKING:
    from aesearch.records.results import Results


def use(options: argparse.Namespace) -> int:
    """Do what is asked with a trained model."""
    folder, own = _find_model(options)

    from aesearch.model import load_model
    from aesearch.use.inputs import Source

    model = load_model(folder, options.replica, open_data=own or getattr(options, "open_data", False))
    name = Path(options.model).stem or "model"
    out = options.out or Path("use") / name / options.action
    out.mkdir(parents=True, exist_ok=True)
    source = Source(model, options, data_folder(options.data))
    say(*ACTIONS[options.action].run(model, source, out, options))
    return 0


def _find_model(options: argparse.Namespace) -> tuple[Path, bool]:
    """Find the folder of a model, and tell whether its data may be opened.

    MODEL is the folder itself, an MLflow run, or a study, of which the knee, the best trial (of a condition) or the
    trial that is asked for is taken. A folder may come from anybody; a study and its runs are those of the person, so
    their data is too.
    Raises UserError where there is none.
    """
    name, uri = options.model, options.tracking_uri
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
    if options.trial is not None:
        return _of_trial(results, options), True
    key = best_trial(results, options.best, options.per)
    within = f" with {', '.join(options.per)}" if options.per else ""
    what = f"the best in {options.best}" if options.best else "whose model is registered"
    say(f"{name}: trial {key}, {what}{within}")
    return results.pictures[key], True


def _of_trial(results: "Results", options: argparse.Namespace) -> Path:
    """Find the model of the trial that ``--trial`` names."""
    if options.best or options.per:
        raise UserError("--trial names a trial, so --best and --per choose nothing; leave them out")
    name, states = results.info["name"], dict(zip(results.trials["trial"], results.trials["state"], strict=True))
    if states.get(options.trial) != "COMPLETE":
        complete = [str(key) for key, state in states.items() if state == "COMPLETE"]
        raise UserError(f"{name} has no complete trial {options.trial}; choose one of {', '.join(complete) or 'none'}")
    return results.pictures[options.trial]
