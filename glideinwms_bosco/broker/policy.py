# SPDX-License-Identifier: Apache-2.0
"""Load the policy file: JSON with lines, schema and cross-field checks, all findings together; nothing is guessed."""

from __future__ import annotations

import hashlib
import ipaddress
import stat
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any, Callable, Optional

from glideinwms_bosco.broker.policy_model import (
    DAY_MINUTES,
    DAYS,
    DEFAULT_SSH_PORT,
    CertificatePolicy,
    Entry,
    Factory,
    Handle,
    Host,
    Hours,
    KeyedPolicy,
    KeySource,
    Policy,
    Rate,
)
from glideinwms_bosco.errors import PolicyFileError, Problem, WireError
from glideinwms_bosco.json_file import JsonSource, PathKey
from glideinwms_bosco.schema_words import Schema
from glideinwms_bosco.sshwire.keys import PublicKey, parse_authorized

__all__ = [
    "CertificatePolicy",
    "Entry",
    "Factory",
    "Handle",
    "Host",
    "Hours",
    "KeySource",
    "KeyedPolicy",
    "Policy",
    "Rate",
    "load_policy",
    "parse_policy",
]

DEFAULT_TTL_S = 600
MAX_PORT = 65535
OFF = "off"

# backend -> fields it needs, fields it may have besides
_BACKEND_FIELDS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "ssh-agent": (frozenset({"file"}), frozenset({"passphrase", "public"})),
    "pkcs11": (frozenset({"provider"}), frozenset({"passphrase", "public"})),
    "agent-socket": (frozenset({"socket", "public"}), frozenset()),
    "exec": (frozenset({"command"}), frozenset({"passphrase", "public"})),
}
# A private key may stand for one entry only, whatever backend reads it.
_UNIQUE_FIELDS = ("file", "public")


def load_policy(path: Path) -> Policy:
    """Read a policy file, which must be root's or our own, and nobody else's to write.

    Raises:
        PolicyFileError: with all problems of the file.
    """
    return parse_policy(JsonSource.read(path, PolicyFileError, stat.S_IWGRP | stat.S_IWOTH, ours=True))


@cache
def policy_schema() -> Schema:
    """The JSON Schema of a policy file."""
    return Schema.of_package("glideinwms_bosco.broker", "policy.schema.json")


def parse_policy(source: JsonSource) -> Policy:
    """Check and type a parsed file.

    Raises:
        PolicyFileError: with all problems of the file.
    """
    problems = policy_schema().problems(source)
    if problems:
        raise PolicyFileError(tuple(problems))
    problems = _Checks(source).run()
    if problems:
        raise PolicyFileError(tuple(sorted(problems, key=lambda problem: (problem.line, problem.field))))
    return Policy(
        file=source.file,
        digest=hashlib.sha256(source.text.encode("utf-8")).hexdigest(),
        factories={name: _factory(name, block) for name, block in source.data["factories"].items()},
        entries={name: _entry(name, block) for name, block in source.data["handles"].items()},
        lines={name: source.line(("handles", name)) for name in source.data["handles"]},
    )


