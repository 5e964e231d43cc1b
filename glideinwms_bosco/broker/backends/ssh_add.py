# SPDX-License-Identifier: Apache-2.0
"""Load a private key file into an agent with ssh-add; its passphrase goes from a file to ssh-add past this process."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Optional

from glideinwms_bosco.broker.backends.command import run_command
from glideinwms_bosco.errors import KeyBackendError

DEADLINE_S = 60.0
"""A key of `ssh-keygen -a 1000` takes some ten seconds to decrypt on a slow machine."""

_ERRORS = (
    # stderr of ssh-add (ssh-add.c add_file, authfile.c) or of our askpass -> what is wrong, what to do
    ("askpass: wrong passphrase", "the passphrase is wrong", "correct the passphrase file or systemd credential"),
    (
        "askpass: no passphrase",
        "the key is encrypted and no passphrase is named for it",
        "set `passphrase` to credential:NAME or file:PATH in the policy",
    ),
    ("UNPROTECTED PRIVATE KEY FILE", "other users may read the key file", "chmod 600 it, and change the key"),
    ("No such file", "there is no such key file", ""),
    ("Permission denied", "the broker may not read the key file", "make it its own: chown, chmod 600"),
    ("invalid format", "this is no private key that ssh-add can read", ""),
    ("error in libcrypto", "this is no private key that ssh-add can read", ""),
    ("Could not add card", "the token or its library refuses", "look at the PIN, the slot and the library's path"),
    ("agent refused operation", "the agent refuses the key", "FIPS mode refuses ed25519 keys"),
)


@dataclass(frozen=True)
class KeyFile:
    """A private key file and where its passphrase is.

    Attributes:
        path: the key; for a token, the PKCS#11 library that reads it.
        passphrase: `credential:NAME` (systemd), `file:PATH`, or None for a key that is not encrypted. A token's PIN.
        is_provider: `path` is a PKCS#11 library.
    """

    path: Path
    passphrase: Optional[str] = None
    is_provider: bool = False


async def load_key(socket: Path, key: KeyFile, lifetime_s: int = 0) -> None:
    """Add the key (and FILE-cert.pub beside it, if there) to the agent at `socket`.

    Args:
        lifetime_s: the agent drops the key after that; 0 = never.

    Raises:
        KeyBackendError: it is not loaded; one line says why.
    """
    if not key.path.is_file():
        raise KeyBackendError(f"{key.path}: there is no such key file")
    argv = ["ssh-add", "-q", *(("-t", str(lifetime_s)) if lifetime_s else ())]
    argv += ["-s", str(key.path)] if key.is_provider else [str(key.path)]
    environment = {
        **_clean_environment(),
        "SSH_AUTH_SOCK": str(socket),
        "SSH_ASKPASS": str(_askpass()),
        "SSH_ASKPASS_REQUIRE": "force",
    }
    with _passphrase(key, os.environ) as stdin:
        finished = await run_command(argv, DEADLINE_S, stdin=stdin, environment=environment)
    if finished.status != 0:
        raise _load_error(key, finished.stderr)


def _clean_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def _askpass() -> Path:
    path = Path(str(resources.files("glideinwms_bosco.broker") / "files" / "askpass"))
    if not os.access(path, os.X_OK):
        raise KeyBackendError(f"{path}: cannot be executed", f"chmod 755 {path}; it must not lie on a noexec mount")
    return path


@contextmanager
def _passphrase(key: KeyFile, environment: Mapping[str, str]) -> Iterator[Optional[IO[bytes]]]:
    """Open the passphrase's file; None when there is no passphrase."""
    if key.passphrase is None:
        yield None
        return
    kind, _, name = key.passphrase.partition(":")
    # systemd gives the service user a credential by ACL, which shows as group permission bits.
    if kind == "credential":
        folder = environment.get("CREDENTIALS_DIRECTORY")
        if not folder:
            hint = f"{_credential_hint(name)}; without systemd use file:PATH"
            raise KeyBackendError(f"{key.path}: passphrase {key.passphrase}: systemd has given no credentials", hint)
        path, forbidden = Path(folder) / name, stat.S_IRWXO
    else:
        path, forbidden = Path(name), stat.S_IRWXO | stat.S_IRWXG
    try:
        # Without O_NONBLOCK opening a pipe waits for its writer.
        stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as err:
        what = f"{key.path}: passphrase {key.passphrase}"
        if kind == "credential" and err.errno == errno.ENOENT:
            raise KeyBackendError(f"{what}: systemd has not given it", _credential_hint(name)) from None
        raise KeyBackendError(f"{what}: {path}: {err.strerror}") from None
    with stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_mode & forbidden or found.st_uid not in (0, os.geteuid()):
            problem = "must be a file that only the broker may read"
            hint = f"chown to its user and chmod 600 {path}"
            raise KeyBackendError(f"{key.path}: passphrase {key.passphrase}: {path} {problem}", hint)
        yield stream


def _credential_hint(name: str) -> str:
    """What brings a credential: systemd gives them when the service starts, and at no other time."""
    return (
        f"LoadCredentialEncrypted={name}:FILE in a drop-in, systemctl daemon-reload, systemctl restart gwms-ssh-broker"
    )


def _load_error(key: KeyFile, stderr: str) -> KeyBackendError:
    for pattern, message, hint in _ERRORS:
        if pattern in stderr:
            return KeyBackendError(f"{key.path}: {message}", hint)
    said = re.sub(r"\s+", " ", stderr).strip()
    return KeyBackendError(f"{key.path}: ssh-add does not load the key: {said or 'it said nothing'}")
