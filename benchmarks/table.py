"""Print results: a Markdown table with the machine, the date and the commit."""

import datetime
import os
import platform
from collections.abc import Sequence

from tabulate import tabulate

from aesearch.search.state import code_version


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print ``rows`` under ``headers``, below date, version and processor."""
    today = datetime.datetime.now(tz=datetime.UTC).date()
    print(f"\n{today}, {code_version()}, {os.cpu_count()} x {_processor()}\n", flush=True)
    print(tabulate(rows, headers, tablefmt="github"), flush=True)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
