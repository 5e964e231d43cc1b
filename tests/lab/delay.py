# SPDX-License-Identifier: Apache-2.0
"""A TCP forwarder that makes a link longer: `python -m tests.lab.delay --listen PORT --to HOST:PORT --rtt-ms 20`.

Each direction delays by half the round trip and keeps the order of the bytes; it does not make the link narrower. The
kernel's own delay (netem) is not there in all kernels. What TCP itself does to connect takes no longer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import selectors
import signal
from collections.abc import Sequence
from typing import Optional

ADDRESS = "127.0.0.1"
_CHUNK_BYTES = 65536
_QUEUED_CHUNKS = 1024
"""On their way at once, per direction; the sender has to wait for room beyond."""

_Queue = asyncio.Queue[tuple[float, bytes]]


class Delay:
    """The forwarder; `start` returns when it listens.

    Args:
        target: host and port to connect to for each connection that comes.
        rtt_s: what is added to a round trip, seconds.
    """

    def __init__(self, target: tuple[str, int], rtt_s: float) -> None:
        self._target = target
        self._delay_s = rtt_s / 2
        self._server: Optional[asyncio.AbstractServer] = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int, address: str = ADDRESS) -> int:
        """Listen; return the port, which the kernel chooses for 0.

        Raises:
            OSError: the port is taken.
        """
        server = await asyncio.start_server(self._accepted, address, port)
        self._server = server
        return int(server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Listen no more and cut all connections."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        writers = [near_out]
        try:
            far_in, far_out = await asyncio.open_connection(*self._target)
            writers.append(far_out)
            await asyncio.gather(self._carry(near_in, far_out), self._carry(far_in, near_out))
        except OSError:
            # An end that is not there, or has cut the connection: the other one sees it cut, too.
            pass
        finally:
            for writer in writers:
                writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction to its end."""
        queue: _Queue = asyncio.Queue(_QUEUED_CHUNKS)
        delivering = asyncio.ensure_future(_deliver(queue, writer))
        try:
            data = b"-"
            while data:
                data = await reader.read(_CHUNK_BYTES)
                await queue.put((asyncio.get_running_loop().time() + self._delay_s, data))
            await delivering
        finally:
            delivering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await delivering


async def _deliver(queue: _Queue, writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due, data = await queue.get()
        await asyncio.sleep(due - loop.time())
        if not data:
            writer.write_eof()
            return
        writer.write(data)
        await writer.drain()


async def _run(port: int, target: tuple[str, int], rtt_s: float) -> None:
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    delay = Delay(target, rtt_s)
    print(f"listening on {ADDRESS}:{await delay.start(port)}", flush=True)
    await ending.wait()
    await delay.stop()


def main(args: Optional[Sequence[str]] = None) -> None:
    """Forward until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.delay", description="A TCP forwarder that delays.")
    parser.add_argument("--listen", type=int, required=True, metavar="PORT", help="0 for any free one, printed")
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--rtt-ms", type=float, required=True, metavar="MS", help="added to each round trip")
    options = parser.parse_args(args)
    host, _, port = options.to.rpartition(":")
    # epoll counts in whole milliseconds and rounds up; select does not.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    try:
        loop.run_until_complete(_run(options.listen, (host, int(port)), options.rtt_ms / 1000))
    finally:
        loop.close()


if __name__ == "__main__":
    main()
