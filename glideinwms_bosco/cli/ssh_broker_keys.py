# SPDX-License-Identifier: Apache-2.0
"""`gwms-ssh-broker key ...`: entries of the policy: a key, its account, its hosts."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.broker import admin
from glideinwms_bosco.broker.authorized import ca_lines, key_lines, without_addresses
from glideinwms_bosco.broker.backends.make import known_public_key
from glideinwms_bosco.broker.learn import accepted, propose, scan
from glideinwms_bosco.broker.opened import close_entry, open_entry, parse_duration, read_opened
from glideinwms_bosco.broker.paths import BrokerPaths, broker_paths
from glideinwms_bosco.broker.policy import Entry, KeyedPolicy, KeySource, Policy, Rate
from glideinwms_bosco.broker.policy_model import DEFAULT_SSH_PORT, EXEC
from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.frame import add_noun, add_verb
from glideinwms_bosco.cli.ssh_broker_policy import PROGRAM, keyed_by_files, known_key, policy_changed, read_policy
from glideinwms_bosco.errors import EXIT_OK, BrokerError, UsageError, WireError
from glideinwms_bosco.sshwire.handle import MAINTAIN
from glideinwms_bosco.sshwire.keys import parse_authorized

DEFAULT_RATE = Rate()
_NAME = "NAME"
_NAME_HELP = "name of the key, as `key list` has it"


def add_commands(verbs: Any) -> None:
    """Add the noun and its verbs."""
    key = add_noun(verbs, "key", "keys, and what each may be used for", "gwms-ssh-broker key list")
    add = add_verb(
        key, "add", _add, "register a key for an account at a site",
        "gwms-ssh-broker key add juwels-cms --file /etc/gwms-ssh-broker/juwels-cms --passphrase "
        "credential:juwels-cms --user cmspilot --host juwels.fz-juelich.de --accept SHA256:... --factory osg-sdsc",
    )  # fmt: skip
    add.add_argument("name", metavar=_NAME, help="a name of your own for it")
    _add_source_options(add)
    add.add_argument("--user", required=True, help="the account at the site")
    add.add_argument("--host", required=True, metavar="HOST[:PORT]", help="login node; more of them later: learn")
    add.add_argument("--accept", action="append", default=[], metavar="SHA256:...", help="host key that you compared")
    add.add_argument("--factory", action="append", default=[], metavar="NAME", help="factory that may ask; repeat it")
    add.add_argument(
        "--via",
        action="append",
        default=[],
        metavar="NETWORK",
        help="behind a jump host: its address as the host sees it",
    )
    add.add_argument(
        "--jump-to", action="append", default=[], metavar="HOST:PORT", help="the host is the jump host for this one"
    )
    add.add_argument("--maintain", action="store_true", help="with a second handle for deploy and probe")
    add.add_argument("--gate", metavar="DIR", help="bosco_dir at the site whose gate the key is confined to")
    add.add_argument("--unproven", action="store_true", help="sign without proof of the destination")
    add.add_argument("--burst", type=int, default=DEFAULT_RATE.burst, help="signatures at once (default: %(default)s)")
    add.add_argument("--per-hour", type=int, default=DEFAULT_RATE.per_hour, help="as a mean (default: %(default)s)")
    add_verb(key, "list", _list, "list all keys", "gwms-ssh-broker key list --json", as_json=True)
    show = add_verb(
        key, "show", _show, "show a key, its handles and its authorized_keys line",
        "gwms-ssh-broker key show juwels-cms", as_json=True,
    )  # fmt: skip
    show.add_argument("name", metavar=_NAME, help=_NAME_HELP)
    for name, run, text in (
        ("enable", _enable, "let a key sign again"),
        ("disable", _disable, "sign nothing more with a key; open sessions at the site live on"),
        ("remove", _remove, "take a key out of the policy; its file stays"),
        ("close", _close, "close the maintenance handle before its time"),
    ):
        verb = add_verb(key, name, run, text, f"gwms-ssh-broker key {name} juwels-cms")
        verb.add_argument("name", metavar=_NAME, help=_NAME_HELP)
    rotate = add_verb(
        key, "rotate", _rotate, "give an entry a new key, and so a new handle",
        "gwms-ssh-broker key rotate juwels-cms --file /etc/gwms-ssh-broker/juwels-2 --keep-old-as juwels-old",
    )  # fmt: skip
    rotate.add_argument("name", metavar=_NAME, help=_NAME_HELP)
    _add_source_options(rotate)
    rotate.add_argument("--keep-old-as", metavar=_NAME, help="entry that goes on with the old key for a while")
    opening = add_verb(
        key, "open", _open, "open the maintenance handle for a while", "gwms-ssh-broker key open juwels-cms --for 2h"
    )
    opening.add_argument("name", metavar=_NAME, help=_NAME_HELP)
    opening.add_argument("--for", dest="duration", required=True, metavar="TIME", help="30m, 2h, 1d; at most 7d")


def _add_source_options(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--file", type=Path, help="private OpenSSH key, encrypted; its .pub file beside it")
    source.add_argument("--provider", type=Path, metavar="LIB", help="PKCS#11 library of a token")
    source.add_argument("--socket", type=Path, help="socket of an agent that runs already")
    source.add_argument("--command", metavar="FILE", help="program that fetches a short-lived key")
    parser.add_argument("--public", metavar="FILE", help="the public key: which one of those that a backend holds")
    parser.add_argument("--passphrase", metavar="SOURCE", help="credential:NAME (systemd) or file:PATH; never itself")


def _source(args: argparse.Namespace) -> dict[str, Any]:
    """The policy's value of `key`.

    Raises:
        UsageError: the public key file cannot be used.
    """
    kinds = (
        ("ssh-agent", "file", args.file),
        ("pkcs11", "provider", args.provider),
        ("agent-socket", "socket", args.socket),
        ("exec", "command", args.command),
    )
    backend, field, value = next(kind for kind in kinds if kind[2] is not None)
    block: dict[str, Any] = {"backend": backend, field: [value] if field == "command" else str(value.absolute())}
    if args.passphrase is not None:
        block["passphrase"] = args.passphrase
    if args.public is not None:
        try:
            block["public"] = parse_authorized(Path(args.public).read_text("ascii")).authorized
        except (OSError, ValueError, WireError) as err:
            raise UsageError(f"{args.public}: no public key: {err}", "name a .pub file") from None
    return block


def _add(args: argparse.Namespace) -> int:
    paths, policy = read_policy()
    host, port = split_host(args.host)
    block: dict[str, Any] = {
        "key": _source(args),
        "user": args.user,
        "hosts": [],
        "factories": args.factory,
        "require": "unproven" if args.unproven else "host",
        "rate": {"burst": args.burst, "per_hour": args.per_hour},
        "maintain": {"rate": {"burst": args.burst, "per_hour": args.per_hour}} if args.maintain else False,
        "gate": args.gate,
        "enabled": True,
    }
    if args.name in policy.entries:
        raise UsageError(f"{args.name!r} is in the policy already", "choose another name, or remove it first")
    # Before the operator compares fingerprints for nothing.
    for name in args.factory:
        if name not in policy.factories:
            known = ", ".join(policy.factories) or "none"
            raise UsageError(f"there is no factory {name!r} in the policy", f"known: {known}")
    found = scan(host, port)
    proposal = propose(Entry(args.name, KeySource(""), args.user, (), ()), host, port, found)
    if not args.accept:
        for key in found:
            print(f"{host}:{port} shows {key.algorithm} {key.fingerprint}")
        hint = "compare them with what the site publishes, then repeat with --accept SHA256:... for each"
        raise BrokerError(f"no host key of {host} is accepted yet; nothing was added", hint)
    block["hosts"] = [
        {
            "name": host.lower(),
            **({} if port == DEFAULT_SSH_PORT else {"port": port}),
            "keys": [key.authorized for key in accepted(proposal, args.accept)],
            **({"via": args.via} if args.via else {}),
            **({"jump_to": args.jump_to} if args.jump_to else {}),
        }
    ]
    admin.add_key(paths.policy, args.name, block)
    return policy_changed(paths, f"{args.name} added; next: gwms-ssh-broker stanza {args.name}", args.name)


def split_host(text: str) -> tuple[str, int]:
    """`HOST[:PORT]`.

    Raises:
        UsageError: the port is no number.
    """
    host, colon, port = text.partition(":")
    if not colon:
        return host, DEFAULT_SSH_PORT
    if not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise UsageError(f"{text!r}: no usable port", "write HOST or HOST:PORT")
    return host, int(port)


def _list(args: argparse.Namespace) -> int:
    paths, policy = read_policy()
    rows = [_row(paths, policy, entry) for entry in policy.entries.values()]
    if args.json:
        output.print_json(rows)
        return EXIT_OK
    if not rows:
        print(f"there is no key yet; {PROGRAM} key add --help", file=sys.stderr)
    for row in rows:
        state = "enabled" if row["enabled"] else "disabled"
        opened = ", maintenance open" if row["open_until"] else ""
        to = f"{row['user']} at {', '.join(row['hosts'])} for {', '.join(row['factories']) or 'no factory'}"
        print(output.printable(f"{row['name']:<24} {state}{opened}  {to}  {row['key'] or 'public key not known here'}"))
    return EXIT_OK


def _row(paths: BrokerPaths, policy: Policy, entry: Entry) -> dict[str, Any]:
    key = known_key(paths, entry)
    until = read_opened(paths.state_dir).get(entry.name, 0.0)
    return {
        "name": entry.name,
        "enabled": entry.enabled,
        "backend": entry.key.backend,
        "key": key.fingerprint if key else None,
        "user": entry.user,
        "hosts": [host.address for host in entry.hosts],
        "factories": list(entry.factories),
        "purposes": list(entry.purposes),
        "open_until": int(until) if until > time.time() and MAINTAIN in entry.purposes else None,
        "line": policy.lines[entry.name],
    }


def _find(policy: Policy, name: str) -> Entry:
    entry = policy.entries.get(name)
    if entry is None:
        raise UsageError(f"there is no key {name!r} in the policy", f"known: {', '.join(policy.entries) or 'none'}")
    return entry


def _show(args: argparse.Namespace) -> int:
    paths, policy = read_policy()
    entry = _find(policy, args.name)
    keyed = keyed_by_files(paths, policy)
    row = _row(paths, policy, entry)
    row["handles"] = {h.purpose: h.handle for h in keyed.handles.values() if h.entry.name == entry.name}
    row["authorized_keys"] = _authorized(paths, keyed, entry)
    if args.json:
        output.print_json(row)
        return EXIT_OK
    for name, value in row.items():
        words = ", ".join(map(str, value)) if isinstance(value, list) else value
        if isinstance(value, dict):
            words = ", ".join(f"{purpose} {handle}" for purpose, handle in value.items()) or "not known here"
        for line in str(words if words is not None else "-").split("\n"):
            print(output.printable(f"{name:<16} {line}"))
    for factory in without_addresses(policy, entry):
        print(f"note: no from= in the line: the addresses of {factory} are not known (factory add --source-address)")
    return EXIT_OK


def _authorized(paths: BrokerPaths, keyed: KeyedPolicy, entry: Entry) -> Optional[str]:
    if entry.cert is not None:
        ca = known_public_key(entry.cert.ca)
        return "\n".join(ca_lines(keyed.policy, entry, ca)) if ca else None
    key = known_key(paths, entry)
    return "\n".join(key_lines(keyed.policy, entry, key)) if key else None


def _enable(args: argparse.Namespace) -> int:
    paths = broker_paths()
    admin.set_enabled(paths.policy, args.name, True)
    return policy_changed(paths, f"{args.name} enabled", args.name)


def _disable(args: argparse.Namespace) -> int:
    paths = broker_paths()
    admin.set_enabled(paths.policy, args.name, False)
    return policy_changed(paths, f"{args.name} disabled; open sessions at the site live on")


def _remove(args: argparse.Namespace) -> int:
    paths = broker_paths()
    admin.remove_key(paths.policy, args.name)
    return policy_changed(paths, f"{args.name} removed; its line in authorized_keys at the site should go, too")


def _rotate(args: argparse.Namespace) -> int:
    paths = broker_paths()
    policy = admin.rotate_key(paths.policy, args.name, _source(args), args.keep_old_as)
    said = f"{args.name} has a new key"
    if policy.entries[args.name].key.backend != EXEC:
        said += f", so a new handle; next: gwms-ssh-broker stanza {args.name}"
    return policy_changed(paths, said, args.name)


def _open(args: argparse.Namespace) -> int:
    paths, policy = read_policy()
    entry = _find(policy, args.name)
    if MAINTAIN not in entry.purposes:
        raise UsageError(f"{args.name} has no maintenance handle", "set `maintain` in the policy")
    until = open_entry(paths.state_dir, args.name, parse_duration(args.duration), time.time())
    print(f"maintenance of {args.name} is open until {time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(until))}")
    return EXIT_OK


def _close(args: argparse.Namespace) -> int:
    paths, policy = read_policy()
    was_open = close_entry(paths.state_dir, _find(policy, args.name).name, time.time())
    print(f"maintenance of {args.name} {'is closed' if was_open else 'was not open'}")
    return EXIT_OK
