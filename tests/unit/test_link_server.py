# SPDX-License-Identifier: Apache-2.0
"""The relay's door: strangers can fill the space in front of it, and a broker still comes in."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from glideinwms_bosco.link import server
from glideinwms_bosco.link.server import _network
from tests.unit.broker_keys import until
from tests.unit.link_fixture import LOOPBACK, Ends, dial_to, make_ends, raw_client, relay_of, run


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    return make_ends(tmp_path)


def test_broker_comes_in_while_silent_strangers_fill_the_door(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_ARRIVING", 4)

    async def test() -> None:
        async with relay_of(ends) as relay:
            strangers = [await raw_client(relay.port, None) for _ in range(4)]
            broker = await dial_to(relay.port, ends)
            assert await strangers[0].ended() == b"", "the one that has waited longest makes room"
            assert relay.server is not None and len(relay.server._arriving) == 3
            for stranger in strangers:
                stranger.cut()
            broker.close()
            await broker.wait_closed()
            await relay.settled()
            assert not relay.server._arriving

    run(test())


def test_burst_beyond_the_limit_leaves_nothing_behind(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "MAX_ARRIVING", 4)

    async def test() -> None:
        async with relay_of(ends) as relay:
            strangers = await asyncio.gather(*(raw_client(relay.port, None) for _ in range(14)))
            await until(lambda: caplog.text.count("dropped, too many") == 10)
            for stranger in strangers:
                stranger.cut()
            await relay.settled()
            assert relay.server is not None and not relay.server._arriving and not relay.server._tasks

    run(test())


def test_one_address_gets_no_more_than_its_share(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "MAX_ARRIVING_OF_ONE_ADDRESS", 2)

    async def test() -> None:
        async with relay_of(ends) as relay:
            strangers = [await raw_client(relay.port, None) for _ in range(3)]
            assert await strangers[2].ended() == b""
            for stranger in strangers:
                stranger.cut()
            await relay.settled()

    run(test())
    assert f"{LOOPBACK}: turned away, too many connections without HELLO" in caplog.text


def test_relay_without_free_descriptors_goes_on_when_there_are_some(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "_AFTER_ACCEPT_ERROR_S", 0.01)

    async def test() -> None:
        loop = asyncio.get_running_loop()
        accept, failures = loop.sock_accept, iter(range(2))

        async def full(listener: object) -> object:
            if next(failures, None) is not None:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return await accept(listener)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "sock_accept", full)
        async with relay_of(ends) as relay:
            broker = await dial_to(relay.port, ends)
            broker.close()
            await broker.wait_closed()
            await relay.settled()

    run(test())
    assert caplog.text.count("cannot accept connections: Too many open files") == 2


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_what_counts_as_one_address(host: str, counted: str) -> None:
    assert _network(host) == counted
