# SPDX-License-Identifier: Apache-2.0
"""Do work on somebody else's data in a child process that is killed when its time is over.

Regular expressions of a SITECONF are run here. Their form is judged before (`patterns`), and no expression that could
take exponential time is run at all; but an honest one may still take long on a long name, and how long cannot be told
from its form. Nothing else bounds the C code of `re`.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar, cast

from glideinwms_bosco.errors import SiteconfError

DEADLINE_S = 1.0
"""Of one piece of work, seconds."""
_Result = TypeVar("_Result")


def within_deadline(work: Callable[[], _Result], what: str, deadline_s: float = DEADLINE_S) -> _Result:
    """Do it in a child process.

    Args:
        work: gives what can be pickled; raises nothing.
        what: how the error names it.
        deadline_s: seconds from now.

    Raises:
        SiteconfError: it was not done in time, or the child died.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(work, sender, math.ceil(deadline_s) + 1), daemon=True)
    child.start()
    sender.close()
    try:
        if not receiver.poll(deadline_s):
            raise SiteconfError(f"{what} takes longer than {deadline_s:g} s", "simplify its regular expressions")
        return cast(_Result, receiver.recv())
    except EOFError:
        raise SiteconfError(f"{what} cannot be done", "simplify its regular expressions") from None
    finally:
        child.kill()
        child.join()
        receiver.close()


def _run(work: Callable[[], _Result], sender: Connection, cpu_s: int) -> None:
    # Also when the parent has been killed meanwhile.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    sender.send(work())
    sender.close()
