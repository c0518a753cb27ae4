"""Downloads from a server on this machine that breaks off, ignores ranges or has other bytes."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dpvae_cli.foundation.download import DownloadError, download
from dpvae_cli.foundation.progress import handle_progress

CONTENT = bytes(range(256)) * 12_000  # 3 MB
CHECKSUM = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
CUT = 1_234_567


class Handler(BaseHTTPRequestHandler):
    """Serves `server.content`; `server.cuts` says after how many bytes answers break off."""

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append((self.path, asked))
        if self.path == "/missing":
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if asked and server.knows_ranges:
            if start >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
            last = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.content)}")
        else:
            start = 0
            self.send_response(200)
        rest = server.content[start:]
        self.send_header("Content-Length", server.length or str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: server.cuts.pop(0)] if server.cuts else rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.content, found.cuts, found.asked, found.knows_ranges = CONTENT, [], [], True
        found.length = None
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def get(server, path, *places, checksum=CHECKSUM):
    urls = [f"http://127.0.0.1:{server.server_port}/{place}" for place in places or ("file",)]
    download(urls, path, checksum=checksum)


def ranges(server):
    return [asked for _, asked in server.asked]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_alone(server, tmp_path):
    path, events = tmp_path / "new" / "x.mat", []
    with handle_progress(events.append):
        get(server, path)
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["x.mat"]
    assert {event.task for event in events} == {"downloading x.mat [MB]"}
    done = [event.done for event in events]
    assert done == sorted(done)
    assert (events[-1].done, events[-1].total) == (2, 2)
    get(server, path)
    assert len(server.asked) == 1, "what is there is not asked for"


def test_a_cut_connection_goes_on_where_it_broke(server, tmp_path):
    server.cuts = [CUT, 1_000, 500]
    get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    starts = (CUT, CUT + 1_000, CUT + 1_500)
    assert ranges(server) == [None, *(f"bytes={start}-" for start in starts)]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, tmp_path):
    server.cuts = [CUT, 0]
    with pytest.raises(DownloadError, match="broke off after 1,234,567 of 3,072,000 bytes"):
        get(server, tmp_path / "x")
    assert names(tmp_path) == ["x.part"]
    assert (tmp_path / "x.part").read_bytes() == CONTENT[:CUT]
    get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert ranges(server)[-1] == f"bytes={CUT}-"
    assert names(tmp_path) == ["x"]


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.knows_ranges = False
    (tmp_path / "x.part").write_bytes(CONTENT[:CUT])
    get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert ranges(server) == [f"bytes={CUT}-"]


def test_a_server_without_ranges_that_always_breaks_off_is_left(server, tmp_path):
    server.knows_ranges, server.cuts = False, [CUT] * 50
    with pytest.raises(DownloadError, match="broke off"):
        get(server, tmp_path / "x")
    assert len(server.asked) == 2


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(DownloadError, match=f"not {CHECKSUM.removeprefix('md5:')}"):
        get(server, tmp_path / "x")
    assert names(tmp_path) == []
    assert len(server.asked) == 1


def test_the_beginning_of_another_file_is_thrown_away(server, tmp_path):
    (tmp_path / "x.part").write_bytes(b"another" * 1_000)
    get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert ranges(server) == ["bytes=7000-", None]


@pytest.mark.parametrize("kept", [CONTENT, CONTENT + b"more"])
def test_a_part_that_is_whole_or_too_long(server, tmp_path, kept):
    (tmp_path / "x.part").write_bytes(kept)
    get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert names(tmp_path) == ["x"]


def test_the_next_address_is_tried_with_what_has_arrived(server, tmp_path):
    server.cuts = [CUT, 0]
    get(server, tmp_path / "x", "missing", "first", "second")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert [place for place, _ in server.asked] == ["/missing", "/first", "/first", "/second"]


def test_no_address_has_it(server, tmp_path):
    with pytest.raises(OSError, match="404") as caught:
        get(server, tmp_path / "x", "missing")
    assert "/missing" in str(caught.value)
    assert names(tmp_path) == []
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match="refused"):
        get(server, tmp_path / "x")
    assert names(tmp_path) == []


def test_the_beginning_of_a_digest_is_enough(server, tmp_path):
    digest = hashlib.sha256(CONTENT).hexdigest()
    get(server, tmp_path / "x", checksum=f"sha256:{digest[:8]}")
    with pytest.raises(DownloadError):
        get(server, tmp_path / "y", checksum=f"sha256:{digest[1:9]}")


def test_two_at_a_time_download_it_once(server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: get(server, tmp_path / "x"), range(4)))
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert names(tmp_path) == ["x"]
    assert len(server.asked) == 1


def test_a_folder_that_cannot_be_is_an_oserror(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        get(server, tmp_path / "file" / "x")


@pytest.mark.parametrize("length", ["abc", "-1", ""])
def test_a_length_that_is_none_is_passed_over(server, tmp_path, length):
    server.length = length
    path = tmp_path / "file"
    get(server, path)
    assert path.read_bytes() == CONTENT
