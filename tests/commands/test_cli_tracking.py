"""The command line with a server that is lost, or with one as a team has it."""

import ipaddress
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from helpers.command_line import STUDY, start
from helpers.servers import MlflowServer, free_port
from mlflow import MlflowClient

from aesearch.__main__ import main
from aesearch.search.cluster import ray_folder
from aesearch.search.state import take_lock

SMALL = STUDY.replace("n_trials=4", "n_trials=2, comparisons=(UDR(),)").replace("epochs=3", "epochs=2")
SMALL = SMALL.replace("\ndef space", "from aesearch.scores import UDR\n\ndef space")


@pytest.fixture(autouse=True)
def smaller(folder: Path) -> None:
    (folder / "small.py").write_text(SMALL)


def test_a_study_without_its_server_is_reported_and_synced(folder, here):
    def sync(*arguments: str) -> tuple[int, str, str]:
        done = here("sync", *arguments)
        return done.returncode, done.stdout, done.stderr

    uri = f"http://127.0.0.1:{free_port()}"
    run = here("run", "small.py", "--tracking-uri", uri)
    assert (run.returncode, run.stderr) == (0, "")
    [said] = [line for line in run.stdout.splitlines() if "MLflow lacks" in line]
    assert said.startswith("small: MLflow lacks 2 of its trials: Failed to establish a new connection")
    assert said.endswith(f"; once it is back, run python -m aesearch sync small --tracking-uri {uri}")
    assert run.stdout.splitlines()[-2:] == ["report: reports/small/index.html", f"MLflow: {uri}"]
    table = (folder / "reports" / "small" / "trials.csv").read_bytes()

    (folder / "small.py").unlink()
    status, said, error = sync("small", "--tracking-uri", uri)
    assert (status, said, error.count("\n")) == (2, "", 1)
    assert error.startswith(f"aesearch: MLflow's store must be reachable, but {uri}: ")
    unknown = "aesearch: there is no study 'smal' in .aesearch: did you mean small?\n"
    assert sync("smal") == (2, "", unknown)
    lock = take_lock(folder / ".aesearch" / "small")
    status, said, error = sync("small")
    lock.release()
    assert (status, said) == (2, "")
    assert f"is being run by process {os.getpid()} on " in error
    assert not (folder / "mlflow.db").exists()

    synced = here("sync", "small")
    assert (synced.returncode, synced.stderr) == (0, "")
    assert re.fullmatch(r"small: \d+ points of 2 trials sent; sqlite:///mlflow.db has all of 2 trials\n", synced.stdout)
    assert sync("small") == (0, "small: nothing was missing; sqlite:///mlflow.db has all of 2 trials\n", "")
    report = here("report", "small", "--out", "elsewhere")
    assert (report.returncode, report.stderr) == (0, "")
    assert (folder / "elsewhere" / "small" / "trials.csv").read_bytes() == table
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    # What is measured of all models together is kept without MLflow too.
    assert sum("final/val/study.udr_lasso" in run.data.metrics for run in runs) == 2
    [parent] = [run for run in runs if "aesearch.study" in run.data.tags]
    kept = {file.path for file in client.list_artifacts(parent.info.run_id, "report")}
    assert {"report/index.html", "report/trials.csv"} <= kept
    assert client.get_model_version_by_alias("small", "knee").run_id in {run.info.run_id for run in runs}
    [version] = client.search_model_versions("name='small'")
    assert version.tags["aesearch.trial"] in {"0", "1"}


