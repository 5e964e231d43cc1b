# SPDX-License-Identifier: Apache-2.0
"""Why a signature is refused: the codes that broker, relay, logs and hold reasons share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class DenyCode(IntEnum):
    """Numbers on the wire; never reused for another meaning."""

    UNKNOWN_HANDLE = 1
    MALFORMED = 2
    HOST_KEY = 3
    USER = 4
    KEY = 5
    NOT_NOW = 6
    UNAVAILABLE = 7
    FORWARDED = 8
    SESSION_ID = 9
    HOST_SIGNATURE = 10
    HOSTBOUND = 11
    NO_PROOF = 12
    REPLAY = 13
    ALGORITHM = 14
    RATE = 15
    FACTORY = 16
    DISABLED = 17
    INTERNAL = 18
    NOT_YOURS = 19
    PURPOSE_CLOSED = 20


@dataclass(frozen=True)
class Denied:
    """A refusal.

    Attributes:
        code: the machine's part.
        reason: one sentence for the operator; it holds no secret and no line break.
        retry_after_s: seconds after which asking again makes sense; 0 when it never does.
    """

    code: DenyCode
    reason: str
    retry_after_s: int = 0
