# SPDX-License-Identifier: Apache-2.0
"""The line for the account's authorized_keys at the site: what the key may do even if everything on our side fails.

The broker cannot see where a TCP connection comes from or what it runs: `from=` and the gate are checked by the site.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

from glideinwms_bosco.broker.policy_model import Entry, Policy
from glideinwms_bosco.errors import BrokerError
from glideinwms_bosco.sshwire.keys import PublicKey

GATE = "gwms-gate"
GATE_PLACE = f"~/bin/{GATE}"
"""Where the site keeps the gate; sshd gives the command to the account's shell, which expands the tilde."""

# condor_ft-gahp needs -R from the loopback interface, and nothing else; tried with a real job.
# Source: sshd(8), AUTHORIZED_KEYS FILE FORMAT.
_FORWARDING = ("port-forwarding", 'permitopen="127.0.0.1:1"', 'permitlisten="localhost:*"')


def gate_script() -> bytes:
    """The gate, as it is to be installed at GATE_PLACE with mode 0755."""
    return (resources.files("glideinwms_bosco.broker") / "files" / GATE).read_bytes()


def key_line(policy: Policy, entry: Entry, key: PublicKey) -> str:
    """The line, without newline, for an entry's key."""
    options = ["restrict"]
    if entry.submit:
        options += _FORWARDING
    if entry.gate is not None:
        options.append(f'command="{GATE_PLACE} {entry.gate}"')
    return " ".join([",".join([*options, *_from(policy, entry)]), key.authorized, _comment(entry)])


def ca_line(policy: Policy, entry: Entry, ca: PublicKey) -> str:
    """The line, without newline, that lets the entry's certificates in instead of its key.

    The principals stand here too: otherwise whoever has the CA's key could name any.

    Raises:
        BrokerError: the entry has no certificates.
    """
    if entry.cert is None:
        raise BrokerError(f"{entry.name} has no certificates", "set cert.mode in the policy")
    options = ["restrict", *_FORWARDING, "cert-authority", f'principals="{",".join(entry.cert.principals)}"']
    # sshd refuses a login whose certificate and line force commands that are not the same text.
    if entry.gate is not None and entry.cert.force_command is None:
        options.append(f'command="{GATE_PLACE} {entry.gate}"')
    return " ".join([",".join([*options, *_from(policy, entry)]), ca.authorized, _comment(entry)])


def without_addresses(policy: Policy, entry: Entry) -> tuple[str, ...]:
    """Factories of an entry whose addresses are not known, so that its line has no `from=`."""
    return tuple(name for name in entry.factories if not policy.factories[name].source_addresses)


def _from(policy: Policy, entry: Entry) -> Iterable[str]:
    # With one factory's addresses missing, `from=` would lock that factory out.
    if not entry.factories or without_addresses(policy, entry):
        return ()
    addresses = [address for name in entry.factories for address in policy.factories[name].source_addresses]
    return (f'from="{",".join(dict.fromkeys(addresses))}"',)


def _comment(entry: Entry) -> str:
    return f"gwms-ssh-broker:{entry.name}:{'+'.join(entry.purposes)}"
