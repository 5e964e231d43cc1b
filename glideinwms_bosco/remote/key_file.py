# SPDX-License-Identifier: Apache-2.0
"""Say what is wrong with the file an operator names as key, before ssh is asked and answers "Permission denied"."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
from pathlib import Path
from typing import Optional

from glideinwms_bosco.errors import UsageError
from glideinwms_bosco.remote.messages import one_line

# An RSA key of 16384 bits takes 13 kB; whoever names a larger file has named something else.
MAX_KEY_FILE_BYTES = 65536
TOOL_TIMEOUT_S = 10
AGENT_TIMEOUT_S = 5.0

_PUBLIC = re.compile(rb"\s*(?:sk-)?(?:ssh|ecdsa)-")
_PRIVATE = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_NAME_THE_PRIVATE = "name the private key of the account, as ssh-keygen writes it (no .pub at the end)"


def agent_problem() -> Optional[str]:
    """Say why no ssh agent can be asked; None when one listens at SSH_AUTH_SOCK."""
    place = os.environ.get("SSH_AUTH_SOCK", "")
    if not place:
        return "there is no ssh agent (SSH_AUTH_SOCK is not set)"
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(AGENT_TIMEOUT_S)
            client.connect(place)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return f"the ssh agent at {one_line(place)} does not answer (SSH_AUTH_SOCK): {reason}"
    return None


def check_key_file(path: Path, *, allow_agent_key: bool = False) -> None:
    """Refuse a file that ssh could not log in with, or not without a question.

    Args:
        path: the file, as the operator named it (nothing is expanded).
        allow_agent_key: accept also a public key, and a private key with a passphrase, whose private half the agent
            holds: ssh then signs through the agent (ssh_config(5), IdentityFile and IdentitiesOnly).

    Raises:
        UsageError: with what is wrong and what to do.
    """
    label = _label(path)
    content, status = _read(path, label)
    if _PUBLIC.match(content):
        _check_public(path, label, allow_agent_key)
        return
    if not _PRIVATE.search(content):
        raise UsageError(f"{label}: holds no private key that ssh can read", _NAME_THE_PRIVATE)
    # `sshkey_perm_ok` in OpenSSH's authfile.c: only the owner's own key is refused for its mode.
    if status.st_uid == os.getuid() and status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise UsageError(
            f"{label}: others may use it (mode {mode:04o}), so ssh ignores it", f"chmod 600 {one_line(str(path))}"
        )
    _check_private(path, label, allow_agent_key)


def _label(path: Path) -> str:
    return f"key file {one_line(str(path))}"


def _read(path: Path, label: str) -> tuple[bytes, os.stat_result]:
    """Return the content and status of a regular file."""
    try:
        # Without O_NONBLOCK a named pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UsageError(f"{label}: no such file", _NAME_THE_PRIVATE) from None
    except PermissionError:
        raise UsageError(f"{label}: you may not read it", "run this as the user who owns the key") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{label}: cannot be opened: {reason}", _NAME_THE_PRIVATE) from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{label}: is a directory", _NAME_THE_PRIVATE)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{label}: is not a regular file", _NAME_THE_PRIVATE)
        if status.st_size > MAX_KEY_FILE_BYTES:
            raise UsageError(f"{label}: larger than {MAX_KEY_FILE_BYTES} bytes: not a key", _NAME_THE_PRIVATE)
        return os.read(descriptor, MAX_KEY_FILE_BYTES), status
    finally:
        os.close(descriptor)


def _check_public(path: Path, label: str, allow_agent_key: bool) -> None:
    if not allow_agent_key:
        raise UsageError(f"{label}: is a public key", _NAME_THE_PRIVATE)
    problem = agent_problem()
    if problem is None and not _agent_holds(path):
        problem = "the ssh agent does not hold its private half"
    if problem is not None:
        raise UsageError(f"{label}: is a public key, and {problem}", f"{_NAME_THE_PRIVATE}, or ssh-add it")


def _check_private(path: Path, label: str, allow_agent_key: bool) -> None:
    done = _run(["ssh-keygen", "-y", "-P", "", "-f", str(path)], label)
    if done.returncode == 0:
        return
    said = one_line(done.stderr.decode("utf-8", "replace"))
    if "incorrect passphrase" not in said:
        raise UsageError(f"{label}: ssh cannot read this key: {said}", _NAME_THE_PRIVATE)
    if allow_agent_key and agent_problem() is None and _agent_holds(path):
        return
    raise UsageError(
        f"{label}: the key has a passphrase, and ssh is never allowed to ask for it (BatchMode)",
        "use a key without passphrase, or deploy with the key loaded into an agent (ssh-add) and without --key",
    )


def _agent_holds(path: Path) -> bool:
    """Tell whether the agent lists the key of this file, private or public."""
    label = _label(path)
    shown = _FINGERPRINT.search(_run(["ssh-keygen", "-l", "-f", str(path)], label).stdout.decode("utf-8", "replace"))
    listed = _run(["ssh-add", "-l"], label).stdout.decode("utf-8", "replace")
    return shown is not None and shown.group(0) in _FINGERPRINT.findall(listed)


def _run(argv: list[str], label: str) -> subprocess.CompletedProcess[bytes]:
    """Run a tool of OpenSSH that has no terminal to ask on."""
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=TOOL_TIMEOUT_S, check=False,
            env={**os.environ, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"}, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UsageError(f"{label}: {argv[0]} does not come to an end within {TOOL_TIMEOUT_S} s") from None
    except OSError as error:
        raise UsageError(f"{argv[0]} cannot be run: {error.strerror}", "install the OpenSSH client") from None
