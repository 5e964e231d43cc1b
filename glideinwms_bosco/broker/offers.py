# SPDX-License-Identifier: Apache-2.0
"""What a factory is told about the handles that it may use."""

from __future__ import annotations

import logging

from glideinwms_bosco.broker.certified import Certified
from glideinwms_bosco.broker.policy_model import Handle, KeyedPolicy
from glideinwms_bosco.link.frames import MAX_OFFER_BODY
from glideinwms_bosco.link.messages import MAX_OFFERED, Offer, OfferFlag, OfferItem

LOG = logging.getLogger("gwms-ssh-broker")


def offer_items(
    keyed: KeyedPolicy, factory: str, certified: Certified, now: float, *, certificates: bool = True
) -> tuple[OfferItem, ...]:
    """The handles of one factory, in the order of the policy; only as many as fit into a frame.

    Args:
        certificates: False while the clocks of both ends differ.
    """
    items: list[OfferItem] = []
    left_out: list[str] = []
    empty = len(Offer(1, ()).body())
    size = empty
    for handle in keyed.of_factory(factory):
        item = _item(handle, factory, certified, now, certificates)
        added = len(Offer(1, (item,)).body()) - empty
        if size + added > MAX_OFFER_BODY or len(items) == MAX_OFFERED:
            left_out.append(f"{handle.entry.name} ({handle.purpose})")
            continue
        size += added
        items.append(item)
    if left_out:
        LOG.error("%s: too many handles for one offer; left out: %s", factory, ", ".join(left_out))
    return tuple(items)


def _item(handle: Handle, factory: str, certified: Certified, now: float, certificates: bool) -> OfferItem:
    entry = handle.entry
    certificate = certified.offered(handle, factory, now) if certificates else None
    flags = OfferFlag.UNPROVEN if entry.unproven else OfferFlag(0)
    if certificates and (entry.cert is not None or certificate is not None):
        flags |= OfferFlag.CERT_SIGN
    return OfferItem(
        handle=handle.handle,
        pubkey_blob=handle.public_key.blob,
        anchor=handle.anchor,
        cert_blob=certificate.blob if certificate else b"",
        comment=f"gwms-broker:{entry.name}:{handle.purpose}",
        purpose=handle.purpose,
        user=entry.user,
        hosts=",".join(host.address for host in entry.hosts),
        known_hosts_text=entry.known_hosts,
        not_before=entry.not_before or 0,
        not_after=entry.not_after or 0,
        flags=int(flags),
    )
