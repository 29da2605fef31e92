"""The command line: ``python -m aesearch``. Each command imports what it needs, so that ``--help`` is instant."""

import argparse
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from aesearch.errors import UserError, nearest
from aesearch.use.cli import add_use, resolve

if TYPE_CHECKING:
    from aesearch.budgets import Budget
    from aesearch.ledger import Ledger
    from aesearch.results import Results
    from aesearch.study import Study
    from aesearch.tracking import Tracker
    from aesearch.tuner import Where

DEFAULT_URI = "sqlite:///mlflow.db"
ASKED_SECONDS = 3600
DEFAULT_HOME = Path(".aesearch")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line with the nearest valid names."""

    def error(self, message: str) -> NoReturn:
        if match := re.search(r"invalid choice: '?(\S+?)'? \(choose from (.*)\)", message):
            commands = re.findall(r"[\w-]+", match[2])
            message = f"unknown command {match[1]!r}: {nearest(match[1], commands)}"
        self.exit(2, f"aesearch: {message}\n")


def count(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, but got {text!r}")
    return int(text)


def make_parser() -> Parser:
    parser = Parser(prog="aesearch", description="Hyperparameter studies of autoencoders.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser, metavar="COMMAND")

    run = commands.add_parser("run", help="run a study: search, track, report", allow_abbrev=False)
    run.add_argument("study", type=Path, metavar="STUDY", help="a study file, such as studies/beta_sweep.py")
    _add_overrides(run)
    run.add_argument("--address", metavar="ADDR", help="of a Ray cluster, such as auto; else a Ray of its own")
    _add_store(run)
    _add_folders(run)
    run.add_argument("--fresh", action="store_true", help="start over; the study's old state is moved aside")
    run.add_argument("--retry-failed", action="store_true", help="try the failed trials once more")
    run.add_argument("--fork", metavar="NAME", help="a new study of that name, whose first trials are this one's best")
    run.add_argument("--time-budget", type=_parsed("duration"), metavar="TIME", help="such as 2h; what is left goes on")
    run.add_argument("--disk-budget", type=_parsed("size"), metavar="SIZE", help="of the study's files, such as 20GB")
    run.add_argument("--yes", action="store_true", help="do not ask before a study of more than an hour")
    run.add_argument("-v", "--verbose", action="store_true", help="let Ray speak")
    run.set_defaults(function=run_command, parser=run)

    show = commands.add_parser("show", help="show what a study would do", allow_abbrev=False)
    show.add_argument("study", type=Path, metavar="STUDY")
    show.set_defaults(function=show_command, parser=show)

    plan = commands.add_parser("plan", help="what a study would cost, by a short probe", allow_abbrev=False)
    plan.add_argument("study", type=Path, metavar="STUDY")
    _add_overrides(plan)
    _add_data(plan)
    plan.set_defaults(function=plan_command, parser=plan)

    report = commands.add_parser("report", help="write a study's report again, from MLflow", allow_abbrev=False)
    report.add_argument("study", metavar="STUDY_OR_NAME", help="a study file or the name of a study")
    _add_store(report)
    report.add_argument("--out", type=Path, default=Path("reports"), metavar="DIR", help="of the report (reports)")
    report.set_defaults(function=report_command, parser=report)

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
    rescore.set_defaults(function=rescore_command, parser=rescore)

    sync = commands.add_parser("sync", help="send MLflow what it lacks of a study", allow_abbrev=False)
    sync.add_argument("study", metavar="STUDY_OR_NAME", help="a study file or the name of a study")
    _add_store(sync)
    _add_home(sync)
    sync.set_defaults(function=sync_command, parser=sync)

    use = commands.add_parser(
        "use", help="use a trained model: encode, sample, detect, export, ...", allow_abbrev=False
    )
    add_use(use, Parser)
    use.set_defaults(function=use_command)

    ui = commands.add_parser("ui", help="open the MLflow UI on 127.0.0.1", allow_abbrev=False)
    _add_store(ui)
    ui.add_argument("--port", type=count, default=5000, metavar="N", help="(5000)")
    ui.set_defaults(function=ui_command, parser=ui)
    return parser


def _parsed(name: str) -> Callable[[str], float]:
    """An argparse type by the function of that name in aesearch.budgets."""

    def parse(text: str) -> float:
        from aesearch import budgets

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


def main(arguments: list[str] | None = None) -> int:
    """Run a command. The exit status: 0 done, 1 no trial completed, 2 unusable input, 130 interrupted."""
    parser = make_parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = options.parser._option_string_actions
        parser.error(f"unknown option or argument {unknown[0]!r}: {nearest(unknown[0], known)}")
    try:
        status: int = options.function(options)
    except UserError as error:
        print(f"aesearch: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("aesearch: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output, such as head, has enough; nothing more can be said, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def run_command(options: argparse.Namespace) -> int:
    """Search, then report. What is finished already, from an earlier call of the same command, is kept."""
    with _interrupted_in_order():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    study = _overridden(options)
    if options.fork:
        study = _forked(study, options.fork)

    # Only now: a wrong study file is to be told before the slow imports.
    from aesearch.budgets import Budget
    from aesearch.ledger import Ledger, move_aside
    from aesearch.tracking import Tracker
    from aesearch.tuner import Where

    data = _data_folder(options.data)
    for dataset in dict.fromkeys(config.data for _, config in study.probes):
        for remark in dataset.load(data).remarks:
            print(f"{study.name}: {remark}")
    if options.fresh and (aside := move_aside(study, options.home)):
        print(f"{study.name}: the old state is in {aside}")
    ledger = Ledger.open(study, options.home)
    try:
        if options.retry_failed:
            print(f"{study.name}: {ledger.retry_failed()} failed trials are tried again")
        budget = Budget(options.time_budget, options.disk_budget)
        short = options.time_budget is not None and options.time_budget <= ASKED_SECONDS
        if not (options.yes or options.address or short or ledger.trials()):
            _ask(study, data, ledger.total)
        tracker = Tracker(options.tracking_uri, ledger.describe(), ledger.folder / "trials")
        tracker.open()
        status = "FAILED"
        try:
            status = _search(ledger, Where(options.address, data, options.verbose), tracker.notify, budget)
        finally:
            tracker.close(status)
        if tracker.problem:
            _tell_missing(options, study.name, tracker)
        if budget.reached:
            done = f"{len(ledger.finished())} of {ledger.total} trials"
            print(f"{study.name}: the {budget.reached} budget is used up after {done}; the same command goes on")
        elif status == "KILLED":
            print(f"{study.name}: interrupted; the same command goes on")
            return 130
        if not ledger.finished():
            print(f"{study.name}: no trial has ended, so there is no report")
            return 1
        _finish(options, ledger, tracker)
        return 0 if ledger.counts()["COMPLETE"] else 1
    finally:
        ledger.close()


def _search(ledger: "Ledger", where: "Where", notify: Callable[[int], None], budget: "Budget") -> str:
    """Run the trials that are missing and compare all models: FINISHED, or KILLED by a person or the budget."""
    from aesearch.progress import Progress
    from aesearch.tuner import run_study

    name, status = ledger.study.name, "KILLED"
    progress = Progress(name, ledger.total, ledger.counts, ledger.best)
    with suppress(KeyboardInterrupt):
        run_study(ledger, where, notify, progress.update, budget)
        status = "FINISHED"
    progress.close()
    _tell_remarks(ledger)
    if status == "FINISHED" and ledger.study.comparisons and ledger.counts()["COMPLETE"]:
        status = "KILLED"
        with suppress(KeyboardInterrupt):
            _compare(ledger, where.data, notify)
            status = "FINISHED"
    return status


def _tell_remarks(ledger: "Ledger") -> None:
    """Why trials failed, and what else a person should know of them."""
    name = ledger.study.name
    for reason, times in ledger.failures().items():
        print(f"{name}: {times} failed: {reason}")
    for key in sorted(ledger.trials()):
        for remark in ledger.record(key).remarks():
            print(f"{name}: trial {key}: {remark}")


def _tell_missing(options: argparse.Namespace, name: str, tracker: "Tracker") -> None:
    from aesearch.tracking import shown

    what = f"{tracker.missing} of its trials" if tracker.missing else "some of it"
    home = "" if options.home == DEFAULT_HOME else f" --home {options.home}"
    command = f"python -m aesearch sync {name}{home}{_store_option(shown(options.tracking_uri))}"
    print(f"{name}: MLflow lacks {what}: {tracker.problem}; when it is back: {command}")


def _finish(options: argparse.Namespace, ledger: "Ledger", tracker: "Tracker") -> None:
    """The report of a study, from MLflow or, where that is lost, from the records; its knee is registered."""
    from aesearch.results import local_results
    from aesearch.tracking import read_study, shown

    name, results = ledger.study.name, None
    if not tracker.problem:
        try:
            results = read_study(options.tracking_uri, name)
        except UserError as error:
            print(f"{name}: the report is of the records here: {error}")
    page = _write_report(results or local_results(ledger.folder), options.out)
    if results:
        if remark := tracker.add_report(page.parent):
            print(f"{name}: MLflow lacks the files of the report: {remark}")
        _register_knee(options.tracking_uri, results)
    uri = shown(options.tracking_uri)
    print(f"report: {page}\nMLflow: {uri if uri.startswith('http') else f'python -m aesearch ui{_store_option(uri)}'}")


@contextmanager
def _interrupted_in_order() -> Iterator[None]:
    """SIGINT or SIGTERM interrupts once. Those that come while things are put in order would leave them half done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _overridden(options: argparse.Namespace) -> "Study":
    """The study of the file, with what the command line sets instead."""
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


