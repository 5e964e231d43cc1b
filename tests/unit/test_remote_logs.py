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
    DEFAULT_FILES,
    MAX_BYTES,
    MAX_FILE_BYTES,
    MAX_FILE_LINES,
    MAX_FILES,
    MAX_LINE_CHARS,
    Logs,
    collect_logs,
    limits_for,
    parse_logs,
)
from glideinwms_bosco.remote.messages import MAX_MESSAGES, Message, MessageFormatError, Reply
from tests.unit.site_text import use_host_folders
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd
from tests.unit.test_fleet import loopback_sites
from tests.unit.test_remote_deploy import snapshot
from tests.unit.test_remote_ssh import runtime_directory

__all__ = ["loopback_sshd", "runtime_directory"]

DIR = "site/bosco"
OK, USAGE = 0, 2


@pytest.fixture
def folder(loopback_sshd: LoopbackSshd) -> Path:
    path = loopback_sshd.home / DIR / "log/egress"
    path.mkdir(parents=True)
    return path


def collect(daemon: LoopbackSshd, most: int = DEFAULT_FILES) -> Logs:
    with daemon.session() as session:
        return collect_logs(session, DIR, most)


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
    for number in range(DEFAULT_FILES + 3):
        write(folder / f"n{number}.log", b"\n" * (MAX_FILE_BYTES - 2) + b"e\n", number)
    logs = collect(loopback_sshd)
    assert len(logs.files) == DEFAULT_FILES
    assert logs.more == 3
    assert {len(file.lines) for file in logs.files} == {MAX_FILE_LINES}
    assert all(file.cut and file.lines[-1] == "e" for file in logs.files)


def test_files_of_many_nodes_are_all_had(loopback_sshd: LoopbackSshd, folder: Path) -> None:
    """The worst of them fill the answer and do not overflow it."""
    content = b"\n" * 200 + b"x" * MAX_FILE_BYTES + b"\ne\n"
    for number in range(MAX_FILES + 2):
        write(folder / f"n{number}.log", content, number)
    logs = collect(loopback_sshd, MAX_FILES)
    assert [file.name for file in logs.files] == [f"n{number}.log" for number in range(MAX_FILES)]
    assert logs.more == 2
    assert all(file.cut and file.lines[-1] == "e" for file in logs.files)
    few = collect(loopback_sshd, 2)
    assert ([file.name for file in few.files], few.more) == (["n0.log", "n1.log"], MAX_FILES)


@pytest.mark.parametrize("files", [1, DEFAULT_FILES, 300, MAX_FILES])
def test_answer_holds_what_is_asked_for(files: int) -> None:
    """Folder, both counts, and all lines of all files; text with a word before each line."""
    most_bytes, most_lines = limits_for(files)
    assert 1 <= most_lines <= MAX_FILE_LINES
    assert files * (most_lines + 1) + 3 <= MAX_MESSAGES
    assert files * most_bytes <= MAX_BYTES


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
        [Message("FILE", "x 1 2")] * (DEFAULT_FILES + 1),
        [Message("MORE", "-")],
        [Message("MORE", "1"), Message("MORE", "1")],
        [Message("ODD", "-1")],
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


@pytest.mark.usefixtures("host")
def test_command_says_what_it_leaves_out_and_how_to_have_it(
    loopback_sshd: LoopbackSshd, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["remote", "logs", "up0", "--key", str(loopback_sshd.key_file)]
    assert main([*argv, "--files", "1"]) == OK
    out = capsys.readouterr().out
    assert "older" not in out.replace("older file", "")
    assert "note: 1 older file left out; --files 2 shows all" in out
    assert main([*argv, "--files", "2"]) == OK
    assert "left out" not in capsys.readouterr().out


@pytest.mark.parametrize("number", ["0", "-1", str(MAX_FILES + 1), "x", "", "1_0"])
def test_command_refuses_another_number_of_files(capsys: pytest.CaptureFixture[str], number: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["remote", "logs", "up0", f"--files={number}"])
    assert stopped.value.code == USAGE
    assert f"from 1 to {MAX_FILES}" in capsys.readouterr().err
