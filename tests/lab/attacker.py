# SPDX-License-Identifier: Apache-2.0
"""An attacker in a lab host: begins real logins, and asks relay and broker for signatures with values of his choice."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Optional

from glideinwms_bosco.link import messages
from glideinwms_bosco.link.messages import Deny, Offer, OfferAck, OfferItem, OfferResult, Sign, SignOk
from glideinwms_bosco.sshwire import agent
from glideinwms_bosco.sshwire.agent import SessionBind, parse_bind
from glideinwms_bosco.sshwire.userauth import UserauthRequest, build_userauth, parse_userauth
from tests.lab.lab import Lab
from tests.lab.settings import CHECKOUT_IN_HOST
from tests.lab.waiting import await_true


@dataclass(frozen=True)
class Attempt:
    """A request for a signature. As `Attacker.login` returns it, it is honest; an attack changes one value.

    Attributes:
        key_blob: public key that is to sign.
        binds: bodies of session-binds.
        evidence: (host key, signature) as a tap sends it.
        data: what is to be signed.
        flags: of the agent's request.
        context: what a relay says of its client.
    """

    key_blob: bytes
    binds: tuple[bytes, ...]
    evidence: tuple[tuple[bytes, bytes], ...]
    data: bytes
    flags: int
    context: str = '{"client": "ssh"}'

    @property
    def bind(self) -> SessionBind:
        """Its (first) session-bind."""
        return parse_bind(self.binds[0])

    @property
    def request(self) -> UserauthRequest:
        """What its data say."""
        return parse_userauth(self.data)

    def with_bind(self, **values: Any) -> Attempt:
        """Change values of its session-bind."""
        return replace(self, binds=(replace(self.bind, **values).body,))

    def with_request(self, **values: Any) -> Attempt:
        """Change values of its data."""
        asked = replace(self.request, **values)
        data = build_userauth(asked.session_id, asked.user, asked.algorithm, asked.key_blob, asked.host_key)
        return replace(self, data=data)

    def by_evidence(self) -> Attempt:
        """The same proof as a tap would have seen it."""
        return replace(self, binds=(), evidence=((self.bind.host_key, self.bind.signature),))


class Attacker:
    """Somebody with a user's rights in a host; `attacker` also ends it.

    Args:
        user: whose rights.
    """

    def __init__(self, lab: Lab, host: str, user: str = "root") -> None:
        self._process = lab.popen(
            host, ["python3", "-m", "tests.lab.attack_tool"], user=user, stdin=-1, stderr=None,
            env={"PYTHONPATH": CHECKOUT_IN_HOST, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip

    def close(self) -> None:
        """End it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def do(self, command: str, **values: Any) -> Any:
        """Have one command of the tool done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": command, **values}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the tool has died in {command}"
        return json.loads(line)

    def login(self, key_blob: bytes, where: str) -> Attempt:
        """Begin a login `user@host` with a real ssh and sshd; what the ssh would have had signed."""
        asked = self.do("login", key=key_blob.hex(), where=where)
        assert {"bind", "data"} <= set(asked), asked["ssh"]
        return Attempt(key_blob, (bytes.fromhex(asked["bind"]),), (), bytes.fromhex(asked["data"]), asked["flags"])

    def ask_socket(self, socket: str, attempt: Attempt) -> Optional[bytes]:
        """Ask at a handle's socket; the signature, or None when it is refused."""
        sent = [_extension(agent.SESSION_BIND, bind) for bind in attempt.binds]
        pid = self.do("pid") if attempt.evidence else 0
        sent += [agent.evidence_request(key, signature, pid) for key, signature in attempt.evidence]
        sent.append(agent.sign_request(attempt.key_blob, attempt.data, attempt.flags))
        answers = self.do("talk", path=socket, sent=[body.hex() for body in sent])
        assert len(answers) == len(sent), answers
        answer = bytes.fromhex(answers[-1])
        return None if answer == agent.failure() else agent.parse_signature(answer)

    def replace_relay(self, base: str, port: int) -> tuple[OfferItem, ...]:
        """Listen in place of a relay with the key `base`; what the broker offers when it has come."""
        self.do("listen", base=base, port=port)
        offered: list[str] = []

        def has_come() -> bool:
            offer = self.do("offer")
            offered.extend([offer] if offer else [])
            return bool(offered)

        await_true(has_come, "the broker has come")
        offer = messages.parse(Offer.TYPE, 1, bytes.fromhex(offered[0]))
        assert isinstance(offer, Offer)
        return offer.items

    def ask_broker(self, handle: str, attempt: Attempt) -> SignOk | Deny:
        """Ask over the link, as its relay."""
        sign = Sign(handle, attempt.context, attempt.binds, attempt.evidence, attempt.data, attempt.flags)
        answer = self._ask(sign)
        assert isinstance(answer, (SignOk, Deny)), answer
        return answer

    def offer(self, item: OfferItem) -> OfferResult:
        """Offer one handle over the link, as its broker."""
        answer = self._ask(Offer(1, (item,)))
        assert isinstance(answer, OfferAck), answer
        (result,) = answer.results
        return result

    def _ask(self, message: messages.Message) -> messages.Message:
        answer = self.do("ask", type=message.TYPE, body=message.body().hex())
        assert "lost" not in answer, answer
        return messages.parse(answer["type"], 1, bytes.fromhex(answer["body"]))


@contextmanager
def attacker(lab: Lab, host: str, user: str = "root") -> Iterator[Attacker]:
    """An attacker for a while."""
    made = Attacker(lab, host, user)
    try:
        yield made
    finally:
        made.close()


def _extension(name: str, body: bytes) -> bytes:
    """A bind request as it is, also one that does not parse."""
    head = agent.bind_request(b"", b"", b"")[: 1 + 4 + len(name)]
    return head + body