def _forked(study: "Study", name: str) -> "Study":
    """A study of that name, which begins with the best trials of the one that the file is named after."""
    from dataclasses import replace

    from aesearch.study import Best

    return replace(study, name=name, enqueue=(*study.enqueue, Best(study.name)), forked_from=study.name)


def _ask(study: "Study", data: Path, trials: int) -> None:
    """Have a person agree to more than an hour. Raises UserError where nobody does."""
    from aesearch.plan import lines, make_plan, quick

    if quick(study, data, trials) < ASKED_SECONDS:
        return
    plan = make_plan(study, data, trials)
    if plan.seconds < ASKED_SECONDS:
        return
    print("\n".join(lines(plan, study)))
    if sys.stdin.isatty() and input("Run it? [y/N] ").strip().lower() in ("y", "yes"):
        return
    raise UserError(
        f"more than an hour must be agreed to, but {study.name} takes longer; write --yes or --time-budget 1h"
    )


def plan_command(options: argparse.Namespace) -> int:
    """Print what a study would cost."""
    study = _overridden(options)

    from aesearch.plan import lines, make_plan

    print("\n".join(lines(make_plan(study, _data_folder(options.data), study.n_trials or len(study.grid())), study)))
    return 0


def _data_folder(given: Path | None) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aesearch"
    return (given or Path(os.environ.get("AESEARCH_DATA") or cache)).absolute()


