# SPDX-License-Identifier: Apache-2.0
"""A deadline for something that is awaited, without a task of its own: `asyncio.wait_for` makes one each time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Await `work` in the running task, and cancel it when it takes longer.

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
