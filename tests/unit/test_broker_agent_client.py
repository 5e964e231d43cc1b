# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from glideinwms_bosco.broker.backends.agent_client import CONNECTIONS, AgentClient, AgentGoneError
from glideinwms_bosco.broker.backends.agent_process import AgentProcess
from glideinwms_bosco.broker.backends.ssh_add import KeyFile, load_key
from glideinwms_bosco.errors import KeyBackendError
from glideinwms_bosco.sshwire import agent as protocol
from glideinwms_bosco.sshwire.keys import PublicKey, verify
from tests.unit.broker_keys import make_ssh_key, short_folder

__all__ = ["short_folder"]

Answer = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def _real_agent(folder: Path) -> AsyncIterator[tuple[AgentProcess, PublicKey]]:
    key = make_ssh_key(folder / "key")
    process = AgentProcess(folder / "a")
    await process.start()
    try:
        await load_key(process.socket, KeyFile(folder / "key"))
        yield process, key
    finally:
        await process.stop()


@asynccontextmanager
async def _agent_that(path: Path, answer: Answer) -> AsyncIterator[list[int]]:
    """An agent that answers whole wire messages by `answer`; gives a list with the number of connections it had."""
    seen = [0]
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen[0] += 1
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                writer.write(await answer(await reader.readexactly(size)))

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield seen
    finally:
        server.close()
        for writer in writers:
            writer.close()


def _framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def test_lists_and_signs_with_a_real_agent(short_folder: Path) -> None:
    async def run() -> None:
        async with _real_agent(short_folder) as (process, key):
            client = AgentClient(process.socket)
            assert [blob for blob, _ in await client.identities()] == [key.blob]
            verify(key, await client.sign(key.blob, b"data", 0), b"data")
            await client.close()

    asyncio.run(run())


def test_each_of_many_requests_at_once_gets_its_own_signature(short_folder: Path) -> None:
    async def run() -> None:
        async with _real_agent(short_folder) as (process, key):
            client = AgentClient(process.socket)
            asked = [b"data %d" % number for number in range(200)]
            signatures = await asyncio.gather(*(client.sign(key.blob, data, 0) for data in asked))
            for data, signature in zip(asked, signatures):
                verify(key, signature, data)
            await client.close()

    asyncio.run(run())


def test_refusal_of_the_agent_is_one_line(short_folder: Path) -> None:
    async def run() -> None:
        async with _real_agent(short_folder) as (process, _):
            other = make_ssh_key(short_folder / "other")
            client = AgentClient(process.socket)
            with pytest.raises(KeyBackendError, match="refuses to sign"):
                await client.sign(other.blob, b"data", 0)
            await client.close()

    asyncio.run(run())


def test_stopped_agent_costs_one_deadline_and_is_reported(short_folder: Path) -> None:
    silences = []

    async def run() -> None:
        async with _real_agent(short_folder) as (process, key):
            client = AgentClient(process.socket, deadline_s=0.3, on_silence=lambda: silences.append(1))
            await client.identities()
            os.kill(process.pid, signal.SIGSTOP)
            started = asyncio.get_running_loop().time()
            asked = (client.sign(key.blob, b"data", 0) for _ in range(10))
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert asyncio.get_running_loop().time() - started < 1
            assert all("has not answered within 0.3 s" in str(error) for error in found)
            os.kill(process.pid, signal.SIGCONT)
            verify(key, await client.sign(key.blob, b"again", 0), b"again")
            await client.close()

    asyncio.run(run())
    assert silences


def test_late_answer_is_never_taken_for_another_requests(short_folder: Path) -> None:
    async def run() -> None:
        held = asyncio.Event()
        bodies = []

        async def answer(body: bytes) -> bytes:
            bodies.append(body)
            if len(bodies) == 1:
                await held.wait()
                return _framed(protocol.signature(b"late"))
            return _framed(protocol.signature(b"own"))

        async with _agent_that(short_folder / "s", answer):
            client = AgentClient(short_folder / "s", deadline_s=0.2, connections=1)
            with pytest.raises(KeyBackendError):
                await client.sign(b"key", b"first", 0)
            held.set()
            assert await client.sign(b"key", b"second", 0) == b"own"
            await client.close()

    asyncio.run(run())


def test_agent_that_answers_some_is_not_reported_silent(short_folder: Path) -> None:
    """A key that waits for a touch must not get the agent killed under the others."""
    silences = []

    async def run() -> None:
        async def answer(body: bytes) -> bytes:
            if b"touch" in body:
                await asyncio.sleep(60)
            return _framed(protocol.signature(b"sig"))

        async with _agent_that(short_folder / "s", answer):
            client = AgentClient(short_folder / "s", deadline_s=0.3, on_silence=lambda: silences.append(1))
            slow = asyncio.ensure_future(client.sign(b"key", b"touch", 0))
            while not slow.done():
                await client.sign(b"key", b"other", 0)
                await asyncio.sleep(0.02)
            assert "has not answered" in str(slow.exception())
            await client.close()

    asyncio.run(run())
    assert not silences


@pytest.mark.parametrize(
    "wire",
    [
        _framed(protocol.signature(b"sig")) + b"x",
        (protocol.MAX_MESSAGE_BYTES + 1).to_bytes(4, "big"),
    ],
    ids=["bytes behind the answer", "length over the limit"],
)
def test_answer_that_breaks_the_protocol_ends_the_connection(short_folder: Path, wire: bytes) -> None:
    async def run() -> None:
        async def answer(_body: bytes) -> bytes:
            return wire

        async with _agent_that(short_folder / "s", answer):
            client = AgentClient(short_folder / "s", deadline_s=5)
            with pytest.raises(AgentGoneError, match="closed the connection"):
                await client.sign(b"key", b"data", 0)
            await client.close()

    asyncio.run(run())


def test_no_more_connections_than_allowed(short_folder: Path) -> None:
    async def run() -> None:
        async def answer(_body: bytes) -> bytes:
            await asyncio.sleep(0)
            return _framed(protocol.signature(b"sig"))

        async with _agent_that(short_folder / "s", answer) as seen:
            client = AgentClient(short_folder / "s")
            await asyncio.gather(*(client.sign(b"key", b"data", 0) for _ in range(100)))
            assert seen[0] == CONNECTIONS
            await client.close()

    asyncio.run(run())


def test_missing_agent_fails_at_once(short_folder: Path) -> None:
    async def run() -> None:
        with pytest.raises(AgentGoneError, match="no agent answers: No such file"):
            await AgentClient(short_folder / "s").identities()

    asyncio.run(run())


def test_requests_that_wait_at_the_close_learn_that_the_agent_is_gone(short_folder: Path) -> None:
    """Whoever asks again elsewhere must be able to tell this from a refusal."""

    async def run() -> None:
        async def answer(_body: bytes) -> bytes:
            await asyncio.sleep(60)
            return b""

        async with _agent_that(short_folder / "s", answer) as seen:
            client = AgentClient(short_folder / "s", connections=1)
            asking = [asyncio.ensure_future(client.sign(b"key", b"data", 0)) for _ in range(3)]
            while not seen[0]:
                await asyncio.sleep(0)
            await client.close()
            found = await asyncio.gather(*asking, return_exceptions=True)
            assert [type(error) for error in found] == [AgentGoneError] * 3

    asyncio.run(run())
