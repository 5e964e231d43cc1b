# SPDX-License-Identifier: Apache-2.0
"""The forwarder that makes a link longer for the lab and the bench."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.lab.delay import ADDRESS, Delay

RTT_S = 0.06
WAIT_S = 10.0


@asynccontextmanager
async def _echo_behind_delay() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """An echo server that closes when the client has said its last word, and a connection to it."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, ADDRESS, 0)
    delay = Delay(server.sockets[0].getsockname()[:2], RTT_S)
    reader, writer = await asyncio.open_connection(ADDRESS, await delay.start(0))
    try:
        yield reader, writer
    finally:
        writer.close()
        await delay.stop()
        server.close()


def test_answers_take_a_round_trip_and_keep_their_order() -> None:
    sent = bytes(range(256)) * 4096  # 1 MiB: many pieces

    async def talk() -> None:
        async with _echo_behind_delay() as (reader, writer):
            began = time.monotonic()
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), WAIT_S) == b"x"
            assert time.monotonic() - began >= RTT_S
            writer.write(sent)
            assert await asyncio.wait_for(reader.readexactly(len(sent)), WAIT_S) == sent

    asyncio.run(talk())


def test_end_of_one_direction_lets_the_other_finish() -> None:
    async def talk() -> None:
        async with _echo_behind_delay() as (reader, writer):
            writer.write(b"last words")
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), WAIT_S) == b"last words"

    asyncio.run(talk())


def test_connection_ends_when_nobody_is_behind() -> None:
    async def talk() -> None:
        server = await asyncio.start_server(lambda _reader, _writer: None, ADDRESS, 0)
        port = int(server.sockets[0].getsockname()[1])
        server.close()
        await server.wait_closed()
        delay = Delay((ADDRESS, port), RTT_S)
        reader, writer = await asyncio.open_connection(ADDRESS, await delay.start(0))
        try:
            assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
        except ConnectionResetError:
            pass
        finally:
            writer.close()
            await delay.stop()

    asyncio.run(talk())
