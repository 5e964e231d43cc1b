# SPDX-License-Identifier: Apache-2.0
"""Keys that stay at a frontend: from a site's account to the relay's handles that log in there.

An operator's commands take the maintenance handle (open for a while only), pilots take the submit handle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.errors import AuthenticationError, BoscoError, RemoteError, UsageError, WireError
from glideinwms_bosco.relay.conf import RelayConf, conf_path, read_conf
from glideinwms_bosco.relay.credential_path import covered
from glideinwms_bosco.relay.handle_file import owner_of, read_handle_file
from glideinwms_bosco.relay.status_query import ask_status, clock, refusal, status_file
from glideinwms_bosco.remote.connection import AgentKey, Connection, Endpoint, bracketed
from glideinwms_bosco.remote.site_connection import jump_endpoints, login_endpoint
from glideinwms_bosco.remote.status import credential_state
from glideinwms_bosco.site.model import Account, SiteDescription
from glideinwms_bosco.sshwire.handle import MAINTAIN, SUBMIT, HandleReference, make_handle_key
from glideinwms_bosco.state_folder import make_folder, write_file, write_hint

_HANDLES_MODE = 0o700
_KEY_MODE = 0o600
# What is read of a handle's row in status.json.
_ROW = {"handle", "purpose", "user", "hosts", "name", "frontend", "broker", "broker_pin", "not_after"}

BROKER = "broker"
"""Value of `--key` and of an account's `credential` that means: the frontend's broker signs."""


def frontend_of(key: Optional[Path], account: Optional[Account] = None) -> Optional[str]:
    """The frontend whose broker shall sign, by what the operator typed: empty for the only one, None for a key.

    Args:
        key: value of `--key`; None when it was left out.
        account: decides when it was left out.
    """
    if key is None:
        asks_broker = account is not None and account.credential == BROKER and conf_path(None).is_file()
        return "" if asks_broker else None
    word, _, name = str(key).partition(":")
    return name if word == BROKER else None


@dataclass(frozen=True)
class BrokerLogin:
    """A way to log in with a broker's signatures.

    Attributes:
        connection: the way.
        why_refused: asks the relay why the broker has refused since this object was made; None when it has not.
    """

    connection: Connection
    why_refused: Callable[[], Optional[str]]


def broker_login(site: SiteDescription, account: Account, frontend: str = "") -> BrokerLogin:
    """The way to the login node with signatures of a frontend's broker, for maintenance.

    Args:
        frontend: name of the broker in relay.conf, when several have a key for this account.

    Raises:
        UsageError: no such handle, or several.
        RemoteError: the relay does not run, or the broker is not connected to it.
    """
    login, jumps = login_endpoint(site, account), jump_endpoints(site, account)
    conf = read_conf(conf_path(None))
    status = _running(conf)
    row = find_handle(status["handles"], login, MAINTAIN, frontend)
    if row["broker"] != "up":
        raise AuthenticationError(
            f"{login.label}: the broker of {row['frontend']} is not connected",
            "its administrator starts gwms-ssh-broker; see gwms-ssh-relay status",
        )
    tap = conf.tap_program if status.get("tap") else None
    mine = [other for other in status["handles"] if other["broker_pin"] == row["broker_pin"]]
    keys = {login: agent_key(conf, row["handle"], tap)}
    for jump in jumps:
        found = [other for other in mine if other["purpose"] == MAINTAIN and _serves(other, jump)]
        if found:
            keys[jump] = agent_key(conf, found[0]["handle"], tap)
    began = time.time()

    def why_refused() -> Optional[str]:
        try:
            return refusal(ask_status(keys[login].socket, row["handle"]), began)
        except (OSError, WireError):
            return "the relay is gone; see gwms-ssh-relay status"

    return BrokerLogin(Connection(login, jumps, None, keys), why_refused)


def _running(conf: RelayConf) -> Mapping[str, Any]:
    """What the running relay says.

    Raises:
        RemoteError: none runs, or it says nothing that can be used.
    """
    status = status_file(conf.socket_dir)
    if status is None:
        raise RemoteError(f"no relay is running: {conf.socket_dir} has no status.json", "start gwms-ssh-relay")
    rows = status.get("handles")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= _ROW for row in rows):
        raise RemoteError(f"{conf.socket_dir}: status.json is of another version", "restart gwms-ssh-relay")
    return status


def find_handle(rows: Sequence[Mapping[str, Any]], login: Endpoint, purpose: str, frontend: str) -> Mapping[str, Any]:
    """The one handle that logs in there.

    Raises:
        UsageError: there is none, or several frontends have one.
    """
    found = [row for row in rows if row["purpose"] == purpose and _serves(row, login)]
    if frontend:
        found = [row for row in found if row["name"] == frontend]
    who = f" of {frontend}" if frontend else ""
    if not found:
        raise UsageError(
            f"no broker{who} offers a {purpose} handle for {login.label}",
            "see gwms-ssh-relay handles; the frontend's administrator registers it with gwms-ssh-broker key add "
            f"--{purpose}, or name a key with --key FILE",
        )
    names = sorted({str(row["name"]) for row in found})
    if len(names) > 1:
        raise UsageError(
            f"several brokers have a key for {login.label}", f"--key broker:NAME, one of: {', '.join(names)}"
        )
    return found[0]


def _serves(row: Mapping[str, Any], endpoint: Endpoint) -> bool:
    return row["user"] == endpoint.user and f"{bracketed(endpoint.host.lower())}:{endpoint.port}" in row["hosts"]


def agent_key(conf: RelayConf, handle: str, tap: Optional[Path]) -> AgentKey:
    """The relay's socket and files of a handle."""
    certificate = conf.socket_dir / f"{handle}-cert.pub"
    return AgentKey(
        conf.socket_dir / f"{handle}.sock",
        conf.socket_dir / f"{handle}.pub",
        certificate if certificate.exists() else None,
        tap,
    )


