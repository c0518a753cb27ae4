"""Nobody is called unless asked to: every command works where any connection is an error."""

import socket

import pytest
from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from tests.small import SMALL, tiny_extractor
from tests.studies.tiny import written

COMMANDS = [
    ["train", "vae_moons", *SMALL],
    ["train", "--resume", "training.iterations=30"],
    ["train", "vae_mnist", "--dry-run"],
    ["sample", "--posterior"],
    ["reconstruct"],
    ["encode"],
    ["eval", "--metrics", "all"],
    ["traverse", "--steps", "2"],
    ["plot", "moons"],
    ["plot", "training"],
    ["reproduce"],
    ["reproduce", "tiny.yaml", "--dry-run"],
    ["reproduce", "tiny.yaml", "--jobs", "1"],
    ["report", "studies/tiny"],
    ["recipes", "ls"],
    ["doctor"],
]
"""Played in order, each from what the one before it left."""


class CalledError(Exception):
    """Somebody was called."""


@pytest.fixture(scope="module")
def offline():
    """Forbid names to be looked up and connections but for those between our own processes."""
    connect = socket.socket.connect

    def refuse(self, address):
        if self.family == socket.AF_UNIX:
            return connect(self, address)
        raise CalledError(f"connect {address}")

    def unnamed(*arguments, **_):
        raise CalledError(f"look-up of {arguments[:1]}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket.socket, "connect_ex", refuse)
        for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "create_connection"):
            patch.setattr(socket, name, unnamed)
        yield


@pytest.fixture(scope="module")
def place(offline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("offline")
    written(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DPVAE_CACHE", str(folder / "cache"))
        patch.setenv("TORCH_HOME", str(folder / "torch"))
        patch.delenv("DPVAE_DATA", raising=False)
        yield folder


def test_commands_call_nobody(place):
    for command in COMMANDS:  # one after the other: each looks at what those before have left
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, (command, done.output, done.exception)
        assert "CalledError" not in done.output


def test_images_and_an_extractor_of_one_s_own_call_nobody(place):
    tiny_extractor(place / "tiny.pt")
    small = [part for part in SMALL if not part.startswith("data.")]
    digits = ["train", "vae_moons", "data=digits", *small, "--run-dir", "digits"]
    assert CliRunner().invoke(app, digits).exit_code == 0
    asked = ["eval", "digits", "--metrics", "fid,kid", "--features", "tiny.pt", "--trust-features"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    "command", [["train", "vae_mnist", *SMALL[4:]], ["train", "vae_svhn", *SMALL[4:]]]
)
def test_with_no_download_nobody_is_called_where_data_is_missing(command, place):
    done = CliRunner().invoke(app, [*command, "--no-download", "--run-dir", "other"])
    assert done.exit_code == 3, done.output
    assert isinstance(done.exception, SystemExit)


def test_a_call_would_be_noticed(place):
    """Guard the tests above: a download that is asked for meets the wall."""
    done = CliRunner().invoke(app, ["train", "vae_mnist", *SMALL[4:], "--run-dir", "other"])
    assert isinstance(done.exception, CalledError)
