# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.broker.backends.command import MAX_OUTPUT_BYTES, run_command
from glideinwms_bosco.broker.backends.exec_key import ExecKeyBackend
from glideinwms_bosco.errors import KeyBackendError
from glideinwms_bosco.sshwire.keys import PublicKey, verify
from tests.unit.broker_keys import make_ssh_key, short_folder, until

__all__ = ["short_folder"]


def _command(folder: Path, body: str) -> list[str]:
    """A program that counts its runs in `runs` and then does as the body says; $SITE is the test's folder."""
    file = folder / "fetch"
    file.write_text(f'#!/bin/sh\nSITE={folder}\necho >> "$SITE/runs"\n{body}\n')
    file.chmod(0o755)
    return [str(file)]


def _runs(folder: Path) -> int:
    return len((folder / "runs").read_text())


@asynccontextmanager
async def _backend(folder: Path, body: str, key: Optional[PublicKey]) -> AsyncIterator[ExecKeyBackend]:
    backend = ExecKeyBackend("site", key, _command(folder, body), None, folder / "x")
    await backend.start()
    try:
        yield backend
    finally:
        await backend.close()


def _certified(validity: str) -> str:
    """Shell that writes the key and a fresh certificate of the site's CA."""
    argv = f'ssh-keygen -q -s "$SITE/ca" -I run -n pilot -V {validity} key.pub'
    return f'cp "$SITE/key" "$SITE/key.pub" . && {argv}'


@pytest.mark.parametrize("body", ['cat "$SITE/key"', 'cp "$SITE/key" "$GWMS_KEY_DIR/key"'], ids=["prints", "writes"])
def test_signs_with_a_key_that_a_command_gives(short_folder: Path, body: str) -> None:
    key = make_ssh_key(short_folder / "key")

    async def run() -> None:
        async with _backend(short_folder, body, key) as backend:
            assert backend.trouble == ""
            verify(key, await backend.sign(b"data", 0), b"data")
            # Nothing of the private key stays on the disk.
            assert not (short_folder / "x" / "k").exists()

    asyncio.run(run())


