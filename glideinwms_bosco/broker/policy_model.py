# SPDX-License-Identifier: Apache-2.0
"""The policy as typed values: factories, entries, and the handles that an entry with a loaded key has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

from glideinwms_bosco.errors import BrokerError, PolicyFileError, Problem
from glideinwms_bosco.sshwire.handle import MAINTAIN, SUBMIT, handle_id, named_anchor
from glideinwms_bosco.sshwire.keys import PublicKey

DEFAULT_SSH_PORT = 22
EXEC = "exec"
"""The backend whose keys change."""
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class Rate:
    """Most signatures for each factory: `burst` at once, `per_hour` as a mean."""

    burst: int = 10
    per_hour: int = 60


@dataclass(frozen=True)
class Factory:
    """A factory whose relay this broker connects to.

    Attributes:
        relay_host: name or address, without brackets.
        pins: of the relay's TLS key, "sha256:" and 64 hex digits.
        source_addresses: networks (CIDR) that the factory's ssh connections come from.
    """

    name: str
    relay_host: str
    relay_port: int
    pins: tuple[str, ...]
    source_addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeySource:
    """Where a private key is; which fields are set depends on the backend.

    Attributes:
        backend: "ssh-agent" (file), "pkcs11" (provider), "agent-socket" (socket, public) or "exec" (command).
        file: private key file.
        passphrase: "credential:NAME" or "file:PATH"; never the secret.
        provider: PKCS#11 library.
        socket: of a running agent.
        command: argv.
        public: which key of those that the backend holds; None when it holds one.
    """

    backend: str
    file: Optional[str] = None
    passphrase: Optional[str] = None
    provider: Optional[str] = None
    socket: Optional[str] = None
    command: tuple[str, ...] = ()
    public: Optional[PublicKey] = None


@dataclass(frozen=True)
class Host:
    """A host where a key may log in, with its registered keys and certificate authorities.

    Attributes:
        via: networks (CIDR) that it sees logins come from, when they pass through a jump host; empty: the factories'.
        jump_to: `name:port` of hosts that it is the jump host for.
    """

    name: str
    port: int = DEFAULT_SSH_PORT
    keys: tuple[PublicKey, ...] = ()
    cas: tuple[PublicKey, ...] = ()
    via: tuple[str, ...] = ()
    jump_to: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """`name:port`."""
        return f"{self.name}:{self.port}"

    @property
    def known_hosts(self) -> str:
        """Lines of a known_hosts file.

        Source: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.
        """
        where = self.name if self.port == DEFAULT_SSH_PORT else f"[{self.name}]:{self.port}"
        lines = [f"{where} {key.authorized}\n" for key in self.keys]
        return "".join(lines + [f"@cert-authority {where} {ca.authorized}\n" for ca in self.cas])


@dataclass(frozen=True)
class Hours:
    """Days of the week (0 is Monday) and minutes of the day, UTC, `from_minute` <= t < `to_minute`."""

    days: frozenset[int]
    from_minute: int
    to_minute: int


@dataclass(frozen=True)
class CertificatePolicy:
    """Certificates of an entry.

    Attributes:
        ca: the certificate authority's key.
        ttl_s: life of a certificate, seconds.
        force_command: critical option; None: no such option.
        source_address: True puts the factory's source addresses into the certificate.
    """

    ca: KeySource
    principals: tuple[str, ...]
    ttl_s: int
    force_command: Optional[str]
    source_address: bool


@dataclass(frozen=True)
class Entry:
    """One key and what it may be used for.

    Attributes:
        name: the administrator's name for it.
        factories: names of the factories that may ask.
        unproven: True signs without proof of the destination (for clients that give none).
        not_before: unix seconds; None: no limit. Likewise `not_after`.
        hours: empty: at any time.
        submit: whether there is a handle for pilots.
        maintain: rate of the maintenance handle; None: there is none.
        gate: bosco_dir that the gate script is started for; None: no gate.
    """

    name: str
    key: KeySource
    user: str
    hosts: tuple[Host, ...]
    factories: tuple[str, ...]
    unproven: bool = False
    not_before: Optional[int] = None
    not_after: Optional[int] = None
    hours: tuple[Hours, ...] = ()
    rate: Rate = field(default_factory=Rate)
    submit: bool = True
    maintain: Optional[Rate] = None
    gate: Optional[str] = None
    cert: Optional[CertificatePolicy] = None
    enabled: bool = True

    @property
    def purposes(self) -> tuple[str, ...]:
        """Purposes that have a handle."""
        return (SUBMIT,) * self.submit + (MAINTAIN,) * (self.maintain is not None)

    def anchor(self, key: PublicKey) -> bytes:
        """What the handles of this entry are made of: its key, or its name where each fetch may bring another key."""
        return named_anchor(self.name) if self.key.backend == EXEC else key.blob

    def rate_of(self, purpose: str) -> Rate:
        """The rate of a purpose."""
        return self.maintain if purpose == MAINTAIN and self.maintain is not None else self.rate

    @property
    def known_hosts(self) -> str:
        """A known_hosts file of all hosts."""
        return "".join(host.known_hosts for host in self.hosts)


@dataclass(frozen=True)
class Handle:
    """What a factory names when it asks: an entry's key for one purpose.

    Attributes:
        earlier_key: of an entry whose key changes: the one before, which a login that is under way may still use.
    """

    handle: str
    purpose: str
    entry: Entry
    public_key: PublicKey
    earlier_key: Optional[PublicKey] = None

    @property
    def anchor(self) -> bytes:
        """What the handle is made of."""
        return self.entry.anchor(self.public_key)

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """Keys that a request may be for."""
        return (self.public_key,) if self.earlier_key is None else (self.public_key, self.earlier_key)


@dataclass(frozen=True)
class Policy:
    """A whole policy file.

    Attributes:
        file: as messages name it.
        digest: SHA-256 of the file, hex, for the audit log.
        lines: entry name -> line in the file.
    """

    file: str
    digest: str
    factories: Mapping[str, Factory]
    entries: Mapping[str, Entry]
    lines: Mapping[str, int]

    def keyed(
        self,
        broker_spki: bytes,
        public_keys: Mapping[str, PublicKey],
        earlier_keys: Optional[Mapping[str, PublicKey]] = None,
    ) -> KeyedPolicy:
        """Give each entry whose key is loaded its handles.

        Args:
            broker_spki: DER of the broker's TLS public key.
            public_keys: entry name -> public key; entries without one get no handle.
            earlier_keys: entry name -> key that was there before, of entries whose key changes.

        Raises:
            PolicyFileError: two entries have the same key: the handle would not say which one is meant.
        """
        owners: dict[bytes, str] = {}
        handles: dict[str, Handle] = {}
        for name, entry in self.entries.items():
            key = public_keys.get(name)
            if key is None:
                continue
            anchor = entry.anchor(key)
            other = owners.setdefault(anchor, name)
            if other != name:
                message = f"has the same key as {other} ({key.fingerprint})"
                hint = "make a key of its own for each entry"
                raise PolicyFileError((Problem(self.file, self.lines[name], f"handles.{name}.key", message, hint),))
            for purpose in entry.purposes:
                handle = handle_id(broker_spki, anchor, purpose)
                handles[handle] = Handle(handle, purpose, entry, key, (earlier_keys or {}).get(name))
        return KeyedPolicy(self, handles)


@dataclass(frozen=True)
class KeyedPolicy:
    """A policy and the handles of those entries whose key is loaded."""

    policy: Policy
    handles: Mapping[str, Handle]

    def factory_of(self, handle: Handle, pin: str) -> Optional[Factory]:
        """The factory behind a TLS key, if the entry is registered for it."""
        for name in handle.entry.factories:
            factory = self.policy.factories[name]
            if pin in factory.pins:
                return factory
        return None

    def handle_of(self, entry: str, purpose: str) -> Handle:
        """The handle of an entry for one purpose.

        Raises:
            BrokerError: there is none.
        """
        for handle in self.handles.values():
            if handle.entry.name == entry and handle.purpose == purpose:
                return handle
        found = self.policy.entries.get(entry)
        if found is not None and purpose in found.purposes:
            hint = "start the broker: it sees the key when it has loaded it once"
            raise BrokerError(f"{entry}: its public key is not known yet, so it has no handle", hint)
        known = ", ".join(sorted({handle.entry.name for handle in self.handles.values()})) or "none"
        raise BrokerError(f"{entry} has no {purpose} handle", f"entries with a known key: {known}")

    def of_factory(self, factory: str) -> tuple[Handle, ...]:
        """Handles to offer to a factory, in the order of the file.

        Those of disabled entries too: the factory then hears why it gets no signature.
        """
        return tuple(h for h in self.handles.values() if factory in h.entry.factories)
