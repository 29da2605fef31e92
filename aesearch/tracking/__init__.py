"""MLflow: an experiment per study, a parent run for it, a child run per trial.

This room alone imports MLflow.
The driver writes, from the records of the trials, in a thread of its own; workers never open the store. All points
carry the time at which they were measured, so that sending one again changes nothing.
"""

import os

# Read by MLflow when it is imported: no advertisements in the output, and a lost server must fail soon. It must not
# repeat a request by itself: a run that was made, and whose answer was lost, would be made twice.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

from aesearch.tracking.addresses import shown
from aesearch.tracking.models import fetch_model, register_model, write_mlmodel
from aesearch.tracking.reading import read_study
from aesearch.tracking.sender import Sender, Sent, add_scores, send_all
from aesearch.tracking.store import create_store
from aesearch.tracking.tracker import Tracker

__all__ = [
    "Sender",
    "Sent",
    "Tracker",
    "add_scores",
    "create_store",
    "fetch_model",
    "read_study",
    "register_model",
    "send_all",
    "shown",
    "write_mlmodel",
]