def _store_option(uri: str) -> str:
    return "" if uri == DEFAULT_URI else f" --tracking-uri {uri}"


def _write_report(results: "Results", out: Path) -> Path:
    import optuna

    from aesearch.report import write_report

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return write_report(results, out / results.info["name"])


def _register_knee(uri: str, results: "Results") -> None:
    """Name the model of the knee in MLflow, where there is one."""
    from aesearch.report import best_trial
    from aesearch.tracking import register_knee

    name = results.info["name"]
    if results.trials.empty or "COMPLETE" not in set(results.trials["state"]):
        return
    key = best_trial(results)
    if (results.pictures[key] / "MLmodel").exists() and (remark := register_knee(uri, name, results.runs[key], key)):
        print(f"{name}: {remark}")


def show_command(options: argparse.Namespace) -> int:
    """Print the question, the space and three configurations."""
    from aesearch.study import load_study

    study = load_study(options.study)
    print(study.question, end="\n\n")
    print("metrics:", ", ".join(f"{metric.direction} {metric.name}" for metric in study.searched))
    print("trials:", study.n_trials or len(study.grid()), f"by {study.sampler}")
    print("space:")
    for name, distribution in study.distributions.items():
        print(f"  {name}: {distribution}")
    for trial, config in study.probes[:3]:
        parameters = sum(tensor.numel() for tensor in config.build().parameters())
        print(f"\n{trial.params}\n  {parameters:,} parameters per replica\n  {config}")
    return 0


def report_command(options: argparse.Namespace) -> int:
    """Write the report of a study again, from MLflow alone."""
    from aesearch.tracking import read_study

    name, _ = _named_study(options.study)
    print(f"report: {_write_report(read_study(options.tracking_uri, name), options.out)}")
    return 0


def sync_command(options: argparse.Namespace) -> int:
    """Send MLflow what it lacks of a study that is not being run, from the records alone."""
    name, _ = _named_study(options.study)

    import json
    from dataclasses import replace

    from aesearch.ledger import hold_state
    from aesearch.results import local_results
    from aesearch.tracking import send_all, shown

    with hold_state(options.home, name) as folder:
        info = json.loads((folder / "study.json").read_text())
        sent = send_all(options.tracking_uri, info, folder / "trials")
        results = replace(local_results(folder), runs=sent.runs)
        if sent.finished:
            _register_knee(options.tracking_uri, results)
    what = f"{sent.points:,} points of {sent.trials} trials sent" if sent.trials else "nothing was missing"
    print(f"{name}: {what}; {shown(options.tracking_uri)} has all of {len(sent.runs)} trials")
    return 0