def test_certificate_comes_with_the_key_and_is_renewed_before_it_ends(short_folder: Path) -> None:
    key = make_ssh_key(short_folder / "key")
    make_ssh_key(short_folder / "ca")

    async def run() -> None:
        body = _certified("-1m:+33s")
        async with _backend(short_folder, body, key) as backend:
            certificate = backend.certificate
            assert certificate is not None
            assert certificate.key.blob == key.blob
            # 33 s at most; two thirds of them are 22 s: no test waits for that, so the wake-up is brought forward.
            backend._again.set()
            await until(lambda: _runs(short_folder) == 2 and backend.certificate not in (None, certificate))
            verify(key, await backend.sign(b"data", 0), b"data")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo token expired >&2; exit 3", r"fetch: fails \(3\): token expired"),
        ("echo hello", "gives no private key"),
        ("exec sleep 60", "has not ended within 0.5 s"),
        ('cat "$SITE/other"', "not the expected key"),
        ('cp "$SITE/key" "$SITE/key.pub" .; ssh-keygen -q -s "$SITE/ca" -I r -n p -V -1h:+9s key.pub', "ends in"),
        ('cp "$SITE/key" .; echo nonsense > key-cert.pub', "certificate cannot be read"),
        (
            'cp "$SITE/key" .; cp "$SITE/other.pub" o.pub; ssh-keygen -q -s "$SITE/ca" -I r -n p -V +1h o.pub; '
            "mv o-cert.pub key-cert.pub",
            "ssh-add does not load|certificate is for the key",
        ),
    ],
    ids=["fails", "no key", "hangs", "another key", "ends too soon", "no certificate", "certificate of another key"],
)
def test_command_that_gives_nothing_usable_is_told_in_one_line(
    short_folder: Path, body: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glideinwms_bosco.broker.backends.exec_key.COMMAND_DEADLINE_S", 0.5)
    key = make_ssh_key(short_folder / "key")
    make_ssh_key(short_folder / "other")
    make_ssh_key(short_folder / "ca")

    async def run() -> None:
        async with _backend(short_folder, body, key) as backend:
            with pytest.raises(KeyBackendError, match=words):
                await backend.sign(b"data", 0)
            assert "\n" not in backend.trouble

    asyncio.run(run())


def test_new_key_of_a_fetch_is_used_and_the_one_before_still_signs(short_folder: Path) -> None:
    keys = [make_ssh_key(short_folder / f"key{number}") for number in (1, 2, 3)]

    async def run() -> None:
        body = 'cat "$SITE/key$(wc -l < "$SITE/runs")"'
        async with _backend(short_folder, body, None) as backend:
            assert (backend.public_key, backend.earlier_key) == (keys[0], None)
            for old, new in zip(keys, keys[1:]):
                backend._again.set()
                await until(lambda: backend.public_key == new)  # noqa: B023 - awaited at once
                assert backend.earlier_key == old
                for key in (old, new):
                    verify(key, await backend.sign(b"data", 0, key), b"data")
            with pytest.raises(KeyBackendError, match="refuses to sign"):
                await backend.sign(b"data", 0, keys[0])

    asyncio.run(run())


def test_same_key_again_has_none_before_it(short_folder: Path) -> None:
    first, second = (make_ssh_key(short_folder / f"key{number}") for number in (1, 2))

    async def run() -> None:
        body = 'cat "$SITE/key$([ -e "$SITE/swap" ] && echo 2 || echo 1)"'
        async with _backend(short_folder, body, None) as backend:
            (short_folder / "swap").touch()
            backend._again.set()
            await until(lambda: backend.public_key == second)
            assert backend.earlier_key == first
            backend._again.set()
            await until(lambda: _runs(short_folder) == 3 and backend.earlier_key is None)
            await until(lambda: not backend._drop.exists())
            assert (backend.public_key, backend.trouble) == (second, "")

    asyncio.run(run())


def test_failed_renewal_leaves_the_loaded_key_in_use(short_folder: Path) -> None:
    key = make_ssh_key(short_folder / "key")

    async def run() -> None:
        body = '[ ! -e "$SITE/broken" ] || exit 1; cat "$SITE/key"'
        async with _backend(short_folder, body, key) as backend:
            (short_folder / "broken").touch()
            backend._again.set()
            await until(lambda: _runs(short_folder) == 2 and backend._trouble != "")
            assert backend.trouble == ""
            verify(key, await backend.sign(b"data", 0), b"data")

    asyncio.run(run())


def test_agent_that_dies_gets_its_key_anew(short_folder: Path) -> None:
    key = make_ssh_key(short_folder / "key")

    async def run() -> None:
        async with _backend(short_folder, 'cat "$SITE/key"', key) as backend:
            os.kill(backend.agent.process.pid, signal.SIGKILL)
            await until(lambda: _runs(short_folder) == 2 and backend.trouble == "")
            verify(key, await backend.sign(b"data", 0), b"data")

    asyncio.run(run())


def test_command_that_hangs_is_killed_with_what_it_started(short_folder: Path) -> None:
    async def run() -> None:
        program = _command(short_folder, 'sleep 60 & echo $! > "$SITE/pid"; wait')
        with pytest.raises(KeyBackendError, match="has not ended"):
            await run_command(program, 0.5)
        child = int((short_folder / "pid").read_text())
        state = Path(f"/proc/{child}/stat")
        await until(lambda: not state.exists() or state.read_text().split()[2] == "Z")

    asyncio.run(run())


@pytest.mark.parametrize("over", [0, 1], ids=["at the limit", "one more"])
def test_output_of_a_command_is_bounded(over: int) -> None:
    argv = ["head", "-c", str(MAX_OUTPUT_BYTES + over), "/dev/zero"]

    async def run() -> None:
        if over:
            with pytest.raises(KeyBackendError, match="prints more than"):
                await run_command(argv, 10)
        else:
            assert len((await run_command(argv, 10)).stdout) == MAX_OUTPUT_BYTES

    asyncio.run(run())
