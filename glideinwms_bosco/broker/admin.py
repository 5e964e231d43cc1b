# SPDX-License-Identifier: Apache-2.0
"""Edit the policy file: one change at a time, the whole result checked before it replaces the old one.

The order of all that stands in the file is kept; the daemon takes the result up at the next SIGHUP.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.broker.policy import Policy, parse_policy
from glideinwms_bosco.broker.policy_model import DEFAULT_SSH_PORT, EXEC
from glideinwms_bosco.errors import BrokerError, PolicyFileError, UsageError, WireError
from glideinwms_bosco.json_file import JsonSource
from glideinwms_bosco.sshwire.keys import PublicKey, parse_authorized

LOCK_WAIT_S = 10.0
_LOCK_POLL_S = 0.05
NEW_MODE = 0o640

Data = dict[str, Any]


def edit(path: Path, change: Callable[[Data], None], wait_s: float = LOCK_WAIT_S) -> Policy:
    """Apply a change to the policy file.

    Args:
        change: gets the file's values and alters them in place; what it raises goes through, nothing is written.
        wait_s: seconds to wait for another edit.

    Returns:
        The policy as it stands in the file now.

    Raises:
        UsageError: there is no such file.
        PolicyFileError: the file cannot be read, or the result would have problems; their lines are those of the
            result, which is not written.
        BrokerError: another edit goes on, somebody else has changed the file meanwhile, or it cannot be written.
    """
    # Behind a link stands the file: replacing the link would cut it off from what it points to.
    target = Path(os.path.realpath(path))
    try:
        if not target.exists():
            raise UsageError(f"{path}: there is no policy yet", "gwms-ssh-broker init")
        with _locked(target.parent, wait_s):
            source = JsonSource.read(target, PolicyFileError)
            before = target.stat()
            data = copy.deepcopy(source.data)
            change(data)
            text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
            policy = parse_policy(JsonSource(text, f"{path} (as it would be)", PolicyFileError))
            if data != source.data:
                _replace(target, before, text)
    except OSError as error:
        raise BrokerError(f"{path}: cannot be changed: {error.strerror}", "run this as root") from None
    return policy


def _replace(target: Path, before: os.stat_result, text: str) -> None:
    now = target.stat()
    # An editor knows nothing of the lock.
    if (now.st_ino, now.st_mtime_ns, now.st_size) != (before.st_ino, before.st_mtime_ns, before.st_size):
        raise BrokerError(f"{target}: somebody else has changed it just now", "look at it and repeat")
    write_atomic(target, text.encode("utf-8"), mode=stat.S_IMODE(before.st_mode))
    new = target.stat()
    if (new.st_uid, new.st_gid) != (before.st_uid, before.st_gid):
        # The daemon reads the file by its group.
        os.chown(target, before.st_uid, before.st_gid)


@contextlib.contextmanager
def _locked(folder: Path, wait_s: float) -> Iterator[None]:
    """Hold the folder's lock: the file itself is replaced by each edit."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise BrokerError(
                        f"{folder}: another edit of the policy goes on", "repeat when it is over"
                    ) from None
                time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def create(path: Path) -> None:
    """Write an empty policy.

    Raises:
        UsageError: there is one already.
        BrokerError: it cannot be written.
    """
    if path.exists():
        raise UsageError(f"{path}: exists already", "add to it: key add, factory add")
    try:
        empty = {"version": 1, "factories": {}, "handles": {}}
        write_atomic(path, (json.dumps(empty, indent=2) + "\n").encode("ascii"), mode=NEW_MODE)
    except OSError as error:
        raise BrokerError(f"{path}: cannot be written: {error.strerror}", "run this as root") from None


def _member(data: Data, kind: str, name: str) -> Data:
    what = {"handles": "key", "factories": "factory"}[kind]
    block = data.get(kind)
    found = block.get(name) if isinstance(block, dict) else None
    if not isinstance(found, dict):
        known = ", ".join(block) if isinstance(block, dict) and block else "none"
        raise UsageError(f"there is no {what} {name!r} in the policy", f"known: {known}")
    return found


def _add(data: Data, kind: str, name: str, block: Mapping[str, Any]) -> None:
    members = data.setdefault(kind, {})
    if not isinstance(members, dict) or name in members:
        raise UsageError(f"{name!r} is in the policy already", "choose another name, or remove it first")
    members[name] = copy.deepcopy(dict(block))


def add_key(path: Path, name: str, block: Mapping[str, Any]) -> Policy:
    """Add an entry at the end; `block` is its value in the file."""
    return edit(path, lambda data: _add(data, "handles", name, block))


def set_enabled(path: Path, name: str, enabled: bool) -> Policy:
    """Enable or disable an entry. Disabling takes effect with the daemon's next SIGHUP; open ssh sessions live on."""

    def change(data: Data) -> None:
        _member(data, "handles", name)["enabled"] = enabled

    return edit(path, change)


def remove_key(path: Path, name: str) -> Policy:
    """Take an entry out."""

    def change(data: Data) -> None:
        _member(data, "handles", name)
        del data["handles"][name]

    return edit(path, change)


