# SPDX-License-Identifier: Apache-2.0
"""Output that nobody takes (`| head`, a log on a full disk) must not end what is done on remote accounts."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable

from glideinwms_bosco.cli.fleet import Result, View


class LastingOutput:
    """Standard output of one command; goes to /dev/null when its reader has gone.

    Attributes:
        lost: it failed for another reason than that its reader has gone, so that something wanted is missing.
    """

    def __init__(self) -> None:
        self.lost = False

    def show(self, call: Callable[[], None]) -> None:
        """Call what prints on standard output; never fails because of that."""
        try:
            call()
            sys.stdout.flush()
        except OSError as error:
            # What is still buffered must find a place, or Python fails once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not self.lost and not isinstance(error, BrokenPipeError):
                self.lost = True
                with contextlib.suppress(OSError):
                    print(f"note: standard output: {error.strerror}; results are missing there", file=sys.stderr)


class LastingView:
    """A view that never fails."""

    def __init__(self, view: View, output: LastingOutput) -> None:
        self._view, self._output = view, output

    def begin(self, label: str) -> None:
        """See View."""
        self._output.show(lambda: self._view.begin(label))

    def tell(self, label: str, sentence: str) -> None:
        """See View."""
        self._output.show(lambda: self._view.tell(label, sentence))

    def advance(self, label: str, done: int, total: int) -> None:
        """See View."""
        self._output.show(lambda: self._view.advance(label, done, total))

    def ended(self, result: Result) -> None:
        """See View."""
        self._output.show(lambda: self._view.ended(result))

    def close(self) -> None:
        """See View."""
        self._output.show(self._view.close)
