"""Download files: resume broken connections, verify checksums, write atomically."""

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.version import __version__

BLOCK = 2**18
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""
ATTEMPTS = 20
"""At one address; the last one is the first that receives nothing new."""
FAILURES = (OSError, http.client.HTTPException)


class DownloadError(OSError):
    """A file cannot be downloaded; the part that was received is kept for the next call."""


class _ChecksumError(DownloadError):
    """The file has another checksum."""


def download(urls: Sequence[str], path: Path, *, checksum: str) -> None:
    """Download a file from the first address that has it, unless it exists.

    Bytes are collected in a file with the suffix `.part`, which a later call continues, and which
    is renamed when its checksum is right. Progress is reported in megabytes.

    Args:
        urls: addresses of the same file, tried in order.
        path: of the file; its folder is created.
        checksum: `md5:` or `sha256:` and the hexadecimal digest, or the beginning of it.

    Raises:
        OSError: no address has the file, or none with this checksum, or it cannot be written.
    """
    failures = []
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    with FileLock(lock):
        try:
            for url in urls:
                if path.is_file():
                    return
                try:
                    _fetch(url, path, checksum)
                except FAILURES as error:
                    failures.append(f"{url}: {str(error) or type(error).__name__}")
        finally:
            lock.unlink(missing_ok=True)  # a process that waits for it finds the file complete
    if not path.is_file():
        raise DownloadError("; ".join(failures))


def _fetch(url: str, path: Path, checksum: str) -> None:
    """Retry until the file is complete, as long as each attempt receives more than all before."""
    part = path.with_name(f"{path.name}.part")
    furthest = _size(part)
    for attempt in range(ATTEMPTS):
        start = _size(part)
        try:
            _receive(url, part, name=path.name)
            _verify(part, checksum)
        except _ChecksumError:
            part.unlink()
            if start == 0 or attempt + 1 == ATTEMPTS:
                raise
            furthest = 0
        except FAILURES:
            if _size(part) <= furthest or attempt + 1 == ATTEMPTS:
                if _size(part) == 0:
                    part.unlink(missing_ok=True)
                raise
            furthest = _size(part)
        else:
            part.replace(path)
            return


def _receive(url: str, part: Path, *, name: str) -> None:
    """Append the missing bytes to `part`, or start over if the server sends the whole file."""
    start = _size(part)
    headers = {"User-Agent": f"dpvae/{__version__}", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - no user's address
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            return  # nothing is missing, or it is another file: see the checksum
        raise
    with response, part.open("ab") as file:
        first = 0
        if response.status == http.client.PARTIAL_CONTENT:
            found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if found is None:
                raise DownloadError("the server sends a part of the file and does not say which")
            first = int(found[1])
        if first != start:
            file.truncate(0)
        length = response.headers.get("Content-Length", "")
        total = file.seek(0, 2) + (int(length) if length.isdecimal() else 0)
        while block := response.read1(BLOCK):
            file.write(block)
            report_progress(
                f"downloading {name} [MB]", file.tell() >> 20, max(total, file.tell()) >> 20
            )
    if _size(part) < total:
        raise DownloadError(f"the connection broke off after {_size(part):,} of {total:,} bytes")


def _verify(part: Path, checksum: str) -> None:
    algorithm, _, digest = checksum.partition(":")
    with part.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    if not found.hexdigest().startswith(digest):
        raise _ChecksumError(f"the file has {algorithm} {found.hexdigest()}, not {digest}")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
