# SPDX-License-Identifier: Apache-2.0
"""`gwms-ssh-broker factory ...`, `learn` and `stanza`: the two other ends, factory and site, and the frontend's own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from glideinwms_bosco.broker import admin
from glideinwms_bosco.broker.learn import Proposal, accepted, propose, scan
from glideinwms_bosco.broker.paths import broker_paths
from glideinwms_bosco.broker.stanza import VERSIONS, make_stanza, write_files
from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.daemon_account import give_to_owner_of
from glideinwms_bosco.cli.frame import add_noun, add_verb
from glideinwms_bosco.cli.ssh_broker_keys import split_host
from glideinwms_bosco.cli.ssh_broker_policy import PROGRAM, keyed_by_files, policy_changed, read_identity, read_policy
from glideinwms_bosco.errors import EXIT_OK, EXIT_REFUSED, UsageError
from glideinwms_bosco.sshwire.handle import SUBMIT, HandleReference

DEFAULT_FOLDER = Path("/etc/gwms-frontend/ssh")
_FACTORY_HELP = "name of the factory, as `factory list` has it"
_KEY_HELP = "name of the key, as `key list` has it"


def add_commands(verbs: Any) -> None:
    """Add noun and verbs."""
    factory = add_noun(verbs, "factory", "factories that this broker connects to", "gwms-ssh-broker factory list")
    add = add_verb(
        factory, "add", _add, "register a factory's relay",
        "gwms-ssh-broker factory add osg-sdsc --relay gfactory-2.example.org:8620 --spki sha256:...",
    )  # fmt: skip
    add.add_argument("name", metavar="NAME", help="a name of your own for it")
    add.add_argument("--relay", required=True, metavar="HOST:PORT", help="where its relay listens")
    add.add_argument("--spki", required=True, action="append", metavar="sha256:...", help="pin of its TLS key")
    add.add_argument(
        "--source-address", action="append", default=[], metavar="NETWORK", help="where its ssh comes from, for from="
    )
    add_verb(factory, "list", _list, "list factories", "gwms-ssh-broker factory list", as_json=True)
    remove = add_verb(
        factory, "remove", _remove, "sign nothing more for a factory", "gwms-ssh-broker factory remove osg-sdsc"
    )
    remove.add_argument("name", metavar="NAME", help=_FACTORY_HELP)
    pin = add_verb(
        factory, "pin", _pin, "change the pins of a relay, while its key is rotated",
        "gwms-ssh-broker factory pin osg-sdsc --add sha256:...",
    )  # fmt: skip
    pin.add_argument("name", metavar="NAME", help=_FACTORY_HELP)
    pin.add_argument("--add", action="append", default=[], metavar="sha256:...", help="pin to accept too")
    pin.add_argument("--remove", action="append", default=[], metavar="sha256:...", help="pin to accept no more")
    for name, run, text in (("allow", _allow, "let a factory use a key"), ("forbid", _forbid, "take that back")):
        verb = add_verb(factory, name, run, text, f"gwms-ssh-broker factory {name} osg-sdsc juwels-cms")
        verb.add_argument("name", metavar="FACTORY", help=_FACTORY_HELP)
        verb.add_argument("key", metavar="KEY", help=_KEY_HELP)
    _add_learn(verbs)
    _add_stanza(verbs)


def _add_learn(verbs: Any) -> None:
    learn = add_verb(
        verbs, "learn", _learn, "show the keys of a host, and register those that you compared",
        "gwms-ssh-broker learn juwels.fz-juelich.de --key juwels-cms --accept SHA256:...", as_json=True,
    )  # fmt: skip
    learn.add_argument("host", metavar="HOST[:PORT]", help="login or jump host")
    learn.add_argument("--key", required=True, metavar="NAME", help="entry that logs in there")
    learn.add_argument("--accept", action="append", default=[], metavar="SHA256:...", help="fingerprint; repeat it")


def _add_stanza(verbs: Any) -> None:
    stanza = add_verb(
        verbs, "stanza", _stanza, "print the credential element for frontend.xml",
        "gwms-ssh-broker stanza juwels-cms --frontend 3.11 --trust-domain juwels --write", as_json=True,
    )  # fmt: skip
    stanza.add_argument("name", metavar="KEY", help=_KEY_HELP)
    stanza.add_argument("--frontend", choices=VERSIONS, required=True, help="version of glideinWMS at the frontend")
    stanza.add_argument("--trust-domain", required=True, metavar="DOMAIN", help="that of the factory's entries")
    stanza.add_argument(
        "--security-class", default="frontend", metavar="CLASS", help="that of the credential (default: %(default)s)"
    )
    stanza.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="of the handle's files (%(default)s)")
    stanza.add_argument("--pilot-proxy", type=Path, metavar="FILE", help="3.10: a real proxy for the pilots")
    stanza.add_argument("--write", action="store_true", help="write the files that the element names")


def _add(args: argparse.Namespace) -> int:
    paths = broker_paths()
    admin.add_factory(paths.policy, args.name, args.relay, args.spki, args.source_address)
    pin = read_identity(paths).pin
    return policy_changed(paths, f"{args.name} added; its administrator needs this broker's pin {pin}")


def _list(args: argparse.Namespace) -> int:
    _, policy = read_policy()
    rows = [
        {
            "name": factory.name,
            "relay": f"{factory.relay_host}:{factory.relay_port}",
            "spki": list(factory.pins),
            "source_addresses": list(factory.source_addresses),
            "keys": [entry.name for entry in policy.entries.values() if factory.name in entry.factories],
        }
        for factory in policy.factories.values()
    ]
    if args.json:
        output.print_json(rows)
        return EXIT_OK
    if not rows:
        print(f"there is no factory yet; {PROGRAM} factory add --help", file=sys.stderr)
    for row in rows:
        keys = ", ".join(row["keys"]) or "no key"
        print(output.printable(f"{row['name']:<24} {row['relay']}  {' '.join(row['spki'])}  {keys}"))
    return EXIT_OK


def _remove(args: argparse.Namespace) -> int:
    paths = broker_paths()
    admin.remove_factory(paths.policy, args.name)
    return policy_changed(paths, f"{args.name} removed, from all keys too")


def _pin(args: argparse.Namespace) -> int:
    paths = broker_paths()
    policy = admin.set_pins(paths.policy, args.name, args.add, args.remove)
    return policy_changed(paths, f"{args.name} has the pins {', '.join(policy.factories[args.name].pins)}")


def _allow(args: argparse.Namespace) -> int:
    paths = broker_paths()
    admin.allow_factory(paths.policy, args.key, args.name)
    return policy_changed(paths, f"{args.name} may use {args.key}")


def _forbid(args: argparse.Namespace) -> int:
    paths = broker_paths()
    admin.allow_factory(paths.policy, args.key, args.name, allowed=False)
    return policy_changed(paths, f"{args.name} may not use {args.key}")


def _learn(args: argparse.Namespace) -> int:
    paths, policy = read_policy()
    if args.key not in policy.entries:
        raise UsageError(f"there is no key {args.key!r} in the policy", f"known: {', '.join(policy.entries) or 'none'}")
    host, port = split_host(args.host)
    proposal = propose(policy.entries[args.key], host, port, scan(host, port))
    keys = accepted(proposal, args.accept)
    if args.json:
        groups = {"known": proposal.known, "new": proposal.new, "missing": proposal.missing}
        rows = {name: [[key.algorithm, key.fingerprint] for key in group] for name, group in groups.items()}
        output.print_json({"host": host, "port": port, "changed": proposal.changed, **rows})
    else:
        _print_proposal(proposal)
    if keys:
        admin.accept_host(paths.policy, args.key, host, port, keys)
        return policy_changed(paths, f"{output.counted(len(keys), 'key')} of {host} registered for {args.key}")
    return EXIT_REFUSED if proposal.changed else EXIT_OK


def _print_proposal(proposal: Proposal) -> None:
    for word, keys in (("known", proposal.known), ("NEW", proposal.new), ("not shown", proposal.missing)):
        for key in keys:
            print(f"{word:<10} {key.algorithm:<20} {key.fingerprint}")
    if proposal.changed:
        print("warning: none of the registered keys is shown: a reinstalled host, or somebody in between; ask the site")
    elif proposal.new:
        print("compare NEW keys with what the site publishes; then repeat with --accept SHA256:... for each")


def _stanza(args: argparse.Namespace) -> int:
    paths, policy = read_policy()
    handle = keyed_by_files(paths, policy).handle_of(args.name, SUBMIT)
    stanza = make_stanza(handle, args.frontend, args.folder, args.trust_domain, args.security_class, args.pilot_proxy)
    if args.write:
        write_files(stanza, HandleReference(handle.handle, read_identity(paths).pin))
        give_to_owner_of(args.folder, stanza.private_file, stanza.public_file, stanza.proxy_file)
    if args.json:
        files = [str(file) for file in (stanza.public_file, stanza.private_file, stanza.proxy_file) if file]
        output.print_json({"xml": stanza.xml, "notes": list(stanza.notes), "files": files, "written": args.write})
        return EXIT_OK
    print(stanza.xml, end="")
    for note in stanza.notes:
        print(f"<!-- {note} -->")
    if not args.write:
        print("<!-- the files are not written yet: repeat with --write -->")
    return EXIT_OK
