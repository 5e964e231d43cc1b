# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.broker.backends.agent_process import MAX_SOCKET_PATH_BYTES, AgentProcess, KeyFileBackend
from glideinwms_bosco.broker.backends.ssh_add import KeyFile, load_key
from glideinwms_bosco.errors import KeyBackendError
from glideinwms_bosco.sshwire.agent import SSH_AGENT_RSA_SHA2_512
from glideinwms_bosco.sshwire.keys import PublicKey, verify
from tests.unit.broker_keys import KINDS, make_ssh_key, secret_file, short_folder, until

__all__ = ["short_folder"]

PASSPHRASE = "correct horse"


@asynccontextmanager
async def _backend(
    folder: Path, kind: str = "ed25519", secret: Optional[str] = None, key: Optional[PublicKey] = None
) -> AsyncIterator[tuple[KeyFileBackend, PublicKey]]:
    made = make_ssh_key(folder / "key", kind, PASSPHRASE if secret else "")
    named = secret_file(folder / "secret", secret) if secret else None
    backend = KeyFileBackend("site", key or made, KeyFile(folder / "key", named), folder / "a", deadline_s=0.5)
    await backend.start()
    try:
        yield backend, made
    finally:
        await backend.close()


@pytest.mark.parametrize("ending", ["", "\n"], ids=["no newline", "newline"])
@pytest.mark.parametrize("kind", KINDS)
def test_signs_with_an_encrypted_key(short_folder: Path, kind: str, ending: str) -> None:
    async def run() -> None:
        async with _backend(short_folder, kind, PASSPHRASE + ending) as (backend, key):
            assert backend.trouble == ""
            flags = SSH_AGENT_RSA_SHA2_512 if kind == "rsa" else 0
            verify(key, await backend.sign(b"data", flags), b"data")

    asyncio.run(run())


def test_wrong_passphrase_is_one_clear_line_and_fails_fast(short_folder: Path) -> None:
    async def run() -> None:
        async with _backend(short_folder, secret="wrong") as (backend, _):
            assert backend.trouble == (
                f"{short_folder}/key: the passphrase is wrong; correct the passphrase file or systemd credential"
            )
            with pytest.raises(KeyBackendError, match="the passphrase is wrong"):
                await asyncio.wait_for(backend.sign(b"data", 0), 0.2)

    asyncio.run(run())


def test_corrected_passphrase_is_found_without_a_restart(short_folder: Path) -> None:
    async def run() -> None:
        async with _backend(short_folder, secret="wrong") as (backend, key):
            (short_folder / "secret").write_text(PASSPHRASE)
            await until(lambda: not backend.trouble)
            verify(key, await backend.sign(b"data", 0), b"data")

    asyncio.run(run())


def _load(key: KeyFile, folder: Path) -> str:
    """Load a key that cannot be loaded; return the error's line."""

    async def run() -> str:
        process = AgentProcess(folder / "a")
        await process.start()
        try:
            with pytest.raises(KeyBackendError) as error:
                await load_key(process.socket, key)
        finally:
            await process.stop()
        return str(error.value)

    return asyncio.run(run())


def test_encrypted_key_without_passphrase_says_what_to_set(short_folder: Path) -> None:
    make_ssh_key(short_folder / "key", passphrase=PASSPHRASE)
    assert "no passphrase is named for it; set `passphrase`" in _load(KeyFile(short_folder / "key"), short_folder)


def test_key_file_that_others_may_read_is_refused(short_folder: Path) -> None:
    make_ssh_key(short_folder / "key")
    (short_folder / "key").chmod(0o644)
    assert "other users may read the key file; chmod 600" in _load(KeyFile(short_folder / "key"), short_folder)


def test_passphrase_file_that_others_may_read_is_refused(short_folder: Path) -> None:
    make_ssh_key(short_folder / "key", passphrase=PASSPHRASE)
    secret = secret_file(short_folder / "secret", PASSPHRASE)
    (short_folder / "secret").chmod(0o640)
    assert "must be a file that only the broker may read" in _load(KeyFile(short_folder / "key", secret), short_folder)


def test_text_that_is_no_key_is_refused(short_folder: Path) -> None:
    (short_folder / "key").touch(0o600)
    (short_folder / "key").write_text("nonsense\n")
    assert "this is no private key that ssh-add can read" in _load(KeyFile(short_folder / "key"), short_folder)


def test_systemd_credential_is_used(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(short_folder))
    make_ssh_key(short_folder / "key", passphrase=PASSPHRASE)
    secret_file(short_folder / "site", PASSPHRASE)
    # An ACL for the service's user shows as a group permission.
    (short_folder / "site").chmod(0o440)

    async def run() -> None:
        process = AgentProcess(short_folder / "a")
        await process.start()
        try:
            await load_key(process.socket, KeyFile(short_folder / "key", "credential:site"))
        finally:
            await process.stop()

    asyncio.run(run())