class _Checks:
    """What the schema cannot say; collects all findings."""

    def __init__(self, source: JsonSource) -> None:
        self._source = source
        self._problems: list[Problem] = []

    def run(self) -> list[Problem]:
        """All findings."""
        data = self._source.data
        pins: dict[str, str] = {}
        for name, block in data["factories"].items():
            self._factory(("factories", name), name, block, pins)
        used: dict[tuple[str, str], str] = {}
        for name, block in data["handles"].items():
            self._entry(("handles", name), block)
            self._own_key(("handles", name, "key"), name, block["key"], used)
        return self._problems

    def _report(self, path: PathKey, message: str, hint: str = "") -> None:
        self._problems.append(self._source.problem(path, message, hint))

    def _factory(self, path: PathKey, name: str, block: Mapping[str, Any], pins: dict[str, str]) -> None:
        if int(block["relay"].rpartition(":")[2]) > MAX_PORT:
            self._report((*path, "relay"), f"the port is above {MAX_PORT}")
        for i, pin in enumerate(block["spki"]):
            other = pins.setdefault(pin, name)
            if other != name:
                self._report((*path, "spki", i), f"is also the pin of {other}", "one TLS key, one factory")
        self._networks((*path, "source_addresses"), block)

    def _networks(self, path: PathKey, block: Mapping[str, Any]) -> None:
        for i, address in enumerate(block.get(str(path[-1]), ())):
            try:
                ipaddress.ip_network(address)
            except ValueError as err:
                self._report((*path, i), f"is no network: {err}", "write 192.0.2.10/32")

    def _entry(self, path: PathKey, block: Mapping[str, Any]) -> None:
        self._key(("key",), path, block["key"])
        addresses: set[str] = set()
        for i, host in enumerate(block["hosts"]):
            self._host((*path, "hosts", i), host, addresses)
        for i, name in enumerate(block["factories"]):
            if name not in self._source.data["factories"]:
                known = ", ".join(self._source.data["factories"]) or "none"
                self._report((*path, "factories", i), f"no factory is called {name!r}", f"known: {known}")
        self._times(path, block)
        if not block.get("submit", True) and not block.get("maintain", False):
            self._report(path, "has no handle at all: submit is false, and maintain is not set", "set one of them")
        if block.get("gate") and block.get("maintain", False):
            hint = "give maintenance an entry with a key of its own: submit false, no gate"
            self._report((*path, "maintain"), "the gate refuses what maintenance does", hint)
        self._cert(path, block.get("cert", {"mode": OFF}), block)

    def _host(self, path: PathKey, host: Mapping[str, Any], addresses: set[str]) -> None:
        address = f"{host['name'].lower()}:{host.get('port', DEFAULT_SSH_PORT)}"
        if address in addresses:
            self._report(path, f"{address} stands twice", "put all its keys into one block")
        addresses.add(address)
        if not host.get("keys") and not host.get("cas"):
            hint = f"compare and accept: gwms-ssh-broker learn {host['name']}"
            self._report(path, "neither host keys nor a host CA", hint)
        for field in ("keys", "cas"):
            for i, text in enumerate(host.get(field, ())):
                self._public((*path, field, i), text)
        self._networks((*path, "via"), host)
        for i, target in enumerate(host.get("jump_to", ())):
            if int(target.rpartition(":")[2]) > MAX_PORT:
                self._report((*path, "jump_to", i), f"the port is above {MAX_PORT}")

    def _key(self, field: PathKey, base: PathKey, key: Mapping[str, Any]) -> None:
        path = (*base, *field)
        needed, allowed = _BACKEND_FIELDS[key["backend"]]
        for name in sorted(needed - set(key)):
            self._report((*path, name), f"missing; the backend {key['backend']} needs it")
        for name in sorted(set(key) - needed - allowed - {"backend"}):
            self._report((*path, name), f"is of no use for the backend {key['backend']}", "remove it")
        if "public" in key:
            self._public((*path, "public"), key["public"])

    def _own_key(self, path: PathKey, name: str, key: Mapping[str, Any], used: dict[tuple[str, str], str]) -> None:
        for field in _UNIQUE_FIELDS:
            value = " ".join(str(key.get(field, "")).split()[:2])
            other = used.setdefault((field, value), name) if value else name
            if other != name:
                self._report((*path, field), f"is the key of {other} too", "make a key of its own for each entry")

    def _public(self, path: PathKey, text: str) -> Optional[PublicKey]:
        try:
            return parse_authorized(text)
        except WireError as err:
            self._report(path, f"no usable public key: {err.message}", "copy the line from the .pub file")
            return None

    def _times(self, path: PathKey, block: Mapping[str, Any]) -> None:
        moments: dict[str, int] = {}
        for field in ("not_before", "not_after"):
            if block.get(field) is not None:
                moment = _moment(block[field])
                if moment is None:
                    self._report((*path, field), f"there is no such moment as {block[field]}")
                else:
                    moments[field] = moment
        if len(moments) == 2 and moments["not_before"] >= moments["not_after"]:
            self._report((*path, "not_after"), "is not later than not_before")
        for i, hours in enumerate(block.get("hours") or ()):
            if _minutes(hours["from"]) >= _minutes(hours["to"]):
                self._report((*path, "hours", i, "to"), "is not later than from", "write a night as two blocks")

    def _cert(self, path: PathKey, cert: Mapping[str, Any], block: Mapping[str, Any]) -> None:
        if cert["mode"] == OFF:
            return
        for name in ("ca", "principals"):
            if name not in cert:
                self._report((*path, "cert", name), f"missing; the mode {cert['mode']} needs it")
        if "ca" in cert:
            self._key(("cert", "ca"), path, cert["ca"])
        if cert.get("source_address", "factory") == "factory":
            for i, name in enumerate(block["factories"]):
                factory = self._source.data["factories"].get(name)
                if factory is not None and not factory.get("source_addresses"):
                    hint = "add them, or set cert.source_address to any"
                    self._report((*path, "factories", i), f"{name} has no source_addresses for the certificate", hint)


