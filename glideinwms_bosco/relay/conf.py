# SPDX-License-Identifier: Apache-2.0
"""relay.conf: where the relay listens, who may use it, and which credential files each broker may serve.

The format is JSON, as the broker's policy is: the gahp launcher reads the file at each start with the standard library
alone. `read_conf` does that; `load_conf` also holds the file against the schema and its parts against each other.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.errors import Problem, RelayError, RelayFileError
from glideinwms_bosco.json_file import JsonSource, PathKey, dotted
from glideinwms_bosco.relay.credential_path import overlap

CONF_VARIABLE = "GWMS_SSH_RELAY_CONF"
DEFAULT_CONF = Path("/etc/gwms-ssh-relay/relay.conf")
DEFAULT_PORT = 8620
SIGN_DEADLINE_S = 15
# sun_path of Linux holds 108 bytes with its final zero; a socket's name is a handle of 26 characters and ".sock".
MAX_SOCKET_DIR_BYTES = 107 - 1 - 26 - 5


@dataclass(frozen=True)
class BrokerConf:
    """One broker that may connect.

    Attributes:
        name: for logs and status.
        frontend: as operators call it, for messages.
        pins: `sha256:<64 hexadecimal digits>` of its SPKI.
        credential_paths: patterns of the files that may carry its handles.
    """

    name: str
    frontend: str
    pins: tuple[str, ...]
    credential_paths: tuple[str, ...]


@dataclass(frozen=True)
class RelayConf:
    """relay.conf as a whole; see relay.schema.json for the meaning of each value."""

    file: str
    identity: Path
    allowed: tuple[Any, ...]
    brokers: tuple[BrokerConf, ...]
    listen: str = "0.0.0.0"  # noqa: S104 - brokers dial in from other hosts; pins decide who stays
    port: int = DEFAULT_PORT
    socket_dir: Path = Path("/run/gwms-ssh-relay")
    socket_group: Optional[str] = None
    sign_deadline_s: int = SIGN_DEADLINE_S
    remote_gahp: Path = Path("/usr/sbin/remote_gahp")
    ssh: Path = Path("/usr/bin/ssh")
    shim_dir: Path = Path("/usr/libexec/gwms-bosco/shim")
    tap: str = "auto"
    tap_program: Path = Path("/usr/bin/gwms-ssh-tap")
    ssh_include: tuple[Path, ...] = (Path("/var/lib/gwms-bosco/ssh/config"),)

    def broker_of(self, pin: str) -> Optional[BrokerConf]:
        """The broker that has this pin."""
        return next((broker for broker in self.brokers if pin in broker.pins), None)

    def allowed_uids(self) -> frozenset[int]:
        """User ids whose processes may use the sockets.

        Raises:
            RelayError: a user name is not known on this host.
        """
        return frozenset(who if isinstance(who, int) else _uid(who) for who in self.allowed)

    def socket_gid(self) -> Optional[int]:
        """Group of the sockets, when it is not simply the daemon's own.

        Raises:
            RelayError: the group is not known on this host.
        """
        if self.socket_group is None:
            return None
        try:
            return grp.getgrnam(self.socket_group).gr_gid
        except KeyError:
            raise RelayError(f"no group {self.socket_group} on this host", "see socket_group in relay.conf") from None


def _uid(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise RelayError(f"no user {name} on this host", "see allowed_uids in relay.conf") from None


def conf_path(given: Optional[str] = None) -> Path:
    """The file to use: the one given, else GWMS_SSH_RELAY_CONF, else the installed one."""
    return Path(given or os.environ.get(CONF_VARIABLE) or DEFAULT_CONF)


def read_conf(path: Path) -> RelayConf:
    """Read a file that the daemon has checked already, quickly; what it could have refused is refused in one line.

    Raises:
        RelayFileError: not JSON, or a value is missing or of the wrong kind.
    """
    source = JsonSource.read(path, RelayFileError, stat.S_IWOTH)
    try:
        return _conf(source.file, source.data)
    except (KeyError, TypeError, AttributeError):
        raise RelayFileError(
            (Problem(source.file, 0, "", "is not usable", f"run: gwms-ssh-relay --conf {path} check"),)
        ) from None


def load_conf(path: Path) -> RelayConf:
    """Read and check a file.

    Raises:
        RelayFileError: with all problems of the file.
    """
    # Imported here: the launcher, which only needs `read_conf`, starts once for each gahp.
    from glideinwms_bosco.schema_words import Schema

    source = JsonSource.read(path, RelayFileError, stat.S_IWOTH)
    problems = Schema.of_package("glideinwms_bosco.relay", "relay.schema.json").problems(source)
    if not problems:
        problems = list(_cross_checks(source, _conf(source.file, source.data)))
    if problems:
        raise RelayFileError(tuple(sorted(problems, key=lambda problem: problem.line)))
    return _conf(source.file, source.data)


def _conf(file: str, data: Mapping[str, Any]) -> RelayConf:
    paths = ("socket_dir", "remote_gahp", "ssh", "shim_dir", "tap_program")
    plain = ("listen", "port", "socket_group", "sign_deadline_s", "tap")
    optional: dict[str, Any] = {name: data[name] for name in plain if name in data}
    optional.update((name, Path(data[name])) for name in paths if name in data)
    if "ssh_include" in data:
        optional["ssh_include"] = tuple(Path(item) for item in data["ssh_include"])
    return RelayConf(
        file=file,
        identity=Path(data["identity"]),
        allowed=tuple(data["allowed_uids"]),
        brokers=tuple(
            BrokerConf(item["name"], item["frontend"], tuple(item["spki"]), tuple(item["credential_paths"]))
            for item in data["brokers"]
        ),
        **optional,
    )


def _cross_checks(source: JsonSource, conf: RelayConf) -> Iterator[Problem]:
    length = len(os.fsencode(conf.socket_dir))
    if length > MAX_SOCKET_DIR_BYTES:
        yield source.problem(("socket_dir",), f"{length} bytes long, a socket's path allows {MAX_SOCKET_DIR_BYTES}")
    for who in ("allowed_uids", "socket_gid"):
        try:
            getattr(conf, who)()
        except RelayError as err:
            field = "allowed_uids" if who == "allowed_uids" else "socket_group"
            yield source.problem((field,), err.message, "name one that exists, or make it first")
    yield from _once(source, "name", "names are for telling brokers apart")
    yield from _once(source, "spki", "each broker has an identity of its own")
    yield from _shared_paths(source, conf)


def _values(source: JsonSource, field: str) -> Iterator[tuple[PathKey, str]]:
    for i, broker in enumerate(source.data["brokers"]):
        value = broker[field]
        if isinstance(value, str):
            yield ("brokers", i, field), value
        else:
            yield from ((("brokers", i, field, k), item) for k, item in enumerate(value))


def _once(source: JsonSource, field: str, hint: str) -> Iterator[Problem]:
    first: dict[str, PathKey] = {}
    for path, value in _values(source, field):
        if value in first:
            yield source.problem(path, f"stands already at {dotted(first[value])}", hint)
        first.setdefault(value, path)


def _shared_paths(source: JsonSource, conf: RelayConf) -> Iterator[Problem]:
    """Two brokers with one credential path: each could serve the other's handle files."""
    for later, broker in enumerate(conf.brokers):
        for k, pattern in enumerate(broker.credential_paths):
            for earlier in conf.brokers[:later]:
                clash = next((other for other in earlier.credential_paths if overlap(pattern, other)), None)
                if clash is not None:
                    where = ("brokers", later, "credential_paths", k)
                    hint = "give each frontend a folder of its own"
                    yield source.problem(where, f"files may also lie under {clash} of {earlier.name}", hint)
