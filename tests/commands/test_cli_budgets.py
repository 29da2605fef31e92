"""The command line where it plans, stops at a budget, goes on from another study, and gives some trials more seeds."""

import json
import shutil

import pandas as pd
import pytest
from helpers.command_line import STUDY
from helpers.stores import new_store


@pytest.fixture
def one_at_a_time(folder):
    new_store(folder / "mlflow.db")
    (folder / "small.py").write_text(STUDY.replace("max_concurrent=2", "max_concurrent=1"))
    return folder


def test_plan_says_what_a_study_would_cost(one_at_a_time, here):
    plan = here("plan", "small.py", "--trials", "7", "--replicas", "1")
    assert (plan.returncode, plan.stderr) == (0, "")
    first, second, third, told = plan.stdout.splitlines()
    assert first == "small: 7 trials of 1 replicas by tpe, 1 at once, each with cpus=1"
    assert second.startswith("a trial: ")
    assert third.startswith("the study: about ")
    assert told.startswith("a t test finds differences between two trials, ")
    assert not (one_at_a_time / ".aesearch").exists(), "a plan leaves nothing"


def test_a_study_of_hours_must_be_agreed_to(one_at_a_time, here):
    run = here("run", "small.py", "--trials", "100000", "--epochs", "300")
    assert run.returncode == 2
    assert "small: 100000 trials of 2 replicas" in run.stdout
    assert run.stderr.splitlines() == [
        "aesearch: small takes more than an hour, and nobody has confirmed it; write --yes or --time-budget 1h"
    ]


def test_a_budget_below_any_trial_leaves_no_report(one_at_a_time, here):
    run = here("run", "small.py", "--epochs", "100000", "--time-budget", "1s")
    assert (run.returncode, run.stderr) == (1, "")
    assert run.stdout.splitlines()[-2:] == [
        "small: the time budget is used up after 0 of 4 trials; the same command goes on",
        "small: no trial has ended, so there is no report",
    ]
    report = here("report", "small")
    assert report.returncode == 2
    assert report.stderr == "aesearch: no trial of small has ended, so there is nothing to report; run the study\n"


@pytest.mark.slow
def test_a_budget_ends_with_a_report_and_a_fork_starts_best(one_at_a_time, here):
    command = ("run", "small.py", "--trials", "1000", "--time-budget", "8s")
    run = here(*command)
    while "there is no report" in run.stdout:
        # On a machine that is busy.
        run = here(*command)
    assert (run.returncode, run.stderr) == (0, "")
    said, page, _ = run.stdout.splitlines()[-3:]
    assert said.startswith("small: the time budget is used up after ")
    assert said.endswith(" of 1000 trials; the same command goes on")
    assert page == "report: reports/small/index.html"
    trials = pd.read_csv(one_at_a_time / "reports" / "small" / "trials.csv")
    done = int(said.split("after ")[1].split(" of")[0])
    assert 1 <= done == len(trials) < 1000

    changed = STUDY.replace("epochs=3", "epochs=4").replace("n_trials=4", "n_trials=3")
    (one_at_a_time / "small.py").write_text(changed)
    refused = here("run", "small.py")
    assert refused.returncode == 2
    assert "config.epochs was 3, is 4; undo the change, start a new study from it with --fork NAME" in refused.stderr
    fork = here("run", "small.py", "--fork", "longer")
    assert (fork.returncode, fork.stderr) == (0, "")
    first = pd.read_csv(one_at_a_time / "reports" / "longer" / "trials.csv").set_index("trial")
    known = trials[["latent_dim", "beta"]].to_records(index=False).tolist()
    if done >= 3:
        assert all((int(first.loc[key, "latent_dim"]), first.loc[key, "beta"]) in known for key in range(3))
    info = json.loads((one_at_a_time / ".aesearch" / "longer" / "study.json").read_text())
    assert info["forked_from"] == "small"

    shutil.rmtree(one_at_a_time / ".aesearch" / "longer")
    more = here("run", "small.py", "--fork", "longer", "--disk-budget", "1MB", "--fresh", "--trials", "1000")
    assert (more.returncode, more.stderr) == (0, "")
    assert "longer: the disk budget is used up after " in more.stdout


def test_more_replicas_reach_the_report(one_at_a_time, here):
    study = STUDY.replace("n_trials=4", "n_trials=4, replicas=Adaptive(1, 2)").replace(
        "import Maximize", "import Adaptive, Maximize"
    )
    (one_at_a_time / "small.py").write_text(study)
    run = here("run", "small.py")
    assert (run.returncode, run.stderr) == (0, "")
    counts = pd.read_csv(one_at_a_time / "reports" / "small" / "replicas.csv").groupby("trial").size()
    assert len(counts) == 4
    assert 1 <= counts.min() <= counts.max() == 2
    report = (one_at_a_time / "reports" / "small" / "report.md").read_text()
    assert "## How certain this is" in report
    again = here("run", "small.py")
    assert again.returncode == 0
    assert pd.read_csv(one_at_a_time / "reports" / "small" / "replicas.csv").groupby("trial").size().equals(counts)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--time-budget", "2", "argument --time-budget: must be a time such as 2h, 90m or 1h30m, but got '2'"),
        ("--disk-budget", "20", "argument --disk-budget: must be a size such as 20GB, 500MB or 1TiB, but got '20'"),
    ],
)
def test_a_budget_that_cannot_be_is_one_line(one_at_a_time, here, option, value, message):
    run = here("run", "small.py", option, value)
    assert (run.returncode, run.stdout, run.stderr) == (2, "", f"aesearch: {message}\n")
