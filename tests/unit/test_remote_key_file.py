# SPDX-License-Identifier: Apache-2.0
"""A file that ssh could not log in with is refused with its reason; a good one passes in silence."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from glideinwms_bosco.errors import UsageError
from glideinwms_bosco.remote.key_file import MAX_KEY_FILE_BYTES, agent_problem, check_key_file


def make_key(path: Path, *options: str, passphrase: str = "") -> Path:
    argv = ["ssh-keygen", "-q", *(options or ("-t", "ed25519")), "-N", passphrase, "-C", "x", "-f", str(path)]
    subprocess.run(argv, check=True)
    return path


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    place = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(place)], stdout=subprocess.DEVNULL)
    try:
        ends_at = time.monotonic() + 10
        while not place.exists():
            assert time.monotonic() < ends_at
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(place))
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize(
    "options",
    [("-t", "ed25519"), ("-t", "ecdsa"), ("-t", "rsa", "-b", "1024", "-m", "PEM"),
     ("-t", "rsa", "-b", "1024", "-m", "PKCS8")],
)  # fmt: skip
def test_accepts_private_key_without_passphrase(tmp_path: Path, options: tuple[str, ...]) -> None:
    check_key_file(make_key(tmp_path / "my key", *options))


@pytest.mark.parametrize(
    "options", [("-t", "ed25519"), ("-t", "rsa", "-m", "PEM"), ("-t", "rsa", "-m", "PKCS8")]
)  # fmt: skip
def test_refuses_passphrase(tmp_path: Path, options: tuple[str, ...]) -> None:
    key = make_key(tmp_path / "key", *options, passphrase="abcdef")
    with pytest.raises(UsageError, match=r"has a passphrase.*BatchMode") as caught:
        check_key_file(key)
    assert "agent" in caught.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_refuses_mode_that_ssh_refuses(tmp_path: Path, mode: int) -> None:
    key = make_key(tmp_path / "key")
    key.chmod(mode)
    with pytest.raises(UsageError, match=f"mode {mode:04o}") as caught:
        check_key_file(key)
    assert caught.value.hint == f"chmod 600 {key}"
    key.chmod(0o400)
    check_key_file(key)


def test_refuses_public_key(tmp_path: Path) -> None:
    for options in (("-t", "ed25519"), ("-t", "ecdsa")):
        make_key(tmp_path / options[1], *options)
        with pytest.raises(UsageError, match="is a public key") as caught:
            check_key_file(tmp_path / f"{options[1]}.pub")
        assert "private key" in caught.value.hint


@pytest.mark.usefixtures("agent")
def test_public_key_needs_an_agent_that_holds_its_private_half(tmp_path: Path) -> None:
    public = make_key(tmp_path / "key").with_suffix(".pub")
    with pytest.raises(UsageError, match="does not hold its private half"):
        check_key_file(public, allow_agent_key=True)
    subprocess.run(["ssh-add", "-q", str(tmp_path / "key")], check=True)
    check_key_file(public, allow_agent_key=True)
    with pytest.raises(UsageError, match="is a public key"):
        check_key_file(public)


def test_public_key_without_agent_is_refused(tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    with pytest.raises(UsageError, match="no ssh agent"):
        check_key_file(tmp_path / "key.pub", allow_agent_key=True)


@pytest.mark.usefixtures("agent")
def test_passphrase_does_not_matter_when_the_agent_holds_the_key(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    subprocess.run(["ssh-add", "-q", str(key)], check=True)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "abcdef", "-f", str(key)], check=True)
    check_key_file(key, allow_agent_key=True)
    with pytest.raises(UsageError, match="has a passphrase"):
        check_key_file(key)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello\n", b"PuTTY-User-Key-File-3: ssh-ed25519\n", b"-----BEGIN CERTIFICATE-----\n", b"\0" * 100],
)
def test_refuses_file_without_private_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="holds no private key"):
        check_key_file(path)


def test_refuses_damaged_private_key(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    key.write_bytes(key.read_bytes()[:120] + b"\n-----END OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(UsageError, match="ssh cannot read this key"):
        check_key_file(key)


def test_size_is_refused_beyond_its_limit(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    content = key.read_bytes()
    key.write_bytes(content + b"\n" * (MAX_KEY_FILE_BYTES - len(content)))
    check_key_file(key)
    key.write_bytes(content + b"\n" * (MAX_KEY_FILE_BYTES + 1 - len(content)))
    with pytest.raises(UsageError, match="larger than"):
        check_key_file(key)


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "plain").touch()
    for name, words in (
        ("missing", "no such file"),
        (".", "is a directory"),
        ("pipe", "not a regular file"),
        ("plain/key", "cannot be opened"),
        ("nul\0", "cannot be opened"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            check_key_file(tmp_path / name)
        assert caught.value.hint
        assert str(caught.value).isprintable()


def test_refuses_unreadable_file(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    key.chmod(0)
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(UsageError, match="may not read it"):
            check_key_file(key)
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


def test_tool_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key(tmp_path / "key")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ssh-keygen").write_text("#!/bin/sh\nexec sleep 60\n")
    (tools / "ssh-keygen").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr("glideinwms_bosco.remote.key_file.TOOL_TIMEOUT_S", 0.2)
    with pytest.raises(UsageError, match=r"ssh-keygen does not come to an end within 0\.2 s"):
        check_key_file(key)


def test_agent_problem_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not set" in (agent_problem() or "")
    for name in ("missing", "file", "closed"):
        (tmp_path / "file").touch()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / f"{name}.s"))
        place = tmp_path / ("closed.s" if name == "closed" else name)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(place))
        assert f"the ssh agent at {place} does not answer" in (agent_problem() or "")
