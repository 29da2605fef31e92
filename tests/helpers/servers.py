"""Start MLflow servers that tests may kill, and a proxy that misbehaves."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from helpers.stores import new_store


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class MlflowServer:
    """MLflow server of one worker on 127.0.0.1, with artifacts below ``folder``."""

    def __init__(self, folder: Path, store: str = "") -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.store = store or f"sqlite:///{folder}/server.db"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        if self.store.startswith("sqlite:///"):
            new_store(Path(self.store.removeprefix("sqlite:///")))
        options = ["--backend-store-uri", self.store, "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        options += ["--serve-artifacts", "--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options],
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                # A group of its own: the server and its worker are ended together.
                start_new_session=True,
            )
        deadline = time.monotonic() + 90
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, "the server never came"
            time.sleep(0.1)

    def kill(self) -> None:
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=10)
            self.process = None

    def _answers(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.uri}/health", timeout=2).status == 200
        except OSError:
            return False


FAILURE = (500, b"{}", "application/json")


def passed_on(asked: urllib.request.Request) -> tuple[int, bytes, str]:
    """Pass a request on; give the server's status, content and content type."""
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, answer.read(), answer.headers.get("Content-Type", "")
    except urllib.error.HTTPError as error:
        return error.code, error.read(), "application/json"


class Proxy:
    """Proxy of a server that misbehaves as is set, at any time.

    fail: answer 500. seconds: wait so long before each answer. lose: of how many requests to make a run the answer is
    lost. late: how many of them are answered 500 at once and passed on 3 s later.
    """

    def __init__(self, target: str) -> None:
        self.fail, self.seconds, self.lose, self.late = False, 0.0, 0, 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                # Of its own: this handler goes on to the next request before a late one is passed on.
                asked = urllib.request.Request(target + self.path, body or None, headers, method=self.command)
                time.sleep(proxy.seconds)
                makes = self.path.endswith("/runs/create")
                if makes and proxy.lose:
                    proxy.lose -= 1
                    passed_on(asked)
                    self.close_connection = True
                    return
                if makes and proxy.late:
                    proxy.late -= 1
                    threading.Timer(3, passed_on, [asked]).start()
                    status, answer, kind = FAILURE
                else:
                    status, answer, kind = FAILURE if proxy.fail else passed_on(asked)
                self._reply(status, answer, kind)

            def _reply(self, status: int, answer: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

            def log_message(self, *_) -> None:
                """Log nothing: tests look at what arrives."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