def _moment(text: str) -> Optional[int]:
    """Unix seconds of a time of the schema's form; None when there is no such day or hour."""
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        return int(moment.timestamp())
    except ValueError:
        return None


def _minutes(text: str) -> int:
    hour, minute = text.split(":")
    return min(int(hour) * 60 + int(minute), DAY_MINUTES)


def _factory(name: str, block: Mapping[str, Any]) -> Factory:
    host, _, port = block["relay"].rpartition(":")
    addresses = tuple(str(ipaddress.ip_network(text)) for text in block.get("source_addresses", ()))
    return Factory(name, host.strip("[]"), int(port), tuple(block["spki"]), addresses)


def _key_source(block: Mapping[str, Any]) -> KeySource:
    plain = {name: block[name] for name in ("backend", "file", "passphrase", "provider", "socket") if name in block}
    public = parse_authorized(block["public"]) if "public" in block else None
    return KeySource(command=tuple(block.get("command", ())), public=public, **plain)


def _host(block: Mapping[str, Any]) -> Host:
    keys, cas = (tuple(parse_authorized(text) for text in block.get(field, ())) for field in ("keys", "cas"))
    via = tuple(str(ipaddress.ip_network(text)) for text in block.get("via", ()))
    jump_to = tuple(target.lower() for target in block.get("jump_to", ()))
    return Host(block["name"].lower(), block.get("port", DEFAULT_SSH_PORT), keys, cas, via, jump_to)


def _hours(block: Mapping[str, Any]) -> Hours:
    days = frozenset(DAYS.index(day) for day in block["days"])
    return Hours(days, _minutes(block["from"]), _minutes(block["to"]))


def _cert(block: Mapping[str, Any]) -> Optional[CertificatePolicy]:
    if block["mode"] == OFF:
        return None
    return CertificatePolicy(
        ca=_key_source(block["ca"]),
        principals=tuple(block["principals"]),
        ttl_s=block.get("ttl", DEFAULT_TTL_S),
        force_command=block.get("force_command"),
        source_address=block.get("source_address", "factory") == "factory",
    )


def _optional(read: Callable[[str], Optional[int]], text: Optional[str]) -> Optional[int]:
    return read(text) if text is not None else None


def _entry(name: str, block: Mapping[str, Any]) -> Entry:
    maintain = block.get("maintain", False)
    return Entry(
        name=name,
        key=_key_source(block["key"]),
        user=block["user"],
        hosts=tuple(_host(host) for host in block["hosts"]),
        factories=tuple(block["factories"]),
        unproven=block.get("require", "host") == "unproven",
        not_before=_optional(_moment, block.get("not_before")),
        not_after=_optional(_moment, block.get("not_after")),
        hours=tuple(_hours(hours) for hours in block.get("hours") or ()),
        rate=Rate(**block.get("rate", {"burst": 10, "per_hour": 60})),
        submit=block.get("submit", True),
        maintain=Rate(**maintain["rate"]) if maintain else None,
        gate=block.get("gate"),
        cert=_cert(block.get("cert", {"mode": OFF})),
        enabled=block.get("enabled", True),
    )
