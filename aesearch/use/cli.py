"""Options of ``use``.

Nothing slow is imported here, so that ``--help`` is instant.
"""

import argparse
from pathlib import Path

from aesearch.use.actions import ACTIONS


def add_use(use: argparse.ArgumentParser, parser_class: type[argparse.ArgumentParser]) -> None:
    """Add the options of ``use`` and of its actions to its parser.

    parser_class: the class of the parsers of the actions.
    """
    use.add_argument(
        "model", metavar="MODEL", help="a study (file or name), an MLflow run id, or a folder with a model in it"
    )
    actions = use.add_subparsers(dest="action", required=True, parser_class=parser_class, metavar="ACTION")
    for name, one in ACTIONS.items():
        action = actions.add_parser(name, help=one.help, allow_abbrev=False)
        action.add_argument(
            "--best", metavar="METRIC", help="where MODEL is a study: take its best trial in this metric (the knee)"
        )
        action.add_argument(
            "--per",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="condition whose best trial is taken, of a study with per=...; repeatable",
        )
        action.add_argument("--trial", type=int, metavar="N", help="where MODEL is a study: take this trial")
        action.add_argument("--replica", type=int, metavar="N", help="replica to use (that with the lowest val/loss)")
        action.add_argument("--out", type=Path, metavar="DIR", help="folder to write into (use/MODEL/ACTION)")
        action.add_argument("--data", type=Path, metavar="DIR", help="data sets, as for run")
        action.add_argument(
            "--tracking-uri", default="sqlite:///mlflow.db", metavar="URI", help="store or server of MLflow"
        )
        one.add_options(action)
        action.set_defaults(parser=action)
