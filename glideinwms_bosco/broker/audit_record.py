# SPDX-License-Identifier: Apache-2.0
"""What the audit log says about a decision. Ids and fingerprints, never keys, signatures or the signed bytes."""

from __future__ import annotations

import hashlib
from typing import Any, Optional

from glideinwms_bosco.broker.decision import Allowed
from glideinwms_bosco.broker.policy_model import KeyedPolicy
from glideinwms_bosco.link.deny import Denied
from glideinwms_bosco.link.messages import Sign

MAX_CLAIM_CHARS = 1000
"""Characters kept of what a relay claims about its client."""


def sign_record(allowed: Allowed, request: Sign, factory_pin: str, peer: str) -> dict[str, Any]:
    """The record that must stand in the log before the signature leaves.

    Args:
        factory_pin: of the connection's TLS key.
        peer: address of the connection's other end.
    """
    certificate = allowed.certificate
    return {
        "event": "sign",
        "handle": allowed.handle.handle,
        "entry": allowed.handle.entry.name,
        "purpose": allowed.handle.purpose,
        "factory": allowed.factory,
        "factory_spki": factory_pin,
        "peer": peer,
        "user": allowed.handle.entry.user,
        "host": allowed.host,
        "host_key": allowed.host_fingerprint,
        "proof": allowed.proof,
        "key": allowed.key.fingerprint,
        "algorithm": allowed.algorithm,
        "sid_sha256": allowed.session_id_sha256,
        "cert_key_id": certificate.key_id if certificate else None,
        "cert_serial": certificate.serial if certificate else None,
        "claimed": request.context[:MAX_CLAIM_CHARS],
    }


def deny_record(
    denied: Denied, request: Sign, policy: Optional[KeyedPolicy], factory_pin: str, peer: str, left_out: int = 0
) -> dict[str, Any]:
    """The record of a refusal.

    Args:
        policy: names the entry behind the handle; None when there is no policy.
        left_out: refusals of this factory that got no record of their own since its last one.
    """
    handle = policy.handles.get(request.handle) if policy else None
    return {
        "event": "deny",
        "code": int(denied.code),
        "reason": denied.reason,
        "handle": request.handle[:64],
        "entry": handle.entry.name if handle else None,
        "purpose": handle.purpose if handle else None,
        "factory_spki": factory_pin,
        "peer": peer,
        "data_sha256": hashlib.sha256(request.data).hexdigest(),
        "left_out": left_out,
        "claimed": request.context[:MAX_CLAIM_CHARS],
    }
