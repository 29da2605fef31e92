"""Measure the main job: wall time, peak memory, and the trade-off that it finds.

    python benchmarks/main_job.py [--keep DIR]

Runs ``python -m aesearch run studies/beta_sweep.py`` in an empty folder (DIR, to look at it afterwards). Memory is
the sum over the process tree of the proportional set size (PSS), sampled every second.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil
from table import print_table

from aesearch.tracking import read_study

ROOT = Path(__file__).parents[1]


def memory(process: psutil.Process) -> int:
    """Sum the PSS of a process and all below it, in bytes."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path)
    folder = parser.parse_args().keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "studies").symlink_to(ROOT / "studies")
    started, peak = time.perf_counter(), 0
    command = [sys.executable, "-m", "aesearch", "run", "studies/beta_sweep.py"]
    with subprocess.Popen(command, cwd=folder) as job:
        tree = psutil.Process(job.pid)
        while job.poll() is None:
            peak = max(peak, memory(tree))
            time.sleep(1)
    wall = time.perf_counter() - started
    if job.returncode:
        sys.exit(f"the main job ended with status {job.returncode}")
    trials = pd.read_csv(folder / "reports" / "beta_sweep" / "trials.csv")
    timed = read_study(f"sqlite:///{folder.absolute()}/mlflow.db", "beta_sweep").trials
    busy = (timed["train_seconds"] + timed["metric_seconds"]).sum() / (os.cpu_count() or 1)
    low = trials[trials["beta"] < 0.5]
    spearman = trials["beta"].corr(trials["test/mse"], method="spearman")
    print_table(
        ["what", "asked", "measured"],
        [
            ["wall time", "at most 600 s", f"{wall:.0f} s"],
            ["trials x replicas", "14 x 4", f"{len(trials)} x 4, {(trials['state'] == 'COMPLETE').sum()} complete"],
            ["peak memory, all processes", "at most 6 GiB", f"{peak / 2**30:.2f} GiB"],
            ["Spearman of beta with test/mse", "at least 0.8", f"{spearman:.3f}"],
            [
                f"best test/mig over the median of {len(low)} trials with beta < 0.5",
                "at least 2",
                f"{trials['test/mig'].max():.3f} / {low['test/mig'].median():.3f} = "
                f"{trials['test/mig'].max() / low['test/mig'].median():.2f}",
            ],
            ["wall time over training and metric time per core", "at most 1.25", f"{wall / busy:.3f}"],
        ],
    )


if __name__ == "__main__":
    main()
