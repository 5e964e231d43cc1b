# SPDX-License-Identifier: Apache-2.0
"""The `ssh` that remote_gahp finds first in PATH: real ssh with a handle's configuration, and a reason when it fails.

It stays for as long as the connection lives, so it loads nothing before ssh has ended badly.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType
from typing import Optional

from glideinwms_bosco.relay import handover

SSH_FAILED = 255
"""ssh(1), EXIT STATUS: an error of ssh itself, not of the remote command."""
_CANNOT_RUN = 127
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)


def main() -> None:
    """Entry point; exits with ssh's status."""
    started = time.time()
    ssh = os.environ.get(handover.SSH) or handover.DEFAULT_SSH
    conf = os.environ.get(handover.HANDLE_CONF)
    if not conf:
        print(f"GWMS-SSH-BROKER: {handover.HANDLE_CONF} is not set; only gwms_remote_gahp starts this", file=sys.stderr)
        sys.exit(SSH_FAILED)
    status = _run([ssh, "-F", conf, *sys.argv[1:]])
    if status == SSH_FAILED:
        _explain(started)
    sys.exit(status)


def _run(argv: list[str]) -> int:
    child = 0

    def pass_on(number: int, _frame: Optional[FrameType]) -> None:
        if child:
            os.kill(child, number)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    # `nohup` and its like have some ignored: that stays.
    passed_on = [number for number in _PASSED_ON if signal.getsignal(number) != signal.SIG_IGN]
    for number in passed_on:
        signal.signal(number, pass_on)
    try:
        # Python has SIGPIPE ignored; ssh must not inherit that.
        child = os.posix_spawn(argv[0], argv, os.environ, setsigmask=before, setsigdef=[*passed_on, signal.SIGPIPE])
    except OSError as err:
        print(f"GWMS-SSH-BROKER: {argv[0]}: {err.strerror}; name the ssh client in relay.conf", file=sys.stderr)
        return _CANNOT_RUN
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _, ended = os.waitpid(child, 0)
    child = 0
    if os.WIFSIGNALED(ended):
        return 128 + os.WTERMSIG(ended)
    return os.WEXITSTATUS(ended)


def _explain(started: float) -> None:
    """Print why the broker has refused, if that is what has happened. ssh has printed its own line already."""
    from pathlib import Path

    from glideinwms_bosco.errors import WireError
    from glideinwms_bosco.relay.status_query import PREFIX, ask_status, refusal

    handle = os.environ.get(handover.HANDLE, "")
    try:
        status = ask_status(Path(os.environ.get("SSH_AUTH_SOCK", "")), handle)
    except (OSError, WireError):
        print(f"{PREFIX} the relay on this host does not answer (handle {handle}); see its log", file=sys.stderr)
        return
    line = refusal(status, started)
    if line:
        print("".join(c if c.isprintable() else "?" for c in line), file=sys.stderr)


if __name__ == "__main__":
    main()
