# SPDX-License-Identifier: Apache-2.0
"""One agent connection of an ssh: what it has bound, and what each of its messages asks for. No I/O.

Every session-bind is kept, valid or not, and goes to the broker with each signature request: a connection on which a
bind was tried and failed must never count as one that did not try.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Union

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.sshwire import agent

# An honest ssh binds once. The broker refuses more than one, so those beyond need not be kept.
MAX_BINDS = 4
# Room for one of the largest well formed binds and the beginnings of more, inside one frame of the link.
MAX_BINDS_BYTES = 32768
MAX_SIGN_DATA_BYTES = 16384
_BIND_HEAD_BYTES = 1 + 4 + len(agent.SESSION_BIND)


@dataclass(frozen=True)
class AskList:
    """List the identities as soon as the broker is there."""


@dataclass(frozen=True)
class AskSign:
    """Get a signature over `data`."""

    data: bytes
    flags: int


@dataclass(frozen=True)
class AskStatus:
    """Tell the status of the socket's handle."""


@dataclass(frozen=True)
class Evidence:
    """Keep what a tap saw of the key exchange of the ssh process `ssh_pid`."""

    host_key: bytes
    signature: bytes
    ssh_pid: int


Action = Union[bytes, AskList, AskSign, AskStatus, Evidence]
"""What to do for a message; bytes are an answer that stands already."""


class AgentSession:
    """State of one connection.

    Args:
        handle: the handle whose socket it came to.
        key_blobs: public keys, and certificates if there are any; of them a client may ask for signatures.
    """

    def __init__(self, handle: str, key_blobs: tuple[bytes, ...]) -> None:
        self._handle = handle
        self.key_blobs = key_blobs
        self.binds: tuple[bytes, ...] = ()

    def message(self, body: bytes) -> Action:
        """Take one message (without its length) and say what to do; nothing it holds makes this raise."""
        if agent.is_bind_attempt(body):
            return self._bind(body[_BIND_HEAD_BYTES:])
        try:
            request = agent.parse_request(body)
        except WireError:
            return agent.failure()
        if isinstance(request, agent.ListIdentities):
            return AskList()
        if isinstance(request, agent.SignRequest):
            return self._sign(request)
        if isinstance(request, agent.StatusQuery) and request.handle == self._handle:
            return AskStatus()
        if isinstance(request, agent.KexEvidence):
            return Evidence(request.host_key, request.signature, request.ssh_pid)
        return agent.failure()

    def _bind(self, bind: bytes) -> bytes:
        first = not self.binds
        if len(self.binds) < MAX_BINDS:
            # Cut, an oversized one is malformed for the broker, which is what it is.
            self.binds += (bind[: MAX_BINDS_BYTES - sum(map(len, self.binds))],)
        try:
            parsed: Optional[agent.SessionBind] = agent.parse_bind(bind)
        except WireError:
            parsed = None
        # PROTOCOL.agent, session-bind: an agent refuses a second bind for authentication. ssh goes on regardless.
        return agent.success() if parsed is not None and first else agent.failure()

    def _sign(self, request: agent.SignRequest) -> Action:
        if request.key_blob not in self.key_blobs or len(request.data) > MAX_SIGN_DATA_BYTES:
            return agent.failure()
        return AskSign(request.data, request.flags)
