# SPDX-License-Identifier: Apache-2.0
"""`gwms_remote_gahp`, HTCondor's REMOTE_GAHP: a handle in `--rgahp-key` is signed for by its broker.

It hands over to stock remote_gahp by exec: with the same arguments for a real key, and for a handle with the relay's
socket as agent, our `ssh` first in PATH and `--rgahp-nokey`. Until then stdout belongs to nobody: the gridmanager
reads GAHP there. Only the standard library is loaded, as two of these start for each gahp.

Source: the argument loop of remote_gahp, HTCondor 23.9 and 25.14.
"""

from __future__ import annotations

import os
import re
import sys
import syslog
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Optional

from glideinwms_bosco.errors import EXIT_REFUSED, BoscoError, RelayError, WireError
from glideinwms_bosco.relay import handover
from glideinwms_bosco.relay.conf import BrokerConf, RelayConf, conf_path, read_conf
from glideinwms_bosco.relay.handle_file import owner_of, read_handle_file, socket_file
from glideinwms_bosco.relay.status_query import PREFIX, ask_status, not_connected, status_file
from glideinwms_bosco.sshwire.handle import SUBMIT, HandleReference

DEFAULT_REMOTE_GAHP = Path("/usr/sbin/remote_gahp")
DEFAULT_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"

_KEY, _NO_KEY = "--rgahp-key", "--rgahp-nokey"
_WITH_VALUE = frozenset((_KEY, "--rgahp-user", "--rgahp-pass", "--rgahp-glite", "--rgahp-script", "--rvgahp-socket"))
_FT_GAHP = "condor_ft-gahp"
_DESTINATION = re.compile(r"(?:([A-Za-z_][A-Za-z0-9_.-]*)@)?([A-Za-z0-9.-]+)(?::([0-9]{1,5}))?", re.ASCII)
_SSH_PORT = 22


@dataclass(frozen=True)
class Call:
    """What remote_gahp would make of its arguments.

    Attributes:
        keys: (position of the option, its value) of each `--rgahp-key`.
        no_key: `--rgahp-nokey` stands there too.
        user: of the destination or `--rgahp-user`; whichever stands last.
        destination: `[user@]host[:port]` as given.
        destination_at: its position; -1 without one.
    """

    keys: tuple[tuple[int, str], ...]
    no_key: bool
    user: Optional[str]
    destination: Optional[str]
    destination_at: int = -1


def read_call(argv: Sequence[str]) -> Call:
    """Walk over the arguments as remote_gahp does; what it would pass on to the far side is not looked at."""
    keys: list[tuple[int, str]] = []
    no_key, user, destination, command = False, None, None, False
    at, destination_at = 0, -1
    while at < len(argv):
        word, value = argv[at], argv[at + 1] if at + 1 < len(argv) else ""
        if word in _WITH_VALUE:
            if word == _KEY:
                keys.append((at, value))
            elif word == "--rgahp-user":
                user = value
            elif word == "--rgahp-script":
                command = True
            at += 2
            continue
        no_key = no_key or word == _NO_KEY
        if word == "--" or (word.startswith("-") and not word.startswith("--rgahp-")):
            break
        if not word.startswith("-"):
            if destination is None:
                destination, destination_at = word, at
                user = word.rpartition("@")[0] or user
            elif not command or word == _FT_GAHP:
                command = True
            else:
                break
        at += 1
    return Call(tuple(keys), no_key, user, destination, destination_at)


def find_handle(call: Call) -> Optional[tuple[str, HandleReference]]:
    """The handle among the key options, with the path that named it; None when there is none.

    glideinWMS writes one key option. A second one can only come from a frontend that hides options in the remote user
    name, to be served another frontend's handle, so it is refused.

    Raises:
        RelayError: a handle beside another key option, or one that is damaged.
    """
    found = [(path, reference) for _, path in call.keys if (reference := read_handle_file(path)) is not None]
    if found and (len(call.keys) > 1 or call.no_key):
        raise RelayError(f"a handle and one more key option in one call: {found[0][0]}", "give one --rgahp-key")
    return found[0] if found else None


def _handle_status(conf: RelayConf, broker: BrokerConf, reference: HandleReference) -> Mapping[str, Any]:
    """The handle's status, if it can be used now.

    Raises:
        RelayError: worded for the gridmanager's reason.
    """
    handle = reference.handle
    try:
        status = ask_status(socket_file(conf, handle), handle)
    except PermissionError as err:
        raise RelayError(f"{err.strerror}: {conf.socket_dir}", "may this user use the relay's sockets?") from None
    except (OSError, WireError) as err:
        raise _unanswered(conf, broker, reference, err) from None
    if status.get("broker_pin") != reference.broker_pin:
        raise RelayError(
            f"DENY 19: handle {handle} is offered by {status.get('broker_pin')}, the credential names "
            f"{reference.broker_pin}",
            "the frontend sends a handle of its own broker",
        )
    if status.get("broker") != "up":
        raise _Away(not_connected(broker.frontend, float(status.get("since", 0)), handle))
    if status.get("purpose") != SUBMIT:
        raise RelayError(
            f"handle {handle} is for {status.get('purpose')}, not for jobs", "the frontend puts its submit handle there"
        )
    return status


