"""The command line as a user runs it: in a process of its own where that matters, else in this one, which has
imported everything already."""

import errno
import http.client
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import psutil
import pytest
from helpers.command_line import PRIVATE, SHARED, STUDY, aesearch, finished, rights, start, wait_for
from mlflow import MlflowClient
from PIL import Image

from aesearch.__main__ import main
from aesearch.model import load_model
from aesearch.protocols import fast
from aesearch.tracking import read_study


@pytest.fixture
def umask() -> Iterator[None]:
    """The usual one, which lets everybody read."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def assert_only_the_report_is_shared(folder: Path) -> None:
    assert rights(folder / ".aesearch") == PRIVATE
    assert rights(folder / "reports") == SHARED
    # A report is copied with its rights, into folders that nobody else can enter.
    assert rights(folder / "mlruns")["folders"] >= {"700"}
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert (modes["mlruns"], modes["mlflow.db"]) == (0o700, 0o600)


@pytest.mark.parametrize("arguments", [("--help",), ("show", "small.py")])
def test_who_closes_the_output_ends_the_command_quietly(folder, arguments, monkeypatch):
    # What is not flushed line by line fails when the command has ended.
    monkeypatch.setenv("PYTHONUNBUFFERED", "")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as closed:
        command = [sys.executable, "-m", "aesearch", *arguments]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_a_pipe_that_breaks_elsewhere_is_an_error(monkeypatch, capfd):
    def broken(_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("aesearch.commands.ui.ui", broken)
    assert main(["ui"]) == 2
    assert "Broken pipe; mend that" in capfd.readouterr().err


def test_run_then_report_then_run_again(folder, here, umask):
    run = aesearch("run", "small.py")
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    lines = run.stdout.splitlines()
    assert "4/4 trials" in lines[-3]
    assert lines[-2:] == ["report: reports/small/index.html", "MLflow: python -m aesearch ui"]
    trials = (folder / "reports" / "small" / "trials.csv").read_bytes()
    assert_only_the_report_is_shared(folder)

    page = folder / "reports" / "small" / "index.html"
    page.unlink()
    report = here("report", "small.py", "--out", "elsewhere")
    assert (report.returncode, report.stderr) == (0, "")
    assert (folder / "elsewhere" / "small" / "trials.csv").read_bytes() == trials

    # What is rendered is rendered again, also where nothing but its content tells that it was damaged.
    copied = folder / "data"
    shutil.copytree(Path(os.environ["AESEARCH_DATA"]) / "sprites", copied / "sprites")
    for file in copied.rglob("*.npy"):
        content, status = bytearray(file.read_bytes()), file.stat()
        content[-1] ^= 1
        file.write_bytes(content)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = here("run", "small.py", "--data", str(copied))
    assert (again.returncode, again.stderr.count("\n")) == (0, 1)
    assert again.stderr.endswith(".npy is damaged, so it is made again\n")
    assert (folder / "reports" / "small" / "trials.csv").read_bytes() == trials
    assert page.exists()
    assert {f"{path.stat().st_mode & 0o777:o}" for path in copied.rglob("*.npy*")} == {"644"}

    used = here("use", "small.py", "encode", "--best", "val/mse", "--out", "codes")
    assert used.returncode == 0, used.stderr
    results = read_study(f"sqlite:///{folder}/mlflow.db", "small")
    best = int(results.trials.set_index("trial")["val/mse"].idxmin())
    assert used.stdout.splitlines()[0] == f"small: trial {best}, the best in val/mse"
    model = load_model(folder / ".aesearch" / "small" / "trials" / f"{best:05d}" / "artifacts")
    data = model.config.data.load(Path(os.environ["AESEARCH_DATA"]))
    codes = pd.read_parquet(folder / "codes" / "codes.parquet").drop(columns="name")
    np.testing.assert_array_equal(codes, model.encode(np.array(data.images[data.test])))
    unknown = here("use", "small", "encode", "--best", "val/msee")
    assert unknown.returncode == 2
    assert "unknown metric 'val/msee': did you mean val/mse" in unknown.stderr

    scored = here("rescore", "small.py", "--metric", "mig_sup", "--metric", "udr", "--protocol", "fast")
    assert (scored.returncode, scored.stderr) == (0, "")
    assert sorted(scored.stdout.splitlines()[:4]) == [f"small: trial {key} scored" for key in range(4)]
    rescored = read_study(f"sqlite:///{folder}/mlflow.db", "small")
    pd.testing.assert_frame_equal(rescored.history, results.history)
    assert len(rescored.runs) == 4, "no run was added"
    for key, run_id in rescored.runs.items():
        run = MlflowClient(f"sqlite:///{folder}/mlflow.db").get_run(run_id)
        row = rescored.trials.set_index("trial").loc[key]
        assert run.data.metrics["test/fast.mig_sup"] == row["test/fast.mig_sup"]
        assert run.data.metrics["final/val/study.udr_lasso"] == row["val/study.udr_lasso"]
        assert run.data.tags["aesearch.protocol.fast"] == fast.hash
        kept = json.loads((folder / ".aesearch" / "small" / "trials" / f"{key:05d}" / "scores.json").read_text())
        assert np.median(kept["metrics"]["test/fast.mig_sup"]) == row["test/fast.mig_sup"]
    assert f"Protocol fast ({fast.hash})" in (folder / "reports" / "small" / "report.md").read_text()
    assert_only_the_report_is_shared(folder)
    assert rights(folder / "codes") == rights(folder / "elsewhere") == SHARED
    unknown = here("rescore", "small", "--metric", "dcii")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr == "aesearch: unknown metric 'dcii': did you mean dci or dcimig?\n"

    changed = here("run", "small.py", "--epochs", "2")
    assert changed.returncode == 2
    assert "config.epochs was 3, is 2" in changed.stderr
    fresh = here("run", "small.py", "--epochs", "2", "--trials", "1", "--replicas", "1", "--fresh")
    assert fresh.returncode == 0, fresh.stderr
    assert "the old state is in" in fresh.stdout
    results = read_study(f"sqlite:///{folder}/mlflow.db", "small")
    assert len(results.trials) == len(results.replicas) == 1
    assert len(list((folder / ".aesearch").iterdir())) == 2


def test_data_that_changed_between_sessions_are_refused(folder, here):
    (folder / "pictures").mkdir()
    for i in range(12):
        Image.new("L", (8, 8), 20 * i).save(folder / "pictures" / f"{i:02}.png")
    pictures = f'ImageFolder("{folder}/pictures", 8)'
    text = STUDY.replace("Sprites(resolution=16, scales=2, orientations=2, positions=8)", pictures)
    text = text.replace("Sprites", "ImageFolder").replace("n_trials=4, max_concurrent=2", "n_trials=1")
    (folder / "small.py").write_text(text.replace(', Maximize("val/mig")', ""))
    assert here("run", "small.py", "--epochs", "1").returncode == 0
    result = folder / ".aesearch" / "small" / "trials" / "00000" / "result.json"
    before, picture = result.read_bytes(), folder / "pictures" / "03.png"
    content, status = picture.read_bytes(), picture.stat()
    Image.new("L", (8, 8), 61).save(picture)
    refused = here("run", "small.py", "--epochs", "1", "--trials", "2")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        f"aesearch: the data of a study must stay as they are, but of small ImageFolder(path='{folder}/pictures', "
        "size=8, colour=True) changed since it began; restore the files, start a new study from it with --fork NAME, "
        "or start over with --fresh\n"
    )
    assert (finished(folder), result.read_bytes()) == ({"00000"}, before)
    picture.write_bytes(content)
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert here("run", "small.py", "--epochs", "1").returncode == 0


def under_way(folder: Path, since: float) -> bool:
    """Whether a trial that has not ended has kept a checkpoint since then."""
    for path in (folder / ".aesearch" / "small" / "trials").glob("*/checkpoints/*.json"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime > since and path.parts[-3] not in finished(folder):
                return True
    return False


def parent_status(folder: Path) -> str:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    (parent,) = (run for run in runs if "aesearch.study" in run.data.tags)
    return parent.info.status


# An objective of the study's own that writes down, for each step, which trial it trains and how far that is.
TRACED = """
from dataclasses import dataclass
@dataclass(frozen=True)
class Traced(BetaVAE):
    def regulariser(self, output, target, step):
        if output.logits.requires_grad:
            with open(r"{folder}/steps.txt", "a") as file:
                file.write(f"{{self.beta!r}} {{float(step.progress):.6f}}\\n")
        return super().regulariser(output, target, step)
