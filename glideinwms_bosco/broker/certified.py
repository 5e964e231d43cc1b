# SPDX-License-Identifier: Apache-2.0
"""Which certificates are out: those that a CA of the frontend makes anew in time, and those that a key came with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from glideinwms_bosco.broker.authorized import login_addresses
from glideinwms_bosco.broker.certificates import CertificateMaker, CertificateTerms, IssuedCertificates, SerialNumbers
from glideinwms_bosco.broker.keyring import KeyRing
from glideinwms_bosco.broker.policy_model import CertificatePolicy, Factory, Handle, KeyedPolicy
from glideinwms_bosco.errors import KeyBackendError
from glideinwms_bosco.sshwire.certificate import Certificate

LOG = logging.getLogger("gwms-ssh-broker")

RENEW_AT = 0.5
"""Part of a certificate's life after which the next one is offered."""
RETRY_S = 15.0
"""Between two tries of a CA that does not sign."""


class Certified:
    """Certificates of all handles.

    Args:
        folder: private, for ssh-keygen.
    """

    def __init__(self, folder: Path, ring: KeyRing) -> None:
        self._folder = folder
        self._ring = ring
        self._serials = SerialNumbers()
        self._issued = IssuedCertificates()
        self._offered: dict[tuple[str, str], Certificate] = {}
        self._not_before: dict[tuple[str, str], float] = {}
        self._said: dict[tuple[str, str], str] = {}

    def by_handle(self) -> Mapping[str, Sequence[Certificate]]:
        """Certificates that may stand in a request."""
        return self._issued.by_handle()

    def offered(self, handle: Handle, factory: str, now: float) -> Optional[Certificate]:
        """The certificate that a factory should use, if there is a valid one for the handle's present key."""
        certificate = self._offered.get((handle.handle, factory))
        if certificate is None or certificate.key.blob != handle.public_key.blob:
            return None
        return certificate if now < certificate.valid_before else None

    def adopt(self, keyed: KeyedPolicy, now: float) -> bool:
        """Take over the certificates that come with a key from outside.

        Returns:
            Whether a factory has to be told.
        """
        new = False
        for handle in keyed.handles.values():
            backend = self._ring.backend(handle.entry.key) if handle.entry.cert is None else None
            certificate = backend.certificate if backend is not None else None
            if certificate is not None:
                for name in handle.entry.factories:
                    new |= self._use(handle, name, certificate, now)
        return new

    async def renew(self, keyed: KeyedPolicy, now: float) -> bool:
        """Make the certificates that are due, and take over those that come with a key.

        Returns:
            Whether a factory has to be told.
        """
        self._issued.keep_only(list(keyed.handles))
        wanted = {(handle.handle, name) for handle in keyed.handles.values() for name in handle.entry.factories}
        self._offered = {key: certificate for key, certificate in self._offered.items() if key in wanted}
        # All at once: a CA whose token hangs must not make the certificates of others late.
        renewals = [
            self._renew(handle, keyed.policy.factories[name], handle.entry.cert, now)
            for handle in keyed.handles.values()
            if handle.entry.enabled and handle.entry.cert is not None
            for name in handle.entry.factories
        ]
        return self.adopt(keyed, now) | any(await asyncio.gather(*renewals))

    async def _renew(self, handle: Handle, factory: Factory, policy: CertificatePolicy, now: float) -> bool:
        slot = (handle.handle, factory.name)
        last = self._offered.get(slot)
        fits = last is not None and last.key.blob == handle.public_key.blob
        if last is not None and fits and now < last.valid_before - policy.ttl_s * (1 - RENEW_AT):
            return False
        # While its key is being loaded, a CA is neither in trouble nor ready: at the next look it may be either.
        if now < self._not_before.get(slot, 0.0) or self._ring.is_starting(policy.ca):
            return False
        certificate = await self._certify(handle, factory, policy, now)
        return certificate is not None and self._use(handle, factory.name, certificate, now)

    def _use(self, handle: Handle, factory: str, certificate: Certificate, now: float) -> bool:
        last = self._offered.get((handle.handle, factory))
        if last is not None and certificate.blob == last.blob:
            return False
        self._offered[handle.handle, factory] = certificate
        self._issued.add(handle.handle, certificate, now)
        return True

    async def _certify(
        self, handle: Handle, factory: Factory, policy: CertificatePolicy, now: float
    ) -> Optional[Certificate]:
        slot = (handle.handle, factory.name)
        ca = self._ring.backend(policy.ca)
        if ca is None or ca.public_key is None or ca.trouble:
            # No delay: the CA is there as soon as its key is.
            self._say(handle, slot, f"its CA: {ca.trouble if ca else 'there is no backend'}")
            return None
        maker = CertificateMaker(self._folder, ca.agent_socket, ca.public_key, self._serials)
        addresses = login_addresses(handle.entry, factory) if policy.source_address else ()
        terms = CertificateTerms(policy.principals, policy.ttl_s, policy.force_command, addresses)
        key_id = f"gwms:{handle.entry.name}:{handle.purpose}:{factory.name}"
        try:
            certificate = await maker.certify(handle.public_key, terms, key_id)
        except KeyBackendError as err:
            self._say(handle, slot, str(err))
            self._not_before[slot] = now + RETRY_S
            return None
        self._not_before.pop(slot, None)
        self._said.pop(slot, None)
        return certificate

    def _say(self, handle: Handle, slot: tuple[str, str], trouble: str) -> None:
        """Log what is wrong with a CA, once."""
        if self._said.get(slot) != trouble:
            LOG.error("%s: %s", handle.entry.name, trouble)
            self._said[slot] = trouble
