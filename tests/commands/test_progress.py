import io
from collections import Counter

from aesearch.commands.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make(out: io.StringIO, states: Counter, seconds: list[float]) -> Progress:
    return Progress("s", 10, lambda: states, lambda: {"val/mse": 0.0123456}, out, clock=lambda: seconds[0])


def test_a_line_tells_counts_best_values_and_time_left():
    states, seconds = Counter(), [0.0]
    progress = make(io.StringIO(), states, seconds)
    states.update(COMPLETE=2, PRUNED=1, FAIL=1)
    seconds[0] = 100.0
    # Four trials and a half of two running ones in 100 s: five of ten, so as long again.
    assert progress.line(2, 1.0) == (
        "s:  4/10 trials, 2 running, 1 pruned, 1 failed  best val/mse 0.01235  "
        "1 min 40 s elapsed, about 1 min 40 s left"
    )


def test_the_time_left_ignores_trials_of_earlier_sessions():
    states, seconds = Counter(COMPLETE=8), [0.0]
    progress = make(io.StringIO(), states, seconds)
    assert "left" not in progress.line(0, 0.0)
    states["COMPLETE"], seconds[0] = 9, 7200.0
    assert progress.line(0, 0.0).endswith("2 h 00 min elapsed, about 2 h 00 min left")
    states["COMPLETE"] = 10
    assert "left" not in progress.line(0, 0.0)


def test_further_replicas_are_named_and_no_time_is_promised():
    states, seconds = Counter(COMPLETE=10), [0.0]
    progress = make(io.StringIO(), states, seconds)
    seconds[0] = 60.0
    assert (
        progress.line(2, 1.0) == "s:  10/10 trials, 2 getting more replicas  best val/mse 0.01235  1 min 00 s elapsed"
    )


def test_a_pipe_gets_plain_lines_now_and_then():
    out, seconds = io.StringIO(), [0.0]
    progress = make(out, Counter(), seconds)
    for now in (0.0, 1.0, 29.0, 31.0, 40.0):
        seconds[0] = now
        progress.update(1, 0.0)
    progress.close()
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert "\x1b" not in out.getvalue()


def test_a_terminal_gets_one_live_line():
    out, seconds = Terminal(), [0.0]
    progress = make(out, Counter(), seconds)
    for now in (0.0, 0.1, 1.0):
        seconds[0] = now
        progress.update(1, 0.5)
    assert out.getvalue().count("\r\x1b[2K") == 2
    assert "\n" not in out.getvalue()
    progress.close()
    assert out.getvalue().endswith("\n")