"""


def test_a_study_that_is_stopped_often_goes_on_where_it_was(folder, here):
    """Oracle: the steps that the objective itself writes down, and the table of a study that nothing stopped.

    The last two commands run without Ray, and come to the same.
    """
    text = STUDY.replace("BetaVAE(trial", "Traced(trial").replace("max_concurrent=2", "checkpoint_seconds=0")
    own = TRACED.format(folder=folder)
    (folder / "small.py").write_text(text.replace("\ndef space", f"{own}\ndef space"))
    command = ["run", "small.py", "--max-concurrent", "1", "--epochs", "24"]
    trials = folder / ".aesearch" / "small" / "trials"
    before: dict[str, str] = {}
    interrupted: set[str] = set()
    for number, sent in enumerate([signal.SIGTERM, signal.SIGKILL], start=1):
        begun = time.time()
        with start(*command) as driver:
            wait_for(lambda number=number, begun=begun: len(finished(folder)) >= number and under_way(folder, begun))
            started = psutil.Process(driver.pid).children(recursive=True)
            driver.send_signal(sent)
            stopping = time.monotonic()
            if sent == signal.SIGTERM:
                # Ctrl-C soon after it, as the impatient do.
                time.sleep(0.5)
                driver.send_signal(signal.SIGINT)
            output = driver.communicate(timeout=120)[0]
        if sent == signal.SIGKILL:
            assert driver.returncode == -signal.SIGKILL
        else:
            assert driver.returncode == 130
            assert output.splitlines()[-1] == "small: interrupted; the same command goes on"
            assert time.monotonic() - stopping < 60, "10 s on a quiet machine"
            assert not psutil.wait_procs(started, timeout=5)[1], "processes of its own are left"
            assert parent_status(folder) == "KILLED"
        before |= {name: (trials / name / "result.json").read_text() for name in finished(folder)}
        interrupted |= {path.parent.name for path in trials.glob("*/trial.json")} - before.keys()
    last = here(*command)
    assert last.returncode == 0, last.stderr
    assert len(before) >= 2
    for name, result in before.items():
        assert (trials / name / "result.json").read_text() == result, "a finished trial ran again"
    results = read_study(f"sqlite:///{folder}/mlflow.db", "small")
    assert results.trials["trial"].tolist() == [0, 1, 2, 3]
    assert results.trials["state"].tolist() == ["COMPLETE"] * 4
    ledger = optuna.load_study(study_name="small", storage=f"sqlite:///{folder}/.aesearch/small/ledger.db")
    states = [trial.state.name for trial in ledger.trials]
    assert states.count("COMPLETE") == 4
    assert "RUNNING" not in states
    again = {int(name) for name in interrupted}
    assert again, "a driver was ended in the middle of a trial"
    assert len(ledger.trials) == 4, "each went on as the same trial"
    steps: dict[str, list[float]] = {}
    for line in (folder / "steps.txt").read_text().splitlines():
        beta, progress = line.split()
        steps.setdefault(beta, []).append(float(progress))
    betas = results.trials.set_index("trial")["param:beta"]
    for key in range(4):
        progress = steps[repr(float(betas[key]))]
        begun = progress.count(0.0) / 2  # replicas
        assert begun == 1, f"trial {key} began {begun} times"
        # Both replicas at each step, and what is done twice is less than two epochs of 24.
        assert len(progress) >= 2 * len(set(progress))
        assert len(progress) <= 2 * len(set(progress)) * (1 + (2 / 24 if key in again else 0))
        assert results.history.query("trial == @key")["epoch"].tolist() == [e for e in range(1, 25) for _ in range(2)]
    assert parent_status(folder) == "FINISHED"
    apart = ["--home", "whole", "--out", "whole", "--tracking-uri", f"sqlite:///{folder}/whole.db"]
    assert here(*command, *apart).returncode == 0
    tables = [
        pd.read_csv(folder / out / "small" / "trials.csv").drop(columns="seconds") for out in ("reports", "whole")
    ]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def in_terminal(*arguments: str) -> tuple[int, str]:
    """The exit status of a command on a terminal of its own, and all that it wrote there."""
    master, slave = pty.openpty()
    with subprocess.Popen([sys.executable, "-m", "aesearch", *arguments], stdout=slave, stderr=slave) as process:
        os.close(slave)
        chunks = []
        # Linux ends a terminal without writers with an error.
        with suppress(OSError):
            while chunk := os.read(master, 4096):
                chunks.append(chunk)
    os.close(master)
    return process.returncode, b"".join(chunks).decode()


def test_failures_are_explained_and_progress_is_live(folder):
    (folder / "small.py").write_text(STUDY.replace("epochs=3,", "epochs=3, learning_rate=1e18,"))
    status, screen = in_terminal("run", "small.py", "--trials", "2", "--no-ray")
    assert status == 1
    assert "\r\x1b[2Ksmall:  0/2 trials, 1 running" in screen
    assert "\r\x1b[2Ksmall:  2/2 trials, 0 running, 2 failed" in screen
    assert "failed: NonFiniteLossError: the training loss of replica" in screen
    assert "No trial completed" in (folder / "reports" / "small" / "report.md").read_text()


def test_show_needs_no_ray_and_tells_the_plan(folder, here):
    show = here("show", "small.py")
    assert show.returncode == 0, show.stderr
    assert show.stdout.startswith("Small?")
    assert "minimize val/mse, maximize val/mig" in show.stdout
    assert show.stdout.count("parameters per replica") == 3
    # Encoder 256 -> 16 -> 2 L and decoder L -> 16 -> 256 of the first sampled configuration.
    config = next(line for line in show.stdout.splitlines() if line.startswith("{'latent_dim'"))
    latent = int(config.split(":")[1].split(",")[0])
    expected = 256 * 16 + 16 + 16 * 2 * latent + 2 * latent + latent * 16 + 16 + 16 * 256 + 256
    assert f"{expected:,} parameters per replica" in show.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "smal.py"], "there is no study file smal.py: did you mean small.py?"),
        (["run", "small.py", "--trails", "3"], "unknown option or argument '--trails': did you mean --trials"),
        (["rn", "small.py"], "unknown command 'rn': did you mean run?"),
        (["run", "small.py", "--trials", "0"], "argument --trials: must be a whole number of at least 1, but got '0'"),
        (["run", "wrong.py"], "BetaVAE has no field 'btea': did you mean beta?"),
        (["report", "small"], "there is no MLflow store"),
        (["ui"], "there is no MLflow store"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(folder, here, arguments, message):
    (folder / "wrong.py").write_text(STUDY.replace("BetaVAE(trial", "BetaVAE(btea=trial"))
    result = here(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_ray_that_is_not_there_is_one_line_and_loses_nothing(folder):
    result = aesearch("run", "small.py", "--address", "127.0.0.1:1")
    assert result.returncode == 2
    assert "aesearch: Ray cannot be reached at 127.0.0.1:1" in result.stderr
    assert "Traceback" not in result.stderr
    assert not finished(folder)


def test_missing_data_is_said_before_any_trial(folder, here):
    digits = STUDY.replace("Sprites(resolution=16, scales=2, orientations=2, positions=8)", "MNIST()")
    digits = digits.replace("Sprites", "MNIST").replace(', Maximize("val/mig")', "")
    (folder / "digits.py").write_text(digits)
    result = here("run", "digits.py", "--data", str(folder / "empty"))
    assert result.returncode == 2
    assert "MNIST must be readable under" in result.stderr
    assert not (folder / ".aesearch").exists()


API = "/api/2.0/mlflow"
OWN_HOSTS = ("127.0.0.1:5057", "localhost:5057", "localhost:8080", "[::1]:5057", "localhost")
FOREIGN_HOSTS = ("x.invalid", "x.invalid:5057", "10.x.invalid", "192.168.1.1.x.invalid", "fc00:x.invalid", "10.0.0.9")
FOREIGN_HOSTS += ("localhost.x.invalid", "127.0.0.1.x.invalid", "0.0.0.0:5057")
FOREIGN_ORIGINS = ("http://x.invalid", "https://x.invalid:5057", "null", "http://localhost.x.invalid", "file://")
# What changes something, or runs something, as a page could ask for it without being asked whether it may.
CHANGES = (
    ("POST", f"{API}/experiments/create"),
    ("POST", "/ajax-api/2.0/mlflow/experiments/create"),
    ("POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=b.txt"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/b.txt"),
    ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/b.txt"),
    ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
    ("PUT", "/ajax-api/3.0/mlflow/assistant/config"),
    ("POST", "/ajax-api/3.0/jobs/"),
)
OUTSIDE = ("../../../../mlflow.db", "..%2f..%2f..%2f..%2fmlflow.db", "%252e%252e/%252e%252e/mlflow.db", "/etc/passwd")
OUTSIDE += ("file:///etc/passwd", "a.txt/../../../../../mlflow.db", "....//mlflow.db", "..\\..\\mlflow.db")


def ask(method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str, dict[str, str]]:
    """Ask the server of this test, as a browser does for a page; give status, text and headers."""
    sent = {"Host": "127.0.0.1:5057", "Content-Type": "application/json"} | headers
    connection = http.client.HTTPConnection("127.0.0.1", 5057, timeout=30)
    connection.request(method, path, body, sent)
    answer = connection.getresponse()
    found = (
        answer.status,
        answer.read().decode(errors="replace"),
        {name.lower(): value for name, value in answer.getheaders()},
    )
    connection.close()
    return found


def test_the_ui_serves_on_loopback_and_to_no_other_page(folder):
    from mlflow import MlflowClient

    from aesearch.tracking import create_store

    uri = f"sqlite:///{folder}/mlflow.db"
    create_store(uri)
    client = MlflowClient(uri)
    run = client.create_run(client.create_experiment("small")).info.run_id
    client.log_text(run, "kept", "a.txt")

    def answers() -> bool:
        with suppress(OSError):
            return ask("GET", "/health")[0] == 200
        return False

    def experiments() -> set[str]:
        status, text, _ = ask("POST", f"{API}/experiments/search", json.dumps({"max_results": 100}))
        assert status == 200
        return {experiment["name"] for experiment in json.loads(text)["experiments"]}

    with start("ui", "--port", "5057") as server:
        try:
            wait_for(answers)
            assert experiments() == {"Default", "small"}
            listening = [
                one.laddr
                for process in (psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True))
                for one in process.net_connections("inet")
                if one.status == psutil.CONN_LISTEN
            ]
            assert listening == [("127.0.0.1", 5057)]
            assert {host: ask("GET", "/", Host=host)[0] for host in OWN_HOSTS} == dict.fromkeys(OWN_HOSTS, 200)
            for path in ("/", f"{API}/experiments/get?experiment_id=1", f"/get-artifact?run_uuid={run}&path=a.txt"):
                refused = {host: ask("GET", path, Host=host)[0] for host in FOREIGN_HOSTS}
                assert refused == dict.fromkeys(FOREIGN_HOSTS, 403), path

            body = json.dumps({"name": "planted"})
            for method, path in CHANGES:
                for kind in ("application/json", "text/plain"):
                    found = {
                        origin: ask(method, path.format(run=run), body, Origin=origin, **{"Content-Type": kind})[0]
                        for origin in FOREIGN_ORIGINS
                    }
                    assert found == dict.fromkeys(FOREIGN_ORIGINS, 403), path
            # No other page may read an answer, or send one of the kinds that a browser asks about first.
            for method, path in (("GET", f"/get-artifact?run_uuid={run}&path=a.txt"), ("OPTIONS", "/graphql")):
                _, _, headers = ask(method, path, Origin="http://x.invalid")
                assert "access-control-allow-origin" not in headers, path
            assert ask("POST", "/graphql", "{}", **{"Content-Type": "text/plain"})[0] == 400
            assert ask("GET", "/")[2]["x-frame-options"] == "SAMEORIGIN"

            assert ask("GET", f"/get-artifact?run_uuid={run}&path=a.txt")[:2] == (200, "kept")
            for path in OUTSIDE:
                for place in (f"/get-artifact?run_uuid={run}&path=", "/api/2.0/mlflow-artifacts/artifacts/"):
                    assert ask("GET", f"{place}{path}")[0] in (400, 404), (place, path)
            assert experiments() == {"Default", "small"}
            assert [file.path for file in client.list_artifacts(run)] == ["a.txt"]

            assert ask("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=own.txt", "x")[0] == 200
            [own] = (folder / "mlruns").rglob("own.txt")
            assert own.stat().st_mode & 0o777 == 0o600
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=30)