class _Away(RelayError):
    """The line is complete already."""


def _unanswered(conf: RelayConf, broker: BrokerConf, reference: HandleReference, err: Exception) -> RelayError:
    relay = status_file(conf.socket_dir)
    if relay is None:
        return RelayError(f"no relay is running on this host (handle {reference.handle})", "start gwms-ssh-relay")
    for side in relay.get("brokers", ()):
        if side.get("pin") == reference.broker_pin and side.get("state") != "up":
            return _Away(not_connected(broker.frontend, float(side.get("since", 0)), reference.handle))
    if isinstance(err, FileNotFoundError):
        return RelayError(
            f"DENY 1: the broker of {broker.frontend} does not offer the handle {reference.handle}",
            "the frontend's administrator compares `gwms-ssh-broker status` and the credential that was sent",
        )
    return RelayError(f"the relay does not answer for handle {reference.handle}: {err}", "see gwms-ssh-relay status")


def check_destination(call: Call, status: Mapping[str, Any]) -> None:
    """Refuse a destination that the handle is not offered for; the broker would do so later and less clearly.

    Raises:
        RelayError: user or host is another one.
    """
    handle, hosts = status.get("handle"), [str(host) for host in status.get("hosts", ())]
    offered = f"{status.get('user')}@{', '.join(hosts)}"
    parsed = _DESTINATION.fullmatch(call.destination or "")
    hint = "compare gatekeeper and user of the entry with the broker's policy"
    if parsed is None:
        raise RelayError(f"{call.destination!r} is not of the form user@host[:port] (handle {handle})", hint)
    name = parsed[2].lower()
    ports = {int(port) for host, _, port in (entry.rpartition(":") for entry in hosts) if host == name}
    # The handle's ssh configuration names the port when there is only one.
    port = int(parsed[3]) if parsed[3] else next(iter(ports)) if len(ports) == 1 else _SSH_PORT
    if call.user != status.get("user") or port not in ports:
        raise RelayError(f"{call.user}@{name}:{port} is not what handle {handle} is offered for: {offered}", hint)


def handle_call(argv: Sequence[str], call: Call, conf: RelayConf, environment: dict[str, str]) -> list[str]:
    """Return the arguments for remote_gahp, and set its environment.

    Raises:
        RelayError: the call is refused.
    """
    found = find_handle(call)
    if found is None:
        return list(argv)
    path, reference = found
    broker = owner_of(conf, path, reference)
    status = _handle_status(conf, broker, reference)
    check_destination(call, status)
    base = conf.socket_dir / reference.handle
    environment["SSH_AUTH_SOCK"] = f"{base}.sock"
    environment["PATH"] = f"{conf.shim_dir}:{environment.get('PATH') or DEFAULT_PATH}"
    environment[handover.HANDLE_CONF] = f"{base}.conf"
    environment[handover.HANDLE] = reference.handle
    environment[handover.SSH] = str(conf.ssh)
    _record(f"handle {reference.handle} of {broker.name} for {call.user}@{call.destination}, credential {path}")
    return _arguments(argv, call)


def _arguments(argv: Sequence[str], call: Call) -> list[str]:
    """The arguments for remote_gahp, whatever it makes of unusual user names.

    23.9 knows no dot in a user name: it passes over such a destination and takes the next word for one, which nobody
    has checked. So the user goes by an option of its own.
    """
    words = [[word] for word in argv]
    words[call.destination_at] = ["--rgahp-user", str(call.user), str(call.destination).rpartition("@")[2]]
    at = call.keys[0][0]
    words[at : at + 2] = [[_NO_KEY], []]
    return [word for group in words for word in group]


def _record(text: str) -> None:
    """The factory's own record: a signature without such a line is the sign of a stolen factory."""
    syslog.openlog("gwms_remote_gahp", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_INFO, "".join(c if c.isprintable() else "?" for c in text))


def _needs_conf(call: Call) -> bool:
    return any(_is_handle(path) for _, path in call.keys)


def _is_handle(path: str) -> bool:
    try:
        return read_handle_file(path) is not None
    except RelayError:
        return True


def main() -> NoReturn:
    """Entry point; ends in stock remote_gahp, or with one line on stderr and status 1."""
    argv = sys.argv[1:]
    environment = dict(os.environ)
    try:
        call = read_call(argv)
        remote_gahp = DEFAULT_REMOTE_GAHP
        try:
            conf: Optional[RelayConf] = read_conf(conf_path())
        except BoscoError:
            # A factory without handles needs no relay.conf; real keys go on working when it is broken.
            if _needs_conf(call):
                raise
            conf = None
        if conf is not None:
            remote_gahp = conf.remote_gahp
            argv = handle_call(argv, call, conf, environment)
        os.execve(remote_gahp, [str(remote_gahp), *argv], environment)  # noqa: S606 - no shell is meant
    except _Away as err:
        print(err.message, file=sys.stderr)
    except BoscoError as err:
        print(f"{PREFIX} {' '.join(str(err).split())}", file=sys.stderr)
    except OSError as err:
        print(f"{PREFIX} {err.filename or remote_gahp}: {err.strerror}; see relay.conf", file=sys.stderr)
    sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main()