def rotate_key(path: Path, name: str, key: Mapping[str, Any], keep_old_as: Optional[str] = None) -> Policy:
    """Give an entry a new key, and so new handles; only the handles of fetched keys (exec) stay.

    Args:
        key: the new value of the field `key`.
        keep_old_as: name of an entry that goes on with the old key, until the frontend's credential and the site's
            authorized_keys have changed; it stands right behind the new one.

    Raises:
        UsageError: it is the old key, or the old key's handles would be others under another name.
    """

    def change(data: Data) -> None:
        entry = _member(data, "handles", name)
        if entry.get("key") == key:
            raise UsageError(f"{name} has this key already", "name the file of the new key")
        old = copy.deepcopy(entry)
        entry["key"] = dict(key)
        if keep_old_as is None:
            return
        if old["key"].get("backend") == EXEC:
            hint = "leave out --keep-old-as, or add the new key as an entry of its own"
            raise UsageError(f"the handles of {name} are made of its name, as each fetch may bring another key", hint)
        if keep_old_as in data["handles"]:
            raise UsageError(f"{keep_old_as!r} is in the policy already", "choose another name")
        data["handles"] = _inserted(data["handles"], name, keep_old_as, old)

    return edit(path, change)


def _inserted(members: Data, behind: str, name: str, block: Data) -> Data:
    result: Data = {}
    for known, value in members.items():
        result[known] = value
        if known == behind:
            result[name] = block
    return result


def add_factory(path: Path, name: str, relay: str, pins: Sequence[str], source_addresses: Sequence[str] = ()) -> Policy:
    """Add a factory; no entry lets it ask yet.

    Args:
        relay: host:port.
        pins: of its relay's TLS key, as its administrator has told them.
        source_addresses: networks that its ssh connections come from.
    """
    block = {"relay": relay, "spki": list(pins), "source_addresses": list(source_addresses)}
    return edit(path, lambda data: _add(data, "factories", name, block))


def remove_factory(path: Path, name: str) -> Policy:
    """Take a factory out, of all entries too: none signs for it any more."""

    def change(data: Data) -> None:
        _member(data, "factories", name)
        del data["factories"][name]
        for entry in data.get("handles", {}).values():
            if isinstance(entry, dict) and isinstance(entry.get("factories"), list):
                entry["factories"] = [other for other in entry["factories"] if other != name]

    return edit(path, change)


def set_pins(path: Path, name: str, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Policy:
    """Change the pins of a factory's relay: while its TLS key is rotated, it has two."""

    def change(data: Data) -> None:
        factory = _member(data, "factories", name)
        pins = list(factory.get("spki", ()))
        for pin in remove:
            if pin not in pins:
                raise UsageError(f"{name} has no pin {pin[:80]!r}", f"its pins: {', '.join(map(str, pins))}")
            pins.remove(pin)
        factory["spki"] = pins + [pin for pin in add if pin not in pins]

    return edit(path, change)


def allow_factory(path: Path, key: str, factory: str, allowed: bool = True) -> Policy:
    """Let a factory ask for an entry's key, or not any more."""

    def change(data: Data) -> None:
        _member(data, "factories", factory)
        entry = _member(data, "handles", key)
        others = [name for name in entry.get("factories", ()) if name != factory]
        entry["factories"] = [*others, factory] if allowed else others

    return edit(path, change)


def accept_host(path: Path, name: str, host: str, port: int, keys: Sequence[PublicKey]) -> Policy:
    """Register host keys that a person has compared, for a host of an entry; the host is added if it is new.

    Raises:
        UsageError: no keys.
    """
    if not keys:
        raise UsageError(f"no key of {host} was accepted", "name its fingerprint")

    def change(data: Data) -> None:
        hosts = _member(data, "handles", name).setdefault("hosts", [])
        block = next((known for known in hosts if _is_host(known, host, port)), None)
        if block is None:
            block = {"name": host.lower(), **({} if port == DEFAULT_SSH_PORT else {"port": port})}
            hosts.append(block)
        registered = {tuple(str(text).split()[:2]) for text in block.get("keys", ())}
        new = [key.authorized for key in keys if tuple(key.authorized.split()) not in registered]
        block["keys"] = [*block.get("keys", ()), *new]

    return edit(path, change)


def forget_host_key(path: Path, name: str, host: str, port: int, fingerprint: str) -> Policy:
    """Take a host key out by its fingerprint.

    Raises:
        UsageError: it is not registered there.
    """

    def change(data: Data) -> None:
        for block in _member(data, "handles", name).get("hosts", ()):
            if _is_host(block, host, port):
                left = [text for text in block.get("keys", ()) if _fingerprint(text) != fingerprint]
                if len(left) < len(block.get("keys", ())):
                    block["keys"] = left
                    return
        raise UsageError(f"{name}: {host}:{port} has no key {fingerprint[:64]!r}", "see: gwms-ssh-broker key show")

    return edit(path, change)


def _is_host(block: Any, host: str, port: int) -> bool:
    if not isinstance(block, dict):
        return False
    return (str(block.get("name")).lower(), block.get("port", DEFAULT_SSH_PORT)) == (host.lower(), port)


def _fingerprint(text: Any) -> Optional[str]:
    try:
        return parse_authorized(str(text)).fingerprint
    except WireError:
        return None
