# SPDX-License-Identifier: Apache-2.0
"""Logs of a closed site over a real sshd: bounded, printable, whatever lies there."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from glideinwms_bosco.cli.main import main
from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.logs import (
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_LINE_CHARS,
    MAX_LINES,
    Logs,
    collect_logs,
    parse_logs,
)
from glideinwms_bosco.remote.messages import Message, MessageFormatError, Reply
from tests.unit.site_text import use_host_folders
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd
from tests.unit.test_fleet import loopback_sites
from tests.unit.test_remote_deploy import snapshot
from tests.unit.test_remote_ssh import runtime_directory

__all__ = ["loopback_sshd", "runtime_directory"]

DIR = "site/bosco"
OK = 0


@pytest.fixture
def folder(loopback_sshd: LoopbackSshd) -> Path:
    path = loopback_sshd.home / DIR / "log/egress"
    path.mkdir(parents=True)
    return path


def collect(daemon: LoopbackSshd) -> Logs:
    with daemon.session() as session:
        return collect_logs(session, DIR)


def write(path: Path, content: bytes, age_s: int = 0) -> None:
    path.write_bytes(content)
    at = time.time() - age_s
    os.utime(path, (at, at))


def test_newest_file_comes_first_and_nothing_is_changed(loopback_sshd: LoopbackSshd, folder: Path) -> None:
    write(folder / "n1.20260101.log", b"one\ntwo\n", 100)
    write(folder / "n2.20260102.log", b"three", 10)
    before = snapshot(loopback_sshd.home)
    logs = collect(loopback_sshd)
    assert [(file.name, file.lines, file.size, file.cut) for file in logs.files] == [
        ("n2.20260102.log", ("three",), 5, False),
        ("n1.20260101.log", ("one", "two"), 8, False),
    ]
    assert (logs.folder, logs.more, logs.odd) == (str(loopback_sshd.home / DIR), 0, 0)
    assert snapshot(loopback_sshd.home) == before


def test_account_without_logs_has_none(loopback_sshd: LoopbackSshd) -> None:
    assert collect(loopback_sshd) == Logs(None, (), 0, 0)
    (loopback_sshd.home / DIR).mkdir(parents=True)
    assert collect(loopback_sshd).files == ()


def test_text_is_printable_whatever_it_was(loopback_sshd: LoopbackSshd, folder: Path) -> None:
    write(folder / "a.log", b"\x1b[2Jwipe\x07\tend\r\n\xff\xfe\x00\nEND\nTEXT x\nERROR a b\nFILE b 1 2\n" + b"x" * 5000)
    (file,) = collect(loopback_sshd).files
    assert file.lines[0] == "?[2Jwipe? end "
    assert file.lines[1:5] == ("???", "END", "TEXT x", "ERROR a b")
    assert file.lines[5] == "FILE b 1 2"
    assert len(file.lines[6]) == MAX_LINE_CHARS


@pytest.mark.parametrize(("more", "cut"), [(0, False), (1, True)])
def test_end_of_a_long_file_is_shown(loopback_sshd: LoopbackSshd, folder: Path, more: int, cut: bool) -> None:
    content = b"start" + b"." * (MAX_FILE_BYTES - 10 + more) + b"\nend\n"
    write(folder / "a.log", content)
    (file,) = collect(loopback_sshd).files
    assert (file.lines[-1], file.cut) == ("end", cut)
    assert file.lines[0].startswith("start") is not cut


def test_file_of_many_lines_is_bounded(loopback_sshd: LoopbackSshd, folder: Path) -> None:
    for number in range(MAX_FILES + 3):
        write(folder / f"n{number}.log", b"\n" * (MAX_FILE_BYTES - 2) + b"e\n", number)
    logs = collect(loopback_sshd)
    assert len(logs.files) == MAX_FILES
    assert logs.more == 3
    assert {len(file.lines) for file in logs.files} == {MAX_LINES}
    assert all(file.cut and file.lines[-1] == "e" for file in logs.files)


def test_only_plain_files_with_plain_names_are_read(loopback_sshd: LoopbackSshd, folder: Path) -> None:
    secret = loopback_sshd.home / "secret"
    secret.write_text("secret")
    (folder / "link.log").symlink_to(secret)
    os.mkfifo(folder / "pipe.log")
    (folder / "folder.log").mkdir()
    for name in (b"a b.log", b"caf\xe9.log", b"-rf", b".hidden", b"x\nFILE y 1 2"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text("odd")
    logs = collect(loopback_sshd)
    assert logs.files == ()
    assert logs.odd >= 5


def test_folder_that_is_a_link_is_refused(loopback_sshd: LoopbackSshd, folder: Path) -> None:
    folder.rmdir()
    folder.symlink_to(loopback_sshd.directory)
    with pytest.raises(RemoteError, match="log/egress is a link"):
        collect(loopback_sshd)


@pytest.mark.parametrize(
    "messages",
    [
        [Message("TEXT", "x")],
        [Message("FILE", "../x 1 2")],
        [Message("FILE", "x 1")],
        [Message("FILE", "x 1 -2")],
        [Message("FILE", "x 1 2")] * (MAX_FILES + 1),
    ],
)
def test_answer_of_another_form_is_refused(messages: list[Message]) -> None:
    with pytest.raises(MessageFormatError):
        parse_logs(Reply("", True, True, tuple(messages)))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopback_sshd: LoopbackSshd) -> Path:
    path = tmp_path / "host"
    path.mkdir()
    use_host_folders(path, monkeypatch)
    loopback_sites(path, loopback_sshd, 1)
    folder = loopback_sshd.home / "up0/log/egress"
    folder.mkdir(parents=True)
    write(folder / "n1.log", b"older\n", 50)
    write(folder / "n2.log", b"newer\n")
    return path


@pytest.mark.usefixtures("host")
def test_command_shows_the_newest_last(loopback_sshd: LoopbackSshd, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["remote", "logs", "up0", "--key", str(loopback_sshd.key_file)]
    assert main(argv) == OK
    out = capsys.readouterr().out
    assert out.index("older") < out.index("newer")
    assert main([*argv, "--json"]) == OK
    files = json.loads(capsys.readouterr().out)["files"]
    assert [(file["name"], file["lines"]) for file in files] == [("n2.log", ["newer"]), ("n1.log", ["older"])]


def test_command_writes_files_below_a_folder(loopback_sshd: LoopbackSshd, host: Path) -> None:
    argv = ["remote", "logs", "up0", "--key", str(loopback_sshd.key_file), "--output", str(host / "out")]
    assert main(argv) == OK
    assert (host / "out/up0/me/n1.log").read_text() == "older\n"
    assert sorted(path.name for path in (host / "out/up0/me").iterdir()) == ["n1.log", "n2.log"]
    assert not (host / "state" / "history").exists()