def rescore_command(options: argparse.Namespace) -> int:
    """Measure metrics of the kept models, add them to their runs and records, and write the report again."""
    name, file = _named_study(options.study)

    from aesearch.rescore import chosen, compare, default_workers, rescore
    from aesearch.scores import Comparison
    from aesearch.tracking import read_study

    results = read_study(options.tracking_uri, name)
    wanted = chosen(options.metric, options.protocol, results.protocols)
    scores = [score for score in wanted if not isinstance(score, Comparison)]
    comparisons = [score for score in wanted if isinstance(score, Comparison)]
    data = _data_folder(options.data)
    count = 0
    for key, found in rescore(results, scores, data, options.workers or default_workers(), file):
        count += 1
        if isinstance(found, UserError):
            print(f"{name}: trial {key} not scored: {found}")
            continue
        _keep_scores(options, results, key, found)
        print(f"{name}: trial {key} scored")
    if scores and not count:
        print(f"{name}: all complete trials have these metrics")
    for key, found in compare(results, comparisons, data, file):
        _keep_scores(options, results, key, found)
    if comparisons:
        print(f"{name}: all models compared")
    print(f"report: {_write_report(read_study(options.tracking_uri, name), options.out)}")
    return 0


def _compare(ledger: "Ledger", data: Path, notify: Callable[[int], None]) -> None:
    """Measure what a study asks of all its models together."""
    from aesearch.records import merged
    from aesearch.rescore import ACROSS, compare
    from aesearch.results import local_results

    study, results = ledger.study, local_results(ledger.folder)
    complete = results.trials[results.trials["state"] == "COMPLETE"]
    names = [f"val/{ACROSS}{name}" for comparison in study.comparisons for name in comparison.names]
    if set(names) <= set(complete.columns) and complete[names].notna().all(axis=None):
        return
    print(f"{study.name}: comparing all models")
    for key, found in compare(results, study.comparisons, data, study.path):
        record = ledger.record(key)
        record.rescore(merged(record.read("scores.json"), found))
        notify(key)


def _keep_scores(options: argparse.Namespace, results: "Results", key: int, found: dict[str, Any]) -> None:
    """Add metrics to a trial's run, and to its record where the study's state is at hand."""
    from aesearch.records import Record, merged
    from aesearch.tracking import add_scores

    known = Record(results.pictures[key].parent)
    scores = merged(known.read("scores.json"), found)
    own = Record(options.home.absolute() / results.info["name"] / "trials" / f"{key:05d}")
    if own.read("trial.json") == known.read("trial.json"):
        own.rescore(scores)
    add_scores(options.tracking_uri, results.runs[key], scores, known)


def _named_study(text: str) -> tuple[str, Path | None]:
    """The name of a study, and its file where that was given."""
    if not text.endswith(".py"):
        return text, None
    from aesearch.study import load_study

    return load_study(Path(text)).name, Path(text)


def use_command(options: argparse.Namespace) -> int:
    """Do what is asked with a trained model."""
    folder = _find_model(options.model, options.best, options.tracking_uri)

    from aesearch.model import load_model
    from aesearch.use.inputs import Source

    model = load_model(folder, options.replica)
    name = Path(options.model).stem or "model"
    out = options.out or Path("use") / name / options.action
    out.mkdir(parents=True, exist_ok=True)
    source = Source(model, options, _data_folder(options.data))
    for line in resolve(options.place)(model, source, out, options):
        print(line)
    return 0


def _find_model(name: str, best: str | None, uri: str) -> Path:
    """The folder of a model: itself, of an MLflow run, or of a study's knee or best trial. Raises UserError."""
    folder = Path(name)
    if folder.is_dir():
        found = next(
            (f for f in (folder, folder / "artifacts", folder / "model") if (f / "config.json").exists()), None
        )
        if found is None:
            raise UserError(f"a model folder must hold config.json and model.safetensors, but {folder} does not")
        return found

    from aesearch.tracking import fetch_model, read_study

    if re.fullmatch(r"[0-9a-f]{32}", name):
        return fetch_model(uri, name)
    name, _ = _named_study(name)

    from aesearch.report import best_trial

    results = read_study(uri, name)
    key = best_trial(results, best)
    print(f"{name}: trial {key}, {f'the best in {best}' if best else 'its knee'}")
    return results.pictures[key]


def ui_command(options: argparse.Namespace) -> int:
    """Become the MLflow server. One worker: with more, every request waits 40 ms for a delayed acknowledgement."""
    path = Path(options.tracking_uri.removeprefix("sqlite:///"))
    if options.tracking_uri.startswith("http"):
        raise UserError(f"ui serves a store, but {options.tracking_uri} is a server already: open it in a browser")
    if options.tracking_uri.startswith("sqlite:///") and not path.exists():
        raise UserError(f"there is no MLflow store {path}; run a study first, or name the store with --tracking-uri")
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    store = ["--backend-store-uri", options.tracking_uri]
    server = ["--host", "127.0.0.1", "--port", str(options.port), "--workers", "1"]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *store, *server])


if __name__ == "__main__":
    sys.exit(main())
