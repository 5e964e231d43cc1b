# SPDX-License-Identifier: Apache-2.0
"""Who has stolen a key: each attempt is one call of ssh, and says whether it came about.

An attempt that fails shows nothing by itself: the same one has to come about with a key that is not limited.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Optional, Union

from tests.lab.lab import Lab

CLIENT_PORT = 21999
"""Where a thief's own end of a forward listens."""
AT_SERVER = "127.0.0.1:21998"
"""Where a reverse forward would listen."""
GOT_IN = "got-in"
DEADLINE_S = 30.0
_MASTER = "/tmp/thief-master"
_OPTIONS = (
    *("BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"),
    *("ExitOnForwardFailure=yes", "PreferredAuthentications=publickey", "LogLevel=ERROR"),
)


@dataclass(frozen=True)
class Thief:
    """Somebody with a private key.

    Attributes:
        host, user: where he sits, and as whom.
        key: path of the key there.
        target: `user@address` he logs in to.
        jump: words for ssh to get there.
    """

    lab: Lab
    host: str
    user: str
    key: str
    target: str
    port: int = 22

    @property
    def base(self) -> list[str]:
        """Options that ssh and sftp share."""
        return ["-F", "none", "-i", self.key, *(word for option in _OPTIONS for word in ("-o", option))]

    def run(
        self, argv: Sequence[str], text_in: str = "", env: Optional[Mapping[str, str]] = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command where he sits."""
        return self.lab.run(self.host, argv, user=self.user, input=text_in, env=env, check=False, timeout=DEADLINE_S)

    def ssh(self, *words: str, before: Sequence[str] = (), text_in: str = "", command: str = "") -> str:
        """Standard output of one ssh."""
        argv = [*before, "ssh", *self.base, "-p", str(self.port), *words, self.target, *([command] if command else [])]
        return self.run(argv, text_in).stdout

    def gets_in(self) -> bool:
        """Whether the login itself is accepted: a master connection without any session."""
        with self.forwarding() as up:
            return up

    def refusal(self) -> str:
        """What ssh says of a login that is not accepted."""
        return self.run(["ssh", *self.base, "-p", str(self.port), "-N", "-n", self.target]).stderr

    @contextmanager
    def forwarding(self, *words: str) -> Iterator[bool]:
        """Hold a connection with forwards; False when it or a forward at the other end is refused."""
        # With -f, and ExitOnForwardFailure, ssh returns when the other end has answered. Source: ssh(1).
        master = ["ssh", *self.base, "-p", str(self.port), "-f", "-N", "-M", "-S", _MASTER, *words, self.target]
        up = self.run(master).returncode == 0
        try:
            yield up
        finally:
            self.run(["ssh", "-F", "none", "-S", _MASTER, "-O", "exit", self.target])

    def reaches(self, target: str) -> bool:
        """Whether what listens there, and speaks first, is heard over standard input and output (-W)."""
        return bool(self.ssh("-W", target))

    def hears(self, targets: Sequence[str]) -> list[str]:
        """Which `address:port` or path of a Unix socket is heard through a forward (-L), all by one connection."""
        ports = [CLIENT_PORT + number for number in range(len(targets))]
        words = [word for port, target in zip(ports, targets) for word in ("-L", f"127.0.0.1:{port}:{target}")]
        with self.forwarding(*words) as up:
            return [target for port, target in zip(ports, targets) if up and self._is_heard("127.0.0.1", port)]

    def hears_by_socks(self, targets: Sequence[str]) -> list[str]:
        """The same through ssh as a SOCKS proxy (-D)."""
        proxy = f"127.0.0.1:{CLIENT_PORT}"
        ends = [(target, *target.rsplit(":", 1)) for target in targets]
        with self.forwarding("-D", proxy) as up:
            return [target for target, address, port in ends if up and self._is_heard(address, port, "-x", proxy)]

    def _is_heard(self, address: str, port: Union[int, str], *proxy: str) -> bool:
        return bool(self.run(["timeout", "10", "nc", "-N", "-X", "5", *proxy, address, str(port)]).stdout)


def runs_command(thief: Thief) -> bool:
    """Run a command."""
    return GOT_IN in thief.ssh(command=f"echo {GOT_IN}")


def gets_shell(thief: Thief) -> bool:
    """Get a shell."""
    return GOT_IN in thief.ssh("-T", text_in=f"echo {GOT_IN}\n")


def uses_sftp(thief: Thief) -> bool:
    """Use a subsystem."""
    return (
        "working directory"
        in thief.run(["sftp", "-b", "-", *thief.base, "-P", str(thief.port), thief.target], "pwd\n").stdout
    )


def gets_terminal(thief: Thief) -> bool:
    """Get a pseudo-terminal."""
    return "/dev/pts/" in thief.ssh("-tt", command="tty")


def forwards_agent(thief: Thief) -> bool:
    """Have an agent at the other end."""
    return GOT_IN in thief.ssh("-A", before=["ssh-agent"], command=f'test -S "$SSH_AUTH_SOCK" && echo {GOT_IN}')


def forwards_x11(thief: Thief) -> bool:
    """Have a display at the other end."""
    return GOT_IN in thief.ssh("-X", before=["env", "DISPLAY=127.0.0.1:9"], command=f"echo ${{DISPLAY:+{GOT_IN}}}")


def listens_on_loopback(thief: Thief) -> bool:
    """Make a reverse forward on the loopback."""
    with thief.forwarding("-R", f"{AT_SERVER}:127.0.0.1:22") as up:
        return up


def listens_for_all(thief: Thief) -> bool:
    """Make a reverse forward on all addresses, on a port of the server's choice."""
    with thief.forwarding("-R", "0.0.0.0:0:127.0.0.1:22") as up:
        return up


def serves_socks(thief: Thief) -> bool:
    """Make the thief's host a proxy for the other end (-R without a target)."""
    with thief.forwarding("-R", AT_SERVER) as up:
        return up


Attempt = Callable[[Thief], bool]
"""Says whether it came about."""
SESSIONS: Sequence[Attempt] = (runs_command, gets_shell, uses_sftp)
"""What a forced command stands before."""
EXTRAS: Sequence[Attempt] = (gets_terminal, forwards_agent, forwards_x11)
"""What would show only where a command runs."""
REVERSE: Sequence[Attempt] = (listens_on_loopback, listens_for_all, serves_socks)
