# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from glideinwms_bosco.broker.backends.agent_process import KeyFileBackend
from glideinwms_bosco.broker.backends.ssh_add import KeyFile
from glideinwms_bosco.broker.certificates import (
    CertificateMaker,
    CertificateTerms,
    IssuedCertificates,
    SerialNumbers,
)
from glideinwms_bosco.errors import KeyBackendError
from glideinwms_bosco.sshwire.certificate import Certificate
from glideinwms_bosco.sshwire.keys import PublicKey
from glideinwms_bosco.sshwire.primitives import text
from tests.unit.broker_keys import KINDS, make_ssh_key, secret_file, short_folder

__all__ = ["short_folder"]

TERMS = CertificateTerms(("gwms-pilot", "second"), 600)


@asynccontextmanager
async def _maker(folder: Path, kind: str = "ed25519") -> AsyncIterator[tuple[CertificateMaker, PublicKey]]:
    ca = make_ssh_key(folder / "ca", kind, "secret")
    file = KeyFile(folder / "ca", secret_file(folder / "secret", "secret"))
    backend = KeyFileBackend("ca", ca, file, folder / "a")
    await backend.start()
    try:
        yield CertificateMaker(folder / "c", backend.agent_socket, ca, SerialNumbers()), ca
    finally:
        await backend.close()


def _certify(folder: Path, terms: CertificateTerms, kind: str = "ed25519") -> Certificate:
    key = make_ssh_key(folder / "key")

    async def run() -> Certificate:
        async with _maker(folder, kind) as (maker, _):
            return await maker.certify(key, terms, "gwms:site:submit:fact")

    return asyncio.run(run())


@pytest.mark.parametrize("kind", KINDS)
def test_ca_in_an_agent_certifies_what_is_asked_for(short_folder: Path, kind: str) -> None:
    certificate = _certify(short_folder, TERMS, kind)
    now = time.time()
    assert certificate.key_id == "gwms:site:submit:fact"
    assert certificate.principals == ("gwms-pilot", "second")
    assert certificate.valid_after < now < certificate.valid_before < now + 602
    # Everything but the ports that condor_ft-gahp needs is off.
    assert dict(certificate.extensions) == {"permit-port-forwarding": b""}
    assert not certificate.critical_options
    assert not list((short_folder / "c").iterdir())


def test_policy_sets_command_and_addresses(short_folder: Path) -> None:
    terms = CertificateTerms(("p",), 60, "~/bin/gwms-gate bosco", ("192.0.2.10/32", "2001:db8::/64"))
    options = dict(_certify(short_folder, terms).critical_options)
    assert options == {
        "force-command": text("~/bin/gwms-gate bosco"),
        "source-address": text("192.0.2.10/32,2001:db8::/64"),
    }


def test_serial_numbers_grow_even_when_the_clock_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glideinwms_bosco.broker.certificates.time.time_ns", lambda: 5000)
    serials = SerialNumbers()
    assert [serials.take() for _ in range(3)] == [5, 6, 7]


def test_ca_that_is_away_is_one_line(short_folder: Path) -> None:
    key = make_ssh_key(short_folder / "key")
    ca = make_ssh_key(short_folder / "ca")

    async def run() -> None:
        maker = CertificateMaker(short_folder / "c", short_folder / "none", ca, SerialNumbers())
        with pytest.raises(KeyBackendError, match=r"no certificate from the CA SHA256:") as error:
            await maker.certify(key, TERMS, "id")
        assert "\n" not in str(error.value)

    asyncio.run(run())


def test_issued_certificates_are_kept_until_they_end(short_folder: Path) -> None:
    key = make_ssh_key(short_folder / "key")

    async def run() -> list[Certificate]:
        async with _maker(short_folder) as (maker, _):
            return [await maker.certify(key, TERMS, "id") for _ in range(3)]

    first, second, third = asyncio.run(run())
    issued = IssuedCertificates()
    now = time.time()
    issued.add("handle", first, now)
    issued.add("handle", first, now)
    issued.add("handle", second, now)
    assert list(issued.by_handle()["handle"]) == [first, second]
    issued.add("handle", third, second.valid_before)
    assert list(issued.by_handle()["handle"]) == [third]
    issued.keep_only(["other"])
    assert not issued.by_handle()