def handle_file(state_dir: Path, login: Endpoint, frontend: str) -> Path:
    """Write a handle's key file as a frontend would send it, for a test of ours, and return its path.

    It is powerless: it only names what the broker may sign for.

    Raises:
        UsageError: no such handle, or relay.conf does not let this broker's handle lie there.
        RemoteError: the relay does not run.
    """
    conf = read_conf(conf_path(None))
    status = _running(conf)
    row = find_handle(status["handles"], login, SUBMIT, frontend)
    path = state_dir / "handles" / str(row["name"]) / str(row["handle"])
    broker = conf.broker_of(row["broker_pin"])
    if broker is None or not covered(str(path), broker.credential_paths):
        raise UsageError(
            f"{conf.file} does not let a handle of {row['name']} lie in {path.parent}",
            f"add this folder to credential_paths of {row['name']}; only the factory's own user writes there",
        )
    if not path.exists():
        private, _ = make_handle_key(HandleReference(row["handle"], row["broker_pin"]))
        try:
            make_folder(path.parent, state_dir, _HANDLES_MODE)
            write_file(path, private.encode("ascii"), state_dir, _KEY_MODE)
        except OSError as err:
            hint = write_hint(err, state_dir, "run this as the schedd's user")
            raise UsageError(f"{path}: cannot be written: {err.strerror}", hint) from None
    return path


def frontend_of_handle(key: Path) -> Optional[str]:
    """The broker's name in relay.conf when a file is a handle in place of a key; None when it is a key.

    Raises:
        RelayError: a damaged handle, or one of a broker that relay.conf does not name.
    """
    reference = read_handle_file(str(key))
    if reference is None:
        return None
    return owner_of(read_conf(conf_path(None)), str(key), reference).name


def credential_text(site: SiteDescription, account: Account) -> str:
    """Mode of an account's credential, and how long it is good for, in words."""
    if account.credential != BROKER:
        return credential_state(account)
    path = conf_path(None)
    if not path.is_file():
        return "broker: not configured"
    try:
        conf, login = read_conf(path), login_endpoint(site, account)
        if status_file(conf.socket_dir) is None:
            return "broker: no relay is running"
        status = _running(conf)
    except BoscoError as error:
        return f"broker: {error.message}"
    rows = [row for row in status["handles"] if row["purpose"] == SUBMIT and _serves(row, login)]
    return "; ".join(_handle_text(row) for row in rows) or "broker: no handle for this account"


def _handle_text(row: Mapping[str, Any]) -> str:
    ends = f", until {clock(row['not_after'])}" if row["not_after"] else ", no end"
    return f"broker {row['name']}: {'connected' if row['broker'] == 'up' else 'not connected'}{ends}"
