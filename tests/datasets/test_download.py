import hashlib
import socketserver
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from helpers.serving import serving, serving_folder

from aesearch.datasets.download import fetch
from aesearch.errors import UserError

CONTENT = bytes(range(256)) * 5000
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class CutOff(BaseHTTPRequestHandler):
    """A server that promises more than it sends."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000])

    def log_message(self, *_):
        """Nothing: the test's output stays clean."""


@pytest.mark.parametrize("checksum", [SHA256, f"md5:{hashlib.md5(CONTENT).hexdigest()}"])
def test_a_file_comes_whole_and_nothing_else_is_left(tmp_path: Path, checksum):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.bin").write_bytes(CONTENT)
    with serving_folder(tmp_path / "web") as address:
        fetch(f"{address}a.bin", tmp_path / "new" / "a.bin", checksum)
    assert (tmp_path / "new" / "a.bin").read_bytes() == CONTENT
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.bin"]


def test_another_content_is_refused_and_removed(tmp_path: Path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.bin").write_bytes(CONTENT[:-1])
    with serving_folder(tmp_path / "web") as address, pytest.raises(UserError, match="must have the checksum sha256:"):
        fetch(f"{address}a.bin", tmp_path / "new" / "a.bin", SHA256)
    assert not list((tmp_path / "new").iterdir())


def test_a_connection_that_breaks_is_told_and_leaves_nothing(tmp_path: Path):
    with serving(CutOff) as address, pytest.raises(UserError, match=f"ended after 1000 of {len(CONTENT)} bytes|1000"):
        fetch(f"{address}a.bin", tmp_path / "a.bin", SHA256)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_and_a_missing_server_are_told(tmp_path: Path):
    with serving_folder(tmp_path / "web") as address, pytest.raises(UserError, match="404"):
        fetch(f"{address}none.bin", tmp_path / "none.bin", SHA256)
    with socketserver.TCPServer(("127.0.0.1", 0), None) as free:
        port = free.server_address[1]
    with pytest.raises(UserError, match=r"must be downloadable .* or put the file there by hand"):
        fetch(f"http://127.0.0.1:{port}/a.bin", tmp_path / "a.bin", SHA256)
    assert not [file for file in tmp_path.iterdir() if file.is_file()]


def test_a_file_that_was_there_stays_when_its_download_fails(tmp_path: Path):
    (tmp_path / "a.bin").write_bytes(b"old")
    with serving_folder(tmp_path / "web") as address, pytest.raises(UserError):
        fetch(f"{address}a.bin", tmp_path / "a.bin", SHA256)
    assert (tmp_path / "a.bin").read_bytes() == b"old"
