import subprocess
import sys

import psutil
import pytest
from helpers.command_line import STUDY, finished, start, wait_for

import aesearch.commands.run
from aesearch.search.ray_watch import VITAL


def vital(pid: int, name: str) -> list[psutil.Process]:
    children = psutil.Process(pid).children()
    return [child for child in children if child.name() == name and child.status() != psutil.STATUS_ZOMBIE]


def test_a_study_goes_on_by_itself_when_its_ray_is_lost(folder):
    """Without its raylet a driver would wait for ever; without its GCS Ray would end it after a minute."""
    text = STUDY.replace("max_concurrent=2", "max_concurrent=1, checkpoint_seconds=0")
    (folder / "small.py").write_text(text)
    trials = folder / ".aesearch" / "small" / "trials"
    before: dict[str, str] = {}
    with start("run", "small.py", "--epochs", "12") as driver:
        for name in VITAL:
            count = len(finished(folder))
            wait_for(lambda count=count: len(finished(folder)) > count)
            wait_for(lambda name=name: vital(driver.pid, name))
            workers = psutil.Process(driver.pid).children(recursive=True)
            before |= {key: (trials / key / "result.json").read_text() for key in finished(folder)}
            vital(driver.pid, name)[0].kill()
            assert not psutil.wait_procs([one for one in workers if one.name() not in VITAL], timeout=30)[1]
        output = driver.communicate(timeout=120)[0]
    assert driver.returncode == 0, output
    said = [line for line in output.splitlines() if "Ray is started again" in line]
    assert said == [f"small: Ray's process {name} ended; Ray is started again and the study goes on" for name in VITAL]
    assert "4/4 trials, 0 running" in output
    assert len(before) >= 2
    for key, result in before.items():
        assert (trials / key / "result.json").read_text() == result, "a finished trial ran again"


def test_what_was_done_once_is_not_done_again_by_itself():
    options = aesearch.commands.run.argparse.Namespace(time_budget=100.0)
    given = ["run", "a.py", "--fresh", "--time-budget", "100s", "--retry-failed", "--trials", "9"]
    kept = ["run", "a.py", "--time-budget", "100s", "--trials", "9", "--time-budget", "70s", "--yes"]
    assert aesearch.commands.run._same(given, options, 30.0) == kept
    options.time_budget = None
    assert aesearch.commands.run._same(["run", "a.py"], options, 30.0) == ["run", "a.py", "--yes"]


# In a process of its own, as all children of the watching process are ended.
WATCHING = """
import subprocess, sys, threading, psutil
from aesearch.search import ray_watch
ray_watch.GRACE = 0.5
first, other = (subprocess.Popen(["sh", "-c", text]) for text in (sys.argv[1], "sleep 60"))
told = []
watching = [("raylet", psutil.Process(first.pid))]
ray_watch._watch(watching, threading.Event(), lambda *what: told.append(what))
assert other.poll() is not None, "the rest is ended, too"
print(told)
"""


@pytest.mark.parametrize(
    ("end", "asked"), [("kill -9 $$", False), ("kill -SEGV $$", False), ("exit 0", True), ("exit 1", True)]
)
def test_a_ray_that_was_asked_to_end_is_told_from_one_killed(end, asked):
    """A scheduler sends SIGTERM to all processes of a job: the study must then end, not begin anew."""
    command = [sys.executable, "-c", WATCHING, f"sleep 1; {end}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == f"[('raylet', {asked})]"