def assert_its_ray_is_private(pid: int) -> None:
    """No other machine reaches a port of it, and no other user its token and its sockets."""
    driver = psutil.Process(pid)
    processes = [driver, *driver.children(recursive=True)]
    listening = [
        ipaddress.ip_address(one.laddr.ip)
        for process in processes
        for one in process.net_connections("inet")
        if one.status == psutil.CONN_LISTEN or one.type == socket.SOCK_DGRAM
    ]
    # The driver, the GCS, the raylet twice, its agent, and each worker.
    assert len(listening) >= 7
    assert all((getattr(one, "ipv4_mapped", None) or one).is_loopback for one in listening), listening
    [gcs] = [process for process in processes if process.name() == "gcs_server"]
    assert gcs.environ()["RAY_AUTH_MODE"] == "token"
    folder = ray_folder()
    assert str(folder) in " ".join(gcs.cmdline())
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    if "RAY_AUTH_TOKEN" not in os.environ:
        assert (Path.home() / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


def test_an_interrupted_study_without_its_server_ends_soon(folder, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    uri = f"http://127.0.0.1:{free_port()}"
    with start("run", "small.py", "--epochs", "2000", "--tracking-uri", uri) as driver:
        history = folder / ".aesearch" / "small" / "trials" / "00000" / "history.jsonl"
        deadline = time.monotonic() + 120
        while not history.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert_its_ray_is_private(driver.pid)
        driver.send_signal(signal.SIGINT)
        asked = time.monotonic()
        output = driver.communicate(timeout=60)[0]
    # Ray itself takes some seconds to end.
    assert time.monotonic() - asked < 20
    assert driver.returncode == 130
    assert "MLflow lacks 2 of its trials" in output
    assert main(["sync", "small"]) == 0
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    assert {run.info.status for run in runs} == {"KILLED"}
    states = {run.data.tags.get("aesearch.state") for run in runs if "aesearch.trial" in run.data.tags}
    assert states == {"INTERRUPTED"}


@pytest.mark.parametrize("uri", ["sqlite:///nowhere/mlflow.db", "htp://127.0.0.1:5000", "", "a folder"])
def test_an_impossible_store_is_refused_before_any_trial(folder, here, uri):
    """Of those without an address the default one is there already, and is no store."""
    if uri == "a folder":
        (folder / "mlflow.db").mkdir()
    elif not uri:
        (folder / "mlflow.db").write_bytes(b"SQLite format 3\0" + bytes(1000))
    run = here("run", "small.py", *(["--tracking-uri", uri] if ":" in uri else []))
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1)
    assert run.stderr.startswith("aesearch: --tracking-uri must name a ")
    assert not list((folder / ".aesearch" / "small").glob("trials/*"))


def as_user(*command: str) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.getuid():
        return list(command)
    return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", *command]


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a database of a PostgreSQL server of the test's own."""
    if not (shutil.which("initdb") and shutil.which("postgres")):
        pytest.skip("PostgreSQL's initdb and postgres are not on the path")
    if not os.getuid() and not shutil.which("setpriv"):
        pytest.skip("PostgreSQL refuses to run as root, and setpriv is not on the path")
    # Not below pytest's own folder, which other users cannot enter.
    folder, port = Path("/tmp") / f"aesearch-postgres-{os.getpid()}", free_port()
    folder.mkdir(mode=0o700)
    if not os.getuid():
        try:
            shutil.chown(folder, "postgres", "postgres")
        except LookupError:
            folder.rmdir()
            pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres")
    data = str(folder / "data")
    options = ["-h", "127.0.0.1", "-p", str(port), "-k", "", "-c", "fsync=off"]
    try:
        initdb = as_user("initdb", "-D", data, "-A", "trust", "-U", "mlflow", "--no-sync")
        subprocess.run(initdb, check=True, capture_output=True, cwd="/")
        with subprocess.Popen(
            as_user("postgres", "-D", data, *options), cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server:
            try:
                wait_until_it_answers(port)
                yield f"postgresql+psycopg://mlflow@127.0.0.1:{port}/postgres"
            finally:
                server.send_signal(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder)


def wait_until_it_answers(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="mlflow", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "PostgreSQL never came"
            time.sleep(0.1)


@pytest.mark.slow
def test_a_study_on_a_server_with_postgresql_and_its_artifacts(folder, here, postgres):
    server = MlflowServer(folder, postgres)
    server.start()
    try:
        run = here("run", "small.py", "--tracking-uri", server.uri)
        assert (run.returncode, run.stderr) == (0, "")
        assert "lacks" not in run.stdout
        assert "View run" not in run.stdout
        assert run.stdout.splitlines()[-1] == f"MLflow: {server.uri}"
        table = (folder / "reports" / "small" / "trials.csv").read_bytes()
        report = here("report", "small", "--tracking-uri", server.uri, "--out", "elsewhere")
        assert (report.returncode, report.stderr) == (0, "")
        assert (folder / "elsewhere" / "small" / "trials.csv").read_bytes() == table
        used = here("use", "small", "encode", "--tracking-uri", server.uri, "--out", "codes")
        assert (used.returncode, used.stderr) == (0, "")

        client = MlflowClient(server.uri)
        runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
        assert [run.info.status for run in runs] == ["FINISHED"] * 3
        [parent] = [run for run in runs if "aesearch.study" in run.data.tags]
        assert "report/index.html" in {file.path for file in client.list_artifacts(parent.info.run_id, "report")}
        for run in runs:
            if run is not parent:
                curve = [point.value for point in client.get_metric_history(run.info.run_id, "val/mse")]
                assert len(curve) == 2
                assert run.data.metrics["best/val/mse"] == min(curve)
                assert run.data.params.keys() == {"latent_dim", "beta"}
                assert "final/val/study.udr_lasso" in run.data.metrics
        with psycopg.connect(postgres.replace("+psycopg", "")) as database:
            assert database.execute("select count(*) from runs where status = 'FINISHED'").fetchone() == (3,)
        weights = [str(path.relative_to(folder)) for path in folder.rglob("model.safetensors")]
        assert sum(path.startswith("artifacts/") for path in weights) == 2
        assert not (folder / "mlruns").exists()
        assert_knee_is_served(server.uri, client)
    finally:
        server.kill()


def assert_knee_is_served(uri: str, client: MlflowClient) -> None:
    """As another program would load it."""
    code = (
        "import mlflow, numpy; mlflow.set_tracking_uri({!r})\n"
        "model = mlflow.pyfunc.load_model('models:/small@knee')\n"
        "print(model.predict(numpy.zeros((2, 1, 16, 16), numpy.float32), params={{'output': 'code'}}).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code.format(uri)], capture_output=True, text=True, check=True)
    run = client.get_run(client.get_model_version_by_alias("small", "knee").run_id)
    assert done.stdout.strip() == str((2, int(run.data.params["latent_dim"])))


def test_each_condition_has_a_model_in_mlflow(here, folder):
    """A study with conditions, from its file to the use of one of its models."""
    path = folder / "sorts.py"
    path.write_text(
        STUDY.replace('trial.suggest_int("latent_dim", 2, 6)', "2")
        .replace('trial.suggest_float("beta", 0.5, 8.0, log=True)', 'trial.suggest_categorical("weight", [0.5, 8.0])')
        .replace("replicas=2,", "replicas=1,")
        .replace("epochs=3", "epochs=1")
        .replace('"small", space, (Minimize("val/mse"), Maximize("val/mig")), n_trials=4', '"sorts", space, metrics=M')
        .replace("metrics=M", 'Minimize("val/mse"), sampler="grid", per=("weight",)')
    )
    shown = here("show", "sorts.py")
    assert "compared within each: weight (2 conditions)" in shown.stdout
    ran = here("run", "sorts.py")
    assert ran.returncode == 0, ran.stderr
    assert "best val/mse" not in ran.stdout
    report = (folder / "reports" / "sorts" / "report.md").read_text()
    assert "weight = 0.5: its only complete trial is 0: test/mse " in report
    # By its whole path: MLflow keeps the stores of earlier tests by their addresses.
    client = MlflowClient(store := f"sqlite:///{folder}/mlflow.db", registry_uri=store)
    keys = {
        weight: client.get_model_version_by_alias("sorts", f"best-weight-{weight}_{part}").tags["aesearch.trial"]
        for weight, part in ((0, 5), (8, 0))
    }
    assert keys[0] != keys[8]
    used = here("use", "sorts", "encode")
    assert used.returncode == 2
    assert used.stderr.count("\n") == 1
    assert "choose one with --per weight=0.5, or a trial with --trial N: (weight = 0.5), (weight = 8.0)" in used.stderr
    used = here("use", "sorts", "encode", "--per", "weight=8.0")
    assert used.returncode == 0, used.stderr
    assert f"sorts: trial {keys[8]}, whose model is registered with weight=8.0" in used.stdout
    assert here("use", "sorts", "encode", "--trial", keys[0]).returncode == 0
    wrong = here("use", "sorts", "encode", "--trial", "9")
    assert "sorts has no complete trial 9; choose one of 0, 1" in wrong.stderr
    wrong = here("use", "sorts", "encode", "--trial", "1", "--per", "weight=8.0")
    assert "--trial names a trial, so --best and --per choose nothing; leave them out" in wrong.stderr
