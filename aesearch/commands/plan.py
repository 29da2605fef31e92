"""Run ``plan``: what a study would cost."""

import argparse

from aesearch.commands.options import data_folder, overridden
from aesearch.escapes import say


def plan(options: argparse.Namespace) -> int:
    """Print what a study would cost."""
    study = overridden(options)

    from aesearch.plan import lines, make_plan

    say(*lines(make_plan(study, data_folder(options.data), study.n_trials or len(study.grid())), study))
    return 0
