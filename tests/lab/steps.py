# SPDX-License-Identifier: Apache-2.0
"""Steps are timed, named in every failure, and may run side by side."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Callable

from tests.lab.settings import LabError

Say = Callable[[str], None]


def silent(_line: str) -> None:
    """Say nothing."""


class Steps:
    """Times steps and reports each with its seconds to `say`."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._began = time.monotonic()

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Time one step.

        Raises:
            LabError: the step raised one; with the step's name in front.
        """
        began = time.monotonic()
        try:
            yield
        except LabError as error:
            raise LabError(f"lab step failed: {what}: {error}") from error
        self._say(f"{time.monotonic() - began:6.2f} s  {what}")

    def total(self, what: str) -> None:
        """Report the seconds since the beginning."""
        self._say(f"{time.monotonic() - self._began:6.2f} s  {what}")


def together(calls: Iterable[Callable[[], Any]]) -> None:
    """Run calls side by side and wait for all of them; then raise the first failure."""
    calls = list(calls)
    with ThreadPoolExecutor(max_workers=max(1, len(calls))) as pool:
        futures = [pool.submit(call) for call in calls]
    for future in futures:
        future.result()
