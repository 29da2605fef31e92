import io
from collections import Counter

from aesearch.commands.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make(out: io.StringIO, states: Counter, seconds: list[float], total: int = 10) -> Progress:
    return Progress("s", total, lambda: states, lambda: {"val/mse": 0.0123456}, out, clock=lambda: seconds[0])


def work(progress: Progress, states: Counter, seconds: list[float], trials: int) -> None:
    """End trials of four epochs and 40 s, one after the other, but for half of the last."""
    for trial in range(trials):
        for epoch in range(4 if trial < trials - 1 else 2):
            progress.update({str(trial): epoch / 4})
            seconds[0] += 10.0
        states["COMPLETE"] += trial < trials - 1
    progress.update({str(trials - 1): 0.5})


def test_a_line_tells_counts_best_values_and_time_left():
    states, seconds = Counter(PRUNED=1, FAIL=1), [0.0]
    progress = make(io.StringIO(), states, seconds, 20)
    work(progress, states, seconds, 8)
    # Of trials of 40 s each, 10 are left and half of one.
    assert progress.line(1) == (
        "s:  9/20 trials, 1 running, 1 pruned, 1 failed  best val/mse 0.01235  "
        "5 min 00 s elapsed, about 7 min 00 s left"
    )


def test_no_time_left_is_told_before_some_trials_have_ended():
    states, seconds = Counter(COMPLETE=2), [0.0]
    progress = make(io.StringIO(), states, seconds)
    assert progress.line(0).endswith("  0 s elapsed"), "trials of earlier sessions tell no speed"
    work(progress, states, seconds, 2)
    assert progress.line(1).endswith("  1 min 00 s elapsed")
    states["COMPLETE"] = 10
    assert "left" not in progress.line(0)


def test_further_replicas_are_named_and_no_time_is_promised():
    states, seconds = Counter(COMPLETE=10), [0.0]
    progress = make(io.StringIO(), states, seconds)
    seconds[0] = 60.0
    assert progress.line(2) == "s:  10/10 trials, 2 getting more replicas  best val/mse 0.01235  1 min 00 s elapsed"


def test_a_pipe_gets_plain_lines_now_and_then():
    out, seconds = io.StringIO(), [0.0]
    progress = make(out, Counter(), seconds)
    for now in (0.0, 1.0, 29.0, 31.0, 40.0):
        seconds[0] = now
        progress.update({})
    progress.close()
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert "\x1b" not in out.getvalue()


def test_a_terminal_gets_one_live_line():
    out, seconds = Terminal(), [0.0]
    progress = make(out, Counter(), seconds)
    for now in (0.0, 0.1, 1.0):
        seconds[0] = now
        progress.update({"1": 0.5})
    assert out.getvalue().count("\r\x1b[2K") == 2
    assert "\n" not in out.getvalue()
    progress.close()
    assert out.getvalue().endswith("\n")
