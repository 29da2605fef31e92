"""Options that several commands share, turned into what they mean."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aesearch.study import Study

DEFAULT_URI = "sqlite:///mlflow.db"
DEFAULT_HOME = Path(".aesearch")


def overridden(options: argparse.Namespace) -> "Study":
    """Load the study of the file, with what the command line sets instead."""
    from dataclasses import replace

    from aesearch.study import load_study

    if options.size:
        os.environ["AESEARCH_SIZE"] = options.size
    study = load_study(options.study)
    given = {"n_trials": options.trials, "seed": options.seed, "max_concurrent": options.max_concurrent}
    overrides = {"epochs": options.epochs, "replicas": options.replicas}
    return replace(
        study,
        overrides={name: value for name, value in overrides.items() if value is not None},
        **{name: value for name, value in given.items() if value is not None},
    )


def named_study(text: str) -> tuple[str, Path | None]:
    """Find the name of a study, and its file where that was given."""
    if not text.endswith(".py"):
        return text, None
    from aesearch.study import load_study

    return load_study(Path(text)).name, Path(text)


def data_folder(given: Path | None) -> Path:
    """Choose the folder of the data sets: that given, $AESEARCH_DATA, or the cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aesearch"
    return (given or Path(os.environ.get("AESEARCH_DATA") or cache)).absolute()


def store_option(uri: str) -> str:
    """Write the option that names a store, with a space before; "" for the default."""
    return "" if uri == DEFAULT_URI else f" --tracking-uri {uri}"
