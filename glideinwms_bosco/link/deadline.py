# SPDX-License-Identifier: Apache-2.0
"""Deadlines for what is awaited. `asyncio.wait_for` is not used: before Python 3.12 it drops a cancellation that
arrives together with the result, and a task that was to stop goes on for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def bounded(seconds: float, work: Awaitable[T]) -> T:
    """Await `work` in a task of its own, and end it when it takes longer. A cancellation always gets through.

    Raises:
        asyncio.TimeoutError: it took longer.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            # What it holds is let go before anybody goes on.
            await asyncio.wait({task})
        if not task.cancelled():
            # Looked at, or asyncio complains of an error that nobody waits for any more.
            task.exception()
    if task.cancelled():
        raise asyncio.TimeoutError
    return task.result()


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Await `work` in the running task, and cancel it when it takes longer. For what is done thousands of times.

    A cancellation from outside in the very turn of the loop in which time runs out shows as TimeoutError: use it only
    in tasks that end by themselves.

    Raises:
        asyncio.TimeoutError: it took longer.
    """
    task = asyncio.current_task()
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        if task is not None:
            task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        return await work
    except asyncio.CancelledError:
        if expired:
            raise asyncio.TimeoutError from None
        raise
    finally:
        timer.cancel()
