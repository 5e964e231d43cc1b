# SPDX-License-Identifier: Apache-2.0
"""The line for the account's authorized_keys at the site: what the key may do even if everything on our side fails.

The broker cannot see where a TCP connection comes from or what it runs: `from=` and the gate are checked by the site.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

from glideinwms_bosco.broker.policy_model import Entry, Factory, Host, Policy
from glideinwms_bosco.errors import BrokerError
from glideinwms_bosco.sshwire.keys import PublicKey

GATE = "gwms-gate"
GATE_PLACE = f"~/bin/{GATE}"
"""Where the site keeps the gate; sshd gives the command to the account's shell, which expands the tilde."""

# condor_ft-gahp needs -R from the loopback interface, and nothing else; tried with a real job.
# Source: sshd(8), AUTHORIZED_KEYS FILE FORMAT.
_FORWARDING = ("port-forwarding", 'permitopen="127.0.0.1:1"', 'permitlisten="localhost:*"')
# `none` is for sshd_config only. No account listens on port 1.
NO_COMMAND = "false"
"""On a jump host nothing is run; `ssh -W` runs nothing."""
_NO_LISTENING = 'permitlisten="localhost:1"'


def gate_script() -> bytes:
    """The gate, as it is to be installed at GATE_PLACE with mode 0755."""
    return (resources.files("glideinwms_bosco.broker") / "files" / GATE).read_bytes()


def key_lines(policy: Policy, entry: Entry, key: PublicKey) -> tuple[str, ...]:
    """The lines, without newline, for an entry's key: one, or one for each kind of host that it logs in to."""
    return _lines(policy, entry, key, ())


def ca_lines(policy: Policy, entry: Entry, ca: PublicKey) -> tuple[str, ...]:
    """The lines, without newline, that let the entry's certificates in instead of its key.

    The principals stand here too: otherwise whoever has the CA's key could name any.

    Raises:
        BrokerError: the entry has no certificates.
    """
    if entry.cert is None:
        raise BrokerError(f"{entry.name} has no certificates", "set cert.mode in the policy")
    # sshd refuses a login whose certificate and line force commands that are not the same text.
    forced = entry.cert.force_command is not None
    own = ("cert-authority", f'principals="{",".join(entry.cert.principals)}"')
    return _lines(policy, entry, ca, own, forced_already=forced)


def login_addresses(entry: Entry, factory: Factory) -> tuple[str, ...]:
    """Networks that the hosts of an entry see a factory's logins come from."""
    found = [address for host in entry.hosts for address in host.via or factory.source_addresses]
    return tuple(dict.fromkeys(found))


def without_addresses(policy: Policy, entry: Entry) -> tuple[str, ...]:
    """Factories of an entry whose addresses are not known, so that its line has no `from=`."""
    if entry.hosts and all(host.via for host in entry.hosts):
        return ()
    return tuple(name for name in entry.factories if not policy.factories[name].source_addresses)


def _lines(
    policy: Policy, entry: Entry, key: PublicKey, own: tuple[str, ...], forced_already: bool = False
) -> tuple[str, ...]:
    """Hosts that need the same options share a line.

    Args:
        own: more options.
        forced_already: the certificate forces a command.
    """
    gate = entry.gate
    hosts_of: dict[str, list[str]] = {}
    for host in entry.hosts:
        forced = NO_COMMAND if host.jump_to else f"{GATE_PLACE} {gate}" if gate is not None else None
        command = (f'command="{forced}"',) if forced is not None and not forced_already else ()
        options = ["restrict", *_forwarding(entry, host), *own, *command, *_from(policy, entry, host)]
        hosts_of.setdefault(",".join(options), []).append(host.name)
    comment = f"gwms-ssh-broker:{entry.name}:{'+'.join(entry.purposes)}"
    return tuple(
        f"{options} {key.authorized} {comment}{':' + ','.join(names) if len(hosts_of) > 1 else ''}"
        for options, names in hosts_of.items()
    )


def _forwarding(entry: Entry, host: Host) -> Iterable[str]:
    if host.jump_to:
        # What `ssh -J` asks of a jump host (ssh -W), and no job.
        return ("port-forwarding", *(f'permitopen="{target}"' for target in host.jump_to), _NO_LISTENING)
    return _FORWARDING if entry.submit else ()


def _from(policy: Policy, entry: Entry, host: Host) -> Iterable[str]:
    if not entry.factories:
        return ()
    addresses = list(host.via)
    if not addresses:
        known = [policy.factories[name].source_addresses for name in entry.factories]
        # With one factory's addresses missing, `from=` would lock that factory out.
        addresses = [address for each in known for address in each] if all(known) else []
    return (f'from="{",".join(dict.fromkeys(addresses))}"',) if addresses else ()
