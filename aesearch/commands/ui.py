"""Run ``ui``: serve the MLflow UI."""

import argparse
import os
import sys
from pathlib import Path

from aesearch.errors import UserError
from aesearch.rights import make_private

# As a browser names this machine, with any port for those who tunnel to it. MLflow's own list has "10.*" too, which a
# page of 10.example.com fits whose name is turned to 127.0.0.1.
HOSTS = "localhost,localhost:*,127.0.0.1,127.0.0.1:*,[[]::1]:*"


def ui(options: argparse.Namespace) -> int:
    """Become the MLflow server, with one worker.

    With more, every request waits 40 ms for a delayed acknowledgement.
    """
    from aesearch.tracking import shown

    uri = shown(options.tracking_uri)
    path = Path(uri.removeprefix("sqlite:///"))
    if options.tracking_uri.startswith("http"):
        raise UserError(f"ui serves a store, but {uri} is a server already: open it in a browser")
    if options.tracking_uri.startswith("sqlite:///") and not path.exists():
        raise UserError(f"there is no MLflow store {path}; run a study first, or name the store with --tracking-uri")
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.environ.setdefault("MLFLOW_SERVER_ALLOWED_HOSTS", HOSTS)
    # Not as an option: other users see the command lines of all processes.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = options.tracking_uri
    server = ["--host", "127.0.0.1", "--port", str(options.port), "--workers", "1"]
    sys.stdout.flush()
    make_private()
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *server])
