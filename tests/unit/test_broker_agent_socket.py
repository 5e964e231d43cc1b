# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from glideinwms_bosco.broker.backends.agent_process import AgentProcess
from glideinwms_bosco.broker.backends.agent_socket import AgentSocketBackend
from glideinwms_bosco.broker.backends.ssh_add import KeyFile, load_key
from glideinwms_bosco.errors import KeyBackendError
from glideinwms_bosco.sshwire.keys import verify
from tests.unit.broker_keys import make_ssh_key, short_folder, until

__all__ = ["short_folder"]


@asynccontextmanager
async def _agent(folder: Path, *names: str) -> AsyncIterator[AgentProcess]:
    process = AgentProcess(folder / "a")
    await process.start()
    try:
        for name in names:
            await load_key(process.socket, KeyFile(folder / name))
        yield process
    finally:
        await process.stop()


def test_signs_with_its_key_among_others(short_folder: Path) -> None:
    keys = [make_ssh_key(short_folder / name) for name in ("one", "two")]

    async def run() -> None:
        async with _agent(short_folder, "one", "two") as process:
            backend = AgentSocketBackend("site", keys[1], process.socket)
            await backend.start()
            assert backend.trouble == ""
            verify(keys[1], await backend.sign(b"data", 0), b"data")
            await backend.close()

    asyncio.run(run())


def test_key_that_the_agent_lacks_is_named(short_folder: Path) -> None:
    make_ssh_key(short_folder / "one")
    other = make_ssh_key(short_folder / "other")

    async def run() -> None:
        async with _agent(short_folder, "one") as process:
            backend = AgentSocketBackend("site", other, process.socket)
            await backend.start()
            assert other.fingerprint in backend.trouble
            with pytest.raises(KeyBackendError, match="refuses to sign"):
                await backend.sign(b"data", 0)
            await backend.close()

    asyncio.run(run())


def test_only_key_is_taken_and_several_are_not_guessed_among(short_folder: Path) -> None:
    key = make_ssh_key(short_folder / "one")
    make_ssh_key(short_folder / "two")

    async def run() -> None:
        async with _agent(short_folder, "one") as process:
            backend = AgentSocketBackend("site", None, process.socket)
            await backend.start()
            assert backend.public_key == key
            await backend.close()
            await load_key(process.socket, KeyFile(short_folder / "two"))
            backend = AgentSocketBackend("site", None, process.socket)
            await backend.start()
            assert "name the one to use: `public`" in backend.trouble
            with pytest.raises(KeyBackendError, match="name the one to use"):
                await backend.sign(b"data", 0)
            await backend.close()

    asyncio.run(run())


def test_agent_that_comes_late_is_found(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glideinwms_bosco.broker.backends.agent_socket.CHECK_INTERVAL_S", 0.05)
    key = make_ssh_key(short_folder / "one")

    async def run() -> None:
        backend = AgentSocketBackend("site", key, short_folder / "a" / "agent")
        await backend.start()
        assert "no agent answers" in backend.trouble
        async with _agent(short_folder, "one"):
            await until(lambda: backend.trouble == "")
            verify(key, await backend.sign(b"data", 0), b"data")
        await until(lambda: backend.trouble != "")
        await backend.close()

    asyncio.run(run())
