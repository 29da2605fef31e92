"""Compare the time that `plan` foretells with the time of the study.

    python benchmarks/plan.py [STUDY ...] [--epochs N] [--trials N] [--data DIR]

Plans each study (the main job, where none is named), then runs it, with the same epochs and trials. The estimate is of
the whole of ``run``, from its start to its report.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from table import print_table

from aesearch.commands.options import data_folder
from aesearch.plan import Plan, lines, make_plan
from aesearch.study import load_study

ROOT = Path(__file__).parents[1]


def planned(file: Path, data: Path, epochs: int | None, trials: int | None) -> Plan:
    study = load_study(file)
    study = replace(study, overrides={"epochs": epochs} if epochs else {}, n_trials=trials or study.n_trials)
    plan = make_plan(study, data, study.n_trials or len(study.grid()))
    print("\n".join(lines(plan, study)), flush=True)
    return plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", type=Path, default=[ROOT / "studies" / "beta_sweep.py"])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--data", type=Path, help="where data sets are, or are rendered to first")
    asked = parser.parse_args()
    data = data_folder(asked.data)
    given = {"--epochs": asked.epochs, "--trials": asked.trials}
    options = [word for name, value in given.items() if value for word in (name, str(value))]
    options += ["--data", str(data), "--yes"]
    rows = []
    for file in asked.studies:
        plan = planned(file, data, asked.epochs, asked.trials)
        command = [sys.executable, "-m", "aesearch", "run", str(file.absolute()), *options]
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True)
            real = time.perf_counter() - begun
        share = f"{plan.low:.0f} to {plan.high:.0f} s"
        rows.append([file.stem, f"{plan.seconds:.0f} s", share, f"{real:.0f} s", f"{plan.seconds / real:.2f}"])
    print_table(["study", "plan", "its range", "run", "plan over run (asked: 0.75 to 1.25)"], rows)


if __name__ == "__main__":
    main()
