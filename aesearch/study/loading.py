"""Loading of study files, with errors that name the line and the nearest names."""

import importlib.util
import os
import re
import sys
import traceback
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Literal

import optuna

from aesearch.errors import UserError, nearest
from aesearch.study.study import Study


def size() -> Literal["cpu", "gpu"]:
    """Return the size of study that ``run --size`` asked for.

    "cpu" is a study that two CPU cores finish in minutes, "gpu" a larger one for a GPU.
    """
    return "gpu" if os.environ.get("AESEARCH_SIZE") == "gpu" else "cpu"


def load_study(path: Path) -> Study:
    """Execute a study file and return its study, checked on a sample of its space.

    Raises UserError where the file is missing, fails, or uses an unknown name. The error names the line.
    """
    if not path.is_file():
        studies = [str(file) for file in sorted(path.parent.glob("*.py"))] or ["studies/beta_sweep.py"]
        raise UserError(f"there is no study file {path}: {nearest(str(path), studies)}")
    spec = importlib.util.spec_from_file_location(f"aesearch_study_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    try:
        spec.loader.exec_module(module)
        study = getattr(module, "study", None)
        if not isinstance(study, Study):
            raise UserError("the study file has no study; end it with study = Study(...)")
        study = replace(study, path=path)
        study.check()
    except Exception as error:
        raise UserError(f"{_place(error, path)}: {_explain(error)}") from error
    return study


def _place(error: Exception, path: Path) -> str:
    """Name the study file and, where it is known, the line that an error came from."""
    if isinstance(error, SyntaxError):
        return f"{path}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path.absolute()]
    return f"{path}:{frames[-1].lineno}" if frames else str(path)


def _explain(error: Exception) -> str:
    """Put an error of a study file in one line.

    For an unknown name it gives the nearest valid ones.
    """
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    if match := re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text):
        value = next((v for m in _modules() if is_dataclass(v := getattr(m, match[1], None))), None)
        if value is not None:
            names = [f.name for f in fields(value) if f.init]
            return f"{match[1]} has no field {match[2]!r}: {nearest(match[2], names)}"
    if match := re.search(r"cannot import name '(\w+)' from '(aesearch[\w.]*)'", text):
        known = [name for name in dir(sys.modules[match[2]]) if not name.startswith("_")]
        return f"{match[2]} has no {match[1]!r}: {nearest(match[1], known)}"
    return f"{type(error).__name__}: {text}"


def _modules() -> list[ModuleType]:
    return [module for name, module in sys.modules.items() if name.startswith("aesearch.")]
