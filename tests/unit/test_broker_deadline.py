# SPDX-License-Identifier: Apache-2.0
"""A deadline without a task of its own."""

from __future__ import annotations

import asyncio

import pytest

from glideinwms_bosco.broker.deadline import within

LONG_S = 60.0


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


def test_hands_on_the_result() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 7

    assert asyncio.run(within(LONG_S, answer())) == 7


def test_hands_on_an_error() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        asyncio.run(within(LONG_S, fail()))


def test_times_out_and_ends_the_work() -> None:
    ended = []

    async def work() -> None:
        try:
            await _never()
        finally:
            ended.append(True)

    async def ask() -> str:
        with pytest.raises(asyncio.TimeoutError):
            await within(0.01, work())
        # The task itself lives on.
        await asyncio.sleep(0)
        return "alive"

    assert asyncio.run(ask()) == "alive"
    assert ended == [True]


def test_cancelling_from_outside_stays_a_cancellation() -> None:
    async def ask() -> None:
        task = asyncio.ensure_future(within(LONG_S, _never()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())


def test_leaves_no_timer_behind() -> None:
    async def ask() -> None:
        await within(0.02, asyncio.sleep(0))
        await asyncio.sleep(0.05)

    asyncio.run(ask())
