# SPDX-License-Identifier: Apache-2.0
"""Machine ads of a pool, for what pilots say of themselves: one condor_status, bounded in time and size.

The program and not the bindings: their query cannot be ended from outside.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from glideinwms_bosco.errors import ScheddError

DEADLINE_S = 60.0
MAX_ADS_BYTES = 256 << 20
"""Of one pool; an ad of eight attributes has about 400 bytes."""
MAX_REASON_CHARS = 300


def query_machines(
    pool: str,
    constraint: str,
    attributes: Sequence[str],
    deadline_s: float = DEADLINE_S,
    max_bytes: int = MAX_ADS_BYTES,
) -> list[Mapping[str, Any]]:
    """Ask a collector for attributes of machine ads.

    Args:
        pool: `host` or `host:port` of the collector.
        constraint: a ClassAd expression.
        attributes: what is wanted of each ad.
        deadline_s: for all of it (s).
        max_bytes: of the answer.

    Raises:
        ScheddError: there is no condor_status, or the pool does not answer in time, or with something else.
    """
    # Not with -startd: HTCondor 23.9 then asks for ads of the daemons, which know nothing of what scripts publish.
    argv = ["condor_status", "-pool", pool, "-json"]
    argv += ["-constraint", constraint, "-attributes", ",".join(attributes)]
    answer = _run(argv, pool, deadline_s, max_bytes)
    try:
        # No ad at all is no text at all.
        ads = json.loads(answer) if answer.strip() else []
    except (ValueError, RecursionError) as err:
        raise ScheddError(f"pool {pool}: the answer of condor_status is no JSON: {err}"[:MAX_REASON_CHARS]) from None
    if not isinstance(ads, list) or not all(isinstance(ad, dict) for ad in ads):
        raise ScheddError(f"pool {pool}: the answer of condor_status is no list of ads")
    return ads


def _run(argv: Sequence[str], pool: str, deadline_s: float, max_bytes: int) -> bytes:
    with tempfile.TemporaryFile() as errors:
        try:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        except OSError as err:
            message = f"condor_status cannot be started: {err.strerror}"
            raise ScheddError(message, "run this where HTCondor is installed") from None
        late = threading.Event()

        def end() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(deadline_s, end)
        timer.start()
        try:
            with child:
                answer = child.stdout.read(max_bytes + 1) if child.stdout is not None else b""
                if len(answer) > max_bytes:
                    child.kill()
        finally:
            timer.cancel()
        if late.is_set():
            raise ScheddError(f"pool {pool} has not answered within {deadline_s:.0f} s", "is it the right collector?")
        if len(answer) > max_bytes:
            raise ScheddError(f"pool {pool}: the answer is larger than {max_bytes} bytes")
        if child.returncode != 0:
            errors.seek(0)
            reason = " ".join(errors.read(MAX_REASON_CHARS).decode("utf-8", "replace").split())
            raise ScheddError(f"pool {pool} cannot be asked: {reason or 'no reason given'}", "is its name right?")
    return answer
