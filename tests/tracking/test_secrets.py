"""No secret of a store's address is printed, raised or kept, whatever the address is and the store answers."""

import html
import json
import logging
import traceback
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

import mlflow.store.db.utils
import pytest
from helpers.servers import free_port
from helpers.serving import serving
from helpers.tracked import INFO, write_trial
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from aesearch.__main__ import main
from aesearch.errors import UserError
from aesearch.records import Record, merged
from aesearch.tracking import Tracker, add_scores, fetch_model, read_study, register_model, send_all, shown, tracker
from aesearch.tracking.addresses import masked

SECRET = "S3cr@zq/qz?wk#kw:jx"
# Pieces that a reader of the address makes of the secret.
PIECES = ("S3cr", "zq/qz", "qz?wk", "wk#kw", "kw:jx")
RAW = (
    "http://bob:{raw}@127.0.0.1:{port}",
    "postgresql+psycopg://bob:{raw}@127.0.0.1:{port}/db",
    "htp://bob:{raw}@127.0.0.1",
    "bob:{raw}@127.0.0.1",
    "http:///bob:{raw}@127.0.0.1",
    "http://[bob:{raw}@127.0.0.1",
    "http://127.0.0.1:{port}/?password={raw}",
    "http://127.0.0.1:{port}/#access_token={raw}",
    "sqlite:///mlflow.db?token={raw}",
    "postgresql+psycopg://bob@127.0.0.1:{port}/db?sslpassword={raw}",
)
QUOTED = (
    "http://bob:{quoted}@127.0.0.1:{port}",
    "http://bob:{quoted}@127.0.0.1:{port}/base",
    "http://{quoted}@127.0.0.1:{port}",
    "https://bob:{quoted}@127.0.0.1:{port}",
    "http://127.0.0.1:{port}?token={quoted}",
    "http://127.0.0.1:{port}/x?a=b&api_key={quoted}&c=d",
    "postgresql+psycopg://bob:{quoted}@127.0.0.1:{port}/db",
    "postgresql+psycopg2://bob:{quoted}@127.0.0.1:{port}/db",
    "mysql+nothing://bob:{quoted}@127.0.0.1:{port}/db",
    "postgresql+psycopg://bob@127.0.0.1:{port}/db?password={quoted}",
    "postgresql+psycopg://bob@127.0.0.1:{port}/db?connect_timeout=1&sslpassword={quoted}&secret={quoted}",
    "mssql+pyodbc:///?odbc_connect=UID%3Dbob%3BPWD%3D{quoted}",
    "sqlite:///mlflow.db?password={quoted}",
    "sqlite://bob:{quoted}@/mlflow.db",
    "file:///tmp/x?key={quoted}",
    "http://bob:{quoted}@127.0.0.1:port",
)


def addresses(port: int, raw: str = SECRET) -> list[str]:
    return [one.format(raw=raw, quoted=quote(raw, safe=""), port=port) for one in (*RAW, *QUOTED)]


@pytest.mark.parametrize("begin", ["http://bob:", "postgresql+psycopg://bob:", "bob:", "http://a.b:"])
@pytest.mark.parametrize("secret", ["S3cr@kwjx", "S3cr@kw!jx", "S3cr@kwjx!/", "S3cr@kw(jx:1"])
def test_a_password_with_an_at_sign_and_no_host_is_hidden(begin, secret):
    uri = f"{begin}{secret}"
    for text in (shown(uri), masked(f"no way to {uri}, of {secret}", uri)):
        assert "S3cr" not in text
        assert "kw" not in text
        assert "jx" not in text


@pytest.mark.parametrize("host", ["h.example", "localhost", "127.0.0.1:5000", "[::1]:5000", "db/store", "db:5432"])
def test_a_host_stays_readable(host):
    assert shown(f"http://bob:S3cr@{host}") == f"http://bob:***@{host}"


def assert_hidden(text: str, secret: str = SECRET) -> None:
    """Look for the secret in each way that programs write it, and for its pieces."""
    for read in (text, unquote(text), unquote(unquote(text)), html.unescape(text)):
        for piece in (secret, quote(secret, safe=""), quote_plus(secret), *(PIECES if secret == SECRET else ())):
            assert piece not in read


class Echo(BaseHTTPRequestHandler):
    """Server that refuses, and says all that it was told."""

    def _answer(self) -> None:
        given = self.headers.get("Authorization", "")
        told = b64decode(given.removeprefix("Basic ")).decode() if given.startswith("Basic ") else ""
        message = f"{given} {told} {quote(told)} {quote(quote(told))} {html.escape(told)} {told!r} {self.path}"
        body = json.dumps({"error_code": "PERMISSION_DENIED", "message": message}).encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    with serving(Echo) as address:
        yield int(address.rstrip("/").rpartition(":")[2])


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow.store.db.utils, "MAX_RETRY_COUNT", 0)
    monkeypatch.setattr(tracker, "LAST_SECONDS", dict.fromkeys(tracker.LAST_SECONDS, 0.2))
    monkeypatch.setattr(tracker, "OPENING_SECONDS", 1.0)


