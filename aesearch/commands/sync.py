"""Run ``sync``: send MLflow what it lacks of a study."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from aesearch.commands.options import named_study
from aesearch.commands.report import register_chosen, write_report
from aesearch.escapes import say
from aesearch.rights import private_files

if TYPE_CHECKING:
    pass


@private_files()
def sync(options: argparse.Namespace) -> int:
    """Send MLflow what it lacks of a study that is not being run.

    All comes from the records.
    """
    name, _ = named_study(options.study)

    import json
    from dataclasses import replace

    from aesearch.records.results import local_results
    from aesearch.search.state import hold_state
    from aesearch.tracking import send_all, shown

    with hold_state(options.home, name) as folder:
        info = json.loads((folder / "study.json").read_text())
        sent = send_all(options.tracking_uri, info, folder / "trials")
        results = replace(local_results(folder), runs=sent.runs)
        if not results.trials.empty and not sent.reported:
            with TemporaryDirectory() as out:
                sent.add_report(write_report(results, Path(out)).parent)
        if sent.finished:
            register_chosen(options.tracking_uri, results)
    what = f"{sent.points:,} points of {sent.trials} trials sent" if sent.trials else "nothing was missing"
    say(f"{name}: {what}; {shown(options.tracking_uri)} has all of {len(sent.runs)} trials")
    return 0