def test_credential_that_came_after_the_start_says_how_to_get_it(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd gives credentials when the service starts; a second key's is not there before the next start."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(short_folder))
    make_ssh_key(short_folder / "key", passphrase=PASSPHRASE)
    said = _load(KeyFile(short_folder / "key", "credential:site"), short_folder)
    assert said.endswith(
        "systemd has not given it; LoadCredentialEncrypted=site:FILE in a drop-in, systemctl daemon-reload, "
        "systemctl restart gwms-ssh-broker"
    )


def test_passphrase_file_that_is_not_there_is_told_as_it_is(short_folder: Path) -> None:
    make_ssh_key(short_folder / "key", passphrase=PASSPHRASE)
    said = _load(KeyFile(short_folder / "key", f"file:{short_folder}/none"), short_folder)
    assert said.endswith(f"{short_folder}/none: No such file or directory")


def test_credential_without_systemd_says_so(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    make_ssh_key(short_folder / "key", passphrase=PASSPHRASE)
    assert "LoadCredentialEncrypted=site" in _load(KeyFile(short_folder / "key", "credential:site"), short_folder)


def test_missing_pkcs11_library_is_refused_and_not_tried_again(short_folder: Path) -> None:
    """A token locks itself after a few wrong PINs."""

    async def run() -> None:
        key = make_ssh_key(short_folder / "key")
        library = short_folder / "lib.so"
        library.touch()
        file = KeyFile(library, secret_file(short_folder / "pin", "1234"), is_provider=True)
        backend = KeyFileBackend("token", key, file, short_folder / "a")
        await backend.start()
        assert "the token or its library refuses" in backend.trouble
        assert backend.agent._task is not None
        await asyncio.wait_for(backend.agent._task, 1)
        await backend.close()

    asyncio.run(run())


def test_key_that_is_not_the_policys_is_refused(short_folder: Path) -> None:
    other = make_ssh_key(short_folder / "other")

    async def run() -> None:
        async with _backend(short_folder, key=other) as (backend, key):
            assert f"holds {key.fingerprint}, not the expected key {other.fingerprint}" in backend.trouble

    asyncio.run(run())


def test_killed_agent_comes_back_with_its_key(short_folder: Path) -> None:
    async def run() -> None:
        async with _backend(short_folder, secret=PASSPHRASE) as (backend, key):
            await backend.sign(b"before", 0)
            pid = backend.agent.process.pid
            os.kill(pid, signal.SIGKILL)
            verify(key, await backend.sign(b"after", 0), b"after")
            assert backend.agent.process.pid != pid

    asyncio.run(run())


def test_hung_agent_is_replaced_after_one_deadline(short_folder: Path) -> None:
    async def run() -> None:
        async with _backend(short_folder) as (backend, key):
            os.kill(backend.agent.process.pid, signal.SIGSTOP)
            with pytest.raises(KeyBackendError, match=r"has not answered within 0\.5 s"):
                await backend.sign(b"data", 0)
            verify(key, await backend.sign(b"after", 0), b"after")

    asyncio.run(run())


def test_agent_dies_with_a_killed_broker(short_folder: Path) -> None:
    """Debian's ssh-agent is set-group-ID, which would clear the death signal."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from glideinwms_bosco.broker.backends.agent_process import AgentProcess\n"
        "async def run():\n"
        f"    process = AgentProcess(Path({str(short_folder / 'a')!r}))\n"
        "    await process.start()\n"
        "    print(process.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(run())\n"
    )
    broker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert broker.stdout is not None
    agent = int(broker.stdout.readline())
    handle = os.pidfd_open(agent)
    broker.kill()
    broker.wait()
    broker.stdout.close()

    async def run() -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(handle, ended.set)
        await asyncio.wait_for(ended.wait(), 10)

    asyncio.run(run())
    os.close(handle)


def test_agent_folder_and_socket_are_private(short_folder: Path) -> None:
    async def run() -> None:
        async with _backend(short_folder) as (backend, _):
            assert (short_folder / "a").stat().st_mode & 0o777 == 0o700
            assert backend.agent.socket.stat().st_mode & 0o077 == 0

    asyncio.run(run())


def test_passphrase_is_in_no_argument_and_no_environment(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for ssh-add records what the real one would see, then becomes it."""
    folder = short_folder / "bin"
    folder.mkdir()
    spy = folder / "ssh-add"
    real = subprocess.run(["which", "ssh-add"], check=True, capture_output=True, text=True).stdout.strip()
    record = short_folder / "seen"
    spy.write_text(f'#!/bin/sh\n{{ env; printf "%s\\n" "$@"; }} > {record}\nexec {real} "$@"\n')
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    async def run() -> None:
        async with _backend(short_folder, secret=PASSPHRASE) as (backend, _):
            assert backend.trouble == ""

    asyncio.run(run())
    seen = record.read_text()
    assert "SSH_ASKPASS_REQUIRE=force" in seen
    assert PASSPHRASE not in seen


@pytest.mark.parametrize("over", [0, 1], ids=["at the limit", "one more"])
def test_socket_path_has_the_kernels_limit(short_folder: Path, over: int) -> None:
    async def run() -> None:
        room = MAX_SOCKET_PATH_BYTES - len(str(short_folder)) - len("//agent") + over
        process = AgentProcess(short_folder / ("x" * room))
        if over:
            with pytest.raises(KeyBackendError, match="longer than the 107 bytes"):
                await process.start()
        else:
            await process.start()
        await process.stop()

    asyncio.run(run())
