# SPDX-License-Identifier: Apache-2.0
"""Deadlines, and cancellations that come at the same moment as a result."""

from __future__ import annotations

import asyncio

import pytest

from glideinwms_bosco.link.deadline import bounded, within

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


def test_bounded_hands_on_results_and_errors() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 7

    async def fail() -> None:
        raise ValueError("its own")

    assert asyncio.run(bounded(LONG_S, answer())) == 7
    with pytest.raises(ValueError, match="its own"):
        asyncio.run(bounded(LONG_S, fail()))


def test_bounded_ends_the_work_before_it_returns() -> None:
    ended = []

    async def work() -> None:
        try:
            await _never()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def ask() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await bounded(0.01, work())
        assert ended == [True]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(ask())


def test_cancellation_that_comes_with_the_result_is_not_dropped() -> None:
    """What `asyncio.wait_for` does before Python 3.12: a daemon that is told to stop goes on."""

    async def ask() -> None:
        event = asyncio.Event()
        # As many turns as it takes to wait, and then some: the cancellation meets each stage of the way back once.
        for turns in range(5):
            event.clear()
            task = asyncio.ensure_future(bounded(LONG_S, event.wait()))
            for _ in range(3):
                await asyncio.sleep(0)
            event.set()
            for _ in range(turns):
                await asyncio.sleep(0)
            if not task.done():
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                reached.append(turns)

    reached: list[int] = []
    asyncio.run(ask())
    assert len(reached) > 1


def test_error_of_cancelled_work_is_not_complained_of(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        try:
            await _never()
        finally:
            raise ValueError("late")

    async def ask() -> None:
        task = asyncio.ensure_future(bounded(LONG_S, work()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())
    assert not caplog.records