def tried(uri: str, folder: Path) -> Iterator[str]:
    """Give all that is said or raised by what opens a store."""
    records = folder / ".aesearch" / "s" / "trials"
    sending = Tracker(uri, INFO, records)

    def track() -> str:
        sending.open()
        sending.notify(0)
        sending.close("KILLED")
        return sending.problem

    attempts = [
        track,
        lambda: send_all(uri, INFO, records),
        lambda: read_study(uri, "s"),
        lambda: fetch_model(uri, "0" * 32),
        lambda: add_scores(uri, "0" * 32, merged({}, {}), Record(records / "00000")),
        lambda: register_model(uri, "s", "0" * 32, 0, "knee"),
    ]
    for attempt in attempts:
        try:
            yield str(attempt())
        except UserError as error:
            yield "".join(traceback.format_exception(error))


@pytest.mark.parametrize("place", range(len(RAW) + len(QUOTED)))
def test_a_closed_port_leaves_no_secret_anywhere(place, in_tmp, capfd, caplog):
    assert_nothing_kept(addresses(free_port())[place], in_tmp, capfd, caplog)


@pytest.mark.parametrize("shape", [one for one in QUOTED if one.startswith("http://")])
def test_a_server_that_tells_secrets_is_masked(shape, echo, in_tmp, capfd, caplog):
    uri = shape.format(quoted=quote(SECRET, safe=""), port=echo)
    assert_nothing_kept(uri, in_tmp, capfd, caplog)


def assert_nothing_kept(uri: str, in_tmp: Path, capfd, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    home = in_tmp / ".aesearch" / "s"
    write_trial(home / "trials", 0, "COMPLETE")
    (home / "study.json").write_text(json.dumps(INFO))
    said = list(tried(uri, in_tmp))
    commands = [["sync", "s"], ["report", "s"], ["use", "s", "encode"], ["rescore", "s", "--metric", "dci"]]
    commands += [["ui"]] if uri.startswith("http") else []
    assert [main([*command, "--tracking-uri", uri]) for command in commands] == [2] * len(commands)
    printed = capfd.readouterr()
    assert printed.err.count("\n") == len(commands)
    for text in (*said, printed.out, printed.err, caplog.text):
        assert_hidden(text)
    for path in in_tmp.rglob("*"):
        assert_hidden(str(path))
        if path.is_file():
            assert_hidden(path.read_bytes().decode(errors="replace"))


@given(
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="*"), min_size=4),
    shape=st.sampled_from(QUOTED),
    around=st.sampled_from(["{}", "in '{}': no", "Max retries: {}/api?x=1", '{{"url": "{}"}}']),
)
def test_a_secret_of_any_letters_is_masked_in_any_text(secret, shape, around):
    uri = shape.format(quoted=quote(secret, safe=""), port=5000)
    fixed = shape.format(quoted="", port=5000) + around
    if secret in fixed or quote(secret, safe="") in fixed:
        return
    assert quote(secret, safe="") not in shown(uri)
    quoted = quote(secret, safe="")
    for form in (secret, quoted, quote(quoted), repr(secret)[1:-1], html.escape(secret)):
        for text in map(around.format, (uri, form, uri.replace(quoted, form))):
            hidden = masked(text, uri)
            assert form not in hidden
            assert secret not in unquote(hidden)


def test_what_is_no_secret_stays():
    """Oracle: SQLAlchemy's own mask, of addresses that it reads."""
    for uri in ("postgresql+psycopg://bob:S3cr%40t@127.0.0.1:5432/db", "mysql+pymysql://bob:x@host/db?charset=utf8"):
        assert shown(uri) == make_url(uri).render_as_string(hide_password=True)
    for plain in (
        "sqlite:///mlflow.db",
        "sqlite:////home/token=me@work/password/key.db",
        "http://127.0.0.1:5000",
        "https://host/base",
        "http://[::1]:5000",
        "postgresql+psycopg://mlflow@127.0.0.1/mlflow",
    ):
        assert shown(plain) == plain
        assert masked(f"cannot open {plain}: no", plain) == f"cannot open {plain}: no"
    assert shown("http://bob:S3cret") == "http://bob:***", "a host is missing"
    assert masked("MLflow's store is mlflow.db", "http://bob:s@host") == "MLflow's store is mlflow.db"
    assert masked("the password 's' of s@x", "http://bob:s@host") == "the password '***' of ***@x"


def test_secrets_of_others_in_a_text_are_masked(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "from/the env")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-123")
    text = "postgresql://mlflow:hidden@db/x, Bearer tok-123, from%2Fthe+env, http://host/?token=abc&x=1"
    told = masked(text, "http://127.0.0.1:5000")
    assert told == "postgresql://mlflow:***@db/x, Bearer ***, ***, http://host/?token=***&x=1"
