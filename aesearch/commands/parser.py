"""Parser of the command line.

Nothing heavy is imported here, so that ``--help`` is instant.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from aesearch.commands.options import DEFAULT_HOME, DEFAULT_URI
from aesearch.errors import nearest
from aesearch.escapes import printable
from aesearch.use.cli import add_use


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line with the nearest valid names."""

    def error(self, message: str) -> NoReturn:
        """Print one line, of an unknown command with the nearest known, and exit with 2."""
        if match := re.search(r"invalid choice: '?(\S+?)'? \(choose from (.*)\)", message):
            commands = re.findall(r"[\w-]+", match[2])
            message = f"unknown command {match[1]!r}: {nearest(match[1], commands)}"
        self.exit(2, f"aesearch: {printable(message)}\n")


def count(text: str) -> int:
    """Read a whole number of at least 1, for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, but got {text!r}")
    return int(text)


def make_parser() -> Parser:
    """Make the parser of all commands."""
    parser = Parser(prog="aesearch", description="Hyperparameter studies of autoencoders.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser, metavar="COMMAND")

    run = commands.add_parser("run", help="run a study: search, track, report", allow_abbrev=False)
    run.add_argument("study", type=Path, metavar="STUDY", help="a study file, such as studies/beta_sweep.py")
    _add_overrides(run)
    where = run.add_mutually_exclusive_group()
    where.add_argument("--address", metavar="ADDR", help="of a Ray cluster, such as auto; else a Ray of its own")
    where.add_argument("--no-ray", action="store_true", help="train in this process, one trial at a time: to debug")
    _add_store(run)
    _add_folders(run)
    run.add_argument("--fresh", action="store_true", help="start over; the study's old state is moved aside")
    run.add_argument("--retry-failed", action="store_true", help="try the failed trials once more")
    run.add_argument("--fork", metavar="NAME", help="a new study of that name, whose first trials are this one's best")
    run.add_argument("--time-budget", type=_parsed("duration"), metavar="TIME", help="such as 2h; what is left goes on")
    run.add_argument("--disk-budget", type=_parsed("size"), metavar="SIZE", help="of the study's files, such as 20GB")
    run.add_argument("--yes", action="store_true", help="do not ask before a study of more than an hour")
    run.add_argument("-v", "--verbose", action="store_true", help="let Ray speak")
    run.set_defaults(function="run:run", parser=run)

    show = commands.add_parser("show", help="show what a study would do", allow_abbrev=False)
    show.add_argument("study", type=Path, metavar="STUDY")
    show.set_defaults(function="show:show", parser=show)

    plan = commands.add_parser("plan", help="what a study would cost, by a short probe", allow_abbrev=False)
    plan.add_argument("study", type=Path, metavar="STUDY")
    _add_overrides(plan)
    _add_data(plan)
    plan.set_defaults(function="plan:plan", parser=plan)

    report = commands.add_parser("report", help="write a study's report again, from MLflow", allow_abbrev=False)
    report.add_argument("study", metavar="STUDY_OR_NAME", help="a study file or the name of a study")
    _add_store(report)
    report.add_argument("--out", type=Path, default=Path("reports"), metavar="DIR", help="of the report (reports)")
    report.set_defaults(function="report:report", parser=report)

    rescore = commands.add_parser(
        "rescore", help="add a metric to the kept models of a study, without training", allow_abbrev=False
    )
    rescore.add_argument("study", metavar="STUDY_OR_NAME", help="a study file or the name of a study")
    rescore.add_argument(
        "--metric", action="append", required=True, metavar="NAME", help="such as dci, udr or likelihood; repeatable"
    )
    rescore.add_argument("--protocol", default="dlib", metavar="NAME", help="of metrics on codes and factors (dlib)")
    rescore.add_argument("--workers", type=count, metavar="N", help="processes at once (one per core)")
    _add_store(rescore)
    _add_folders(rescore)
    rescore.set_defaults(function="rescore:rescore", parser=rescore)

    sync = commands.add_parser("sync", help="send MLflow what it lacks of a study", allow_abbrev=False)
    sync.add_argument("study", metavar="STUDY_OR_NAME", help="a study file or the name of a study")
    _add_store(sync)
    _add_home(sync)
    sync.set_defaults(function="sync:sync", parser=sync)

    use = commands.add_parser(
        "use", help="use a trained model: encode, sample, detect, export, ...", allow_abbrev=False
    )
    add_use(use, Parser)
    use.set_defaults(function="use:use")

    ui = commands.add_parser("ui", help="open the MLflow UI on 127.0.0.1", allow_abbrev=False)
    _add_store(ui)
    ui.add_argument("--port", type=count, default=5000, metavar="N", help="(5000)")
    ui.set_defaults(function="ui:ui", parser=ui)
    return parser


def _parsed(name: str) -> Callable[[str], float]:
    """Make an argparse type of the function of that name in aesearch.search.budgets."""

    def parse(text: str) -> float:
        from aesearch.search import budgets

        try:
            return float(getattr(budgets, name)(text))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trials", type=count, metavar="N", help="number of trials, instead of the file's")
    parser.add_argument("--epochs", type=count, metavar="N", help="epochs of each trial")
    parser.add_argument("--replicas", type=count, metavar="N", help="seeds of each trial")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the sampler and of all replicas")
    parser.add_argument("--max-concurrent", type=count, metavar="N", help="trials at once, at most")
    parser.add_argument("--size", choices=["cpu", "gpu"], help="of a study file that has two sizes (cpu)")


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tracking-uri", default=DEFAULT_URI, metavar="URI", help=f"MLflow's store or server ({DEFAULT_URI})"
    )


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("reports"), metavar="DIR", help="of the report (reports)")
    _add_home(parser)
    _add_data(parser)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="of the data sets ($AESEARCH_DATA, else the user's cache folder)"
    )


def _add_home(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--home", type=Path, default=DEFAULT_HOME, metavar="DIR", help="of the studies' state (.aesearch)"
    )
