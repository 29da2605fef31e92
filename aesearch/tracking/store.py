"""Stores of MLflow: their addresses, the making of a SQLite store, their errors."""

import logging
import os
import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from aesearch.errors import UserError
from aesearch.tracking.addresses import masked, parse, shown

LOST = (MlflowException, SQLAlchemyError, OSError, ValueError)  # what a store that cannot be reached or read raises
SQLITE = "sqlite:///"
DATABASES = ("postgresql", "mysql", "mssql")
PARENT, STUDY_TAG, KEY_TAG, STATE_TAG = "mlflow.parentRunId", "aesearch.study", "aesearch.trial", "aesearch.state"
# A file for each version of a store's tables.
SCHEMAS = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
POOL = "MLFLOW_SQLALCHEMYSTORE_POOLCLASS"  # of its connections to a database, in MLflow's environment
BEGUN_TAG = "aesearch.begun"  # of a study's run, how many of its name were begun before: clocks go back
# Of a trial's end, what MLflow calls it.
STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


def open_client(uri: str) -> MlflowClient:
    """Open a client of a store or server; make a missing SQLite store.

    A server is not asked anything yet. Raises UserError for an address that cannot be right.
    """
    _quiet()
    _check_uri(uri)
    try:
        create_store(uri)
        with _file_reopened(uri):
            return MlflowClient(located(uri))
    except (ArgumentError, ImportError) as error:
        raise UserError(f"MLflow's store {shown(uri)} cannot be opened: {first_line(error, uri)}") from None


@contextmanager
def _file_reopened(uri: str) -> Iterator[None]:
    """Let MLflow open a SQLite file anew for each of its sessions.

    That holds for stores that are opened in this context. A connection that is kept would go on with a file that was
    deleted.
    """
    before = os.environ.get(POOL)
    if uri.startswith(SQLITE) and before is None:
        os.environ[POOL] = "NullPool"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(POOL, None)


def located(uri: str) -> str:
    """Complete the path of a SQLite store in its address.

    MLflow keeps the stores that it has opened, by address.
    """
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).absolute()}" if uri.startswith(SQLITE) else uri


def begun(parent: Run) -> int:
    """Read the place of a study's run among those of its name."""
    return int(parent.data.tags.get(BEGUN_TAG, 0))


def _check_uri(uri: str) -> None:
    wanted = (
        "write sqlite:///mlflow.db, http://127.0.0.1:5000 or postgresql+psycopg://user@host/database, "
        f"but got {shown(uri)}"
    )
    if uri.startswith(SQLITE):
        if "?" in uri:
            raise UserError(f"--tracking-uri {shown(uri)} has a ?, where parameters begin; name a file without it")
        return _check_path(Path(uri.removeprefix(SQLITE)), uri)
    if problem := parse(uri).problem:
        raise UserError(f"--tracking-uri {shown(uri)} {problem}")
    try:
        parts = urlsplit(uri)
        known = parts.scheme in ("http", "https") or parts.scheme.split("+")[0] in DATABASES
        if known and parts.hostname and parts.port != 0:
            return None
    except ValueError:
        # Its text may have a part of a password.
        raise UserError(f"--tracking-uri cannot be read as an address; {wanted}") from None
    if uri.split(":")[0] == "databricks":
        return None
    raise UserError(f"--tracking-uri must name a store or server with its host; {wanted}")


def _check_path(path: Path, uri: str) -> None:
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        what = f"{path} is a folder" if path.is_dir() else f"there is no folder {folder}"
        raise UserError(f"--tracking-uri must name a file in a folder that is there, but got {uri}: {what}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise UserError(f"--tracking-uri must name a file that can be written, but got {uri}")
    if _is_there(path) and (what := _foreign(path)):
        raise UserError(
            f"--tracking-uri must name a store of MLflow {mlflow.__version__}, or a file that is not there, but {path} "
            f"{what}; another store gets all that the records of a study hold"
        )


def _is_there(path: Path) -> bool:
    """Tell whether a file is there and not empty.

    MLflow would fill an empty file in place, and may be killed while it does.
    """
    return path.exists() and path.stat().st_size > 0


def _foreign(path: Path) -> str:
    """Say why a SQLite file is no store for this MLflow; "" for one that is.

    MLflow would add its tables to any file, or fail half-way.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=0, uri=True)) as database:
            tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
            if not tables:
                return ""
            if not {"experiments", "alembic_version"} <= tables:
                return "holds the tables of another program"
            versions = [name for (name,) in database.execute("select version_num from alembic_version")]
    except sqlite3.OperationalError:
        # Another process has it: MLflow waits longer.
        return ""
    except sqlite3.DatabaseError as error:
        return f"is damaged ({error}): restore it"
    newer = [version for version in versions if not any(SCHEMAS.glob(f"{version}_*.py"))]
    return f"was made by a newer MLflow (its schema is {newer[0]}): install that one" if newer else ""


def create_store(uri: str) -> None:
    """Make a missing SQLite store, once, under a lock.

    A store that was half made when its process was killed would be lost for good.
    """
    if not uri.startswith(SQLITE):
        return
    path = Path(uri.removeprefix(SQLITE)).absolute()
    if _is_there(path):
        return
    with FileLock(f"{path}.lock"):
        if _is_there(path):
            return
        for left in path.parent.glob(f"{path.name}.*.tmp*"):
            # Of a process that was killed here: nobody else is, under the lock.
            left.unlink()
        # A name of its own each time, for the same reason as in ``located``.
        unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
        _quiet()
        MlflowClient(f"{SQLITE}{unfinished}").search_experiments(max_results=1)
        unfinished.rename(path)


def is_local(uri: str) -> bool:
    """Tell whether a store is a file here, which answers soon or not at all."""
    return uri.startswith(SQLITE)


def is_refusal(error: Exception) -> bool:
    """Tell whether an error means a wrong request, which time does not mend."""
    if not isinstance(error, MlflowException):
        return isinstance(error, UserError)
    status = int(error.get_http_status_code())  # type: ignore[no-untyped-call]
    return 400 <= status < 500 and status not in (408, 429)


def first_line(error: BaseException, uri: str) -> str:
    """Write an error as one line of at most 300 characters, without secrets.

    uri: the address of the store that the error is about.
    """
    line = (masked(_own_words(error), uri).strip().splitlines() or [type(error).__name__])[0]
    # Of an address that does not answer, without what each library on the way has to say.
    cause = re.search(r"\(Caused by \w+\(.*?: (.+?)[\"']?\)+$", line)
    return (cause[1] if cause else line)[:300]


def _own_words(error: BaseException) -> str:
    """Find what a database itself said.

    What SQLAlchemy and MLflow put around it begins with advice to programmers and has the whole statement with its
    parameters.
    """
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, DBAPIError) and cause.orig is not None:
            return str(cause.orig)
        cause = cause.__cause__ or cause.__context__
    return str(error)


def unreachable(uri: str, error: Exception) -> UserError:
    """Make the error of a store that must answer now and does not."""
    if isinstance(error, UserError):
        return error
    return UserError(
        f"MLflow's store must be reachable, but {shown(uri)}: {first_line(error, uri)}; mend it, or name another by "
        "--tracking-uri, which gets all that the records hold"
    )


def search(client: MlflowClient, experiment: str, filter_string: str) -> list[Run]:
    """All active runs of an experiment that match, the newest first."""
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment], filter_string, ViewType.ACTIVE_ONLY, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def _quiet() -> None:
    """Stop what these programs log: they raise it too, and their log has passwords."""
    for name in ("mlflow", "alembic", "urllib3", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
