# SPDX-License-Identifier: Apache-2.0
"""One host: started from a fresh overlay, entered by nsenter, gone with its pid 1."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tests.lab.process import Record, communicate, read_record, tail, wait_for
from tests.lab.settings import (
    CHECKOUT_IN_HOST,
    FACTORY_CONDOR_CONFIG,
    HOST_PATH,
    HOSTS,
    LabError,
    Settings,
)

INIT = Path(__file__).with_name("host_init.sh")
START_DEADLINE_S = 20.0
STOP_DEADLINE_S = 20.0
# Writes its own pid and start time, then becomes the command: no moment exists in which the process is not recorded.
_RECORD_AND_EXEC = 'cut -d" " -f1,22 "/proc/$$/stat" >"$1.new" && mv "$1.new" "$1" && shift && exec "$@"'
_WRITE_FILE = 'umask 077; t="$1.lab$$"; cat >"$t" && chown "$2" "$t" && chmod "$3" "$t" && mv "$t" "$1"'


class CommandError(LabError):
    """A command in a host failed.

    Attributes:
        done: the finished process.
    """

    def __init__(self, host: str, done: subprocess.CompletedProcess[str]) -> None:
        argv = " ".join(map(str, done.args))
        super().__init__(f"{host}: {argv}: exit status {done.returncode}\n{tail(done.stdout + done.stderr)}".rstrip())
        self.done = done


@dataclass(frozen=True)
class Account:
    """One line of a host's /etc/passwd."""

    name: str
    uid: int
    gid: int
    home: str


class Host:
    """A running or startable host of one lab."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings = settings
        self.name = name
        self.spec = HOSTS[name]
        self.dir = settings.host_dir(name)
        self._pid1: Optional[Record] = None
        self._launcher: Optional[subprocess.Popen[bytes]] = None

    @property
    def record_file(self) -> Path:
        return self.dir / "pid"

    @property
    def log_file(self) -> Path:
        return self.dir / "log"

    def start(self, lower: str, checkout: Path) -> None:
        """Start the host and wait until its root is in place; the network name space must exist.

        Raises:
            LabError: it is not there in time; with the end of its log.
        """
        self.dir.mkdir(parents=True)
        shared = str(self.settings.shared_dir) if self.spec.shared else ""
        env = {
            "PATH": HOST_PATH,
            "LAB_ID": self.id,
            "LAB_HOST": self.name,
            "LAB_LOWER": lower,
            "LAB_DIR": str(self.dir),
            "LAB_CHECKOUT": str(checkout),
            "LAB_CHECKOUT_IN_HOST": CHECKOUT_IN_HOST,
            "LAB_SHARED": shared,
            "LAB_CHROOT": "yes" if self.spec.chroot else "",
        }
        enter = ["nsenter", f"--net=/run/netns/{self.settings.netns(self.name)}"]
        unshare = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "sh", str(INIT)]
        with self.log_file.open("wb") as log:
            self._launcher = subprocess.Popen(
                ["sh", "-c", _RECORD_AND_EXEC, "sh", str(self.record_file), *enter, *unshare],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
            )
        wait_for(f"host {self.name}", self._started, START_DEADLINE_S, self.log_file.read_text)
        self.write_file("/etc/hosts", self.settings.etc_hosts(self.name))

    @property
    def id(self) -> str:
        return f"{self.settings.name}/{self.name}"

    def _started(self) -> bool:
        if self._launcher is not None and self._launcher.poll() is not None:
            raise LabError(f"host {self.name}: its pid 1 ended\n{tail(self.log_file.read_text())}")
        return self.alive()

    def alive(self) -> bool:
        """Tell whether the host runs and its root is in place."""
        try:
            marker = Path(f"/proc/{self.pid1().pid}/root/run/gwms-lab-host")
            return marker.read_text() == self.id + "\n"
        except (LabError, OSError):
            return False

    def pid1(self) -> Record:
        """Return the host's pid 1 as the machine sees it.

        Raises:
            LabError: the host is not running.
        """
        if self._pid1 is None or not self._pid1.alive():
            launcher = read_record(self.record_file)
            children = launcher.children() if launcher and launcher.alive() else []
            if not children:
                raise LabError(f"host {self.name} of lab {self.settings.name} is not running")
            self._pid1 = children[0]
        return self._pid1

    def stop(self) -> None:
        """Kill pid 1 and with it everything in the host; nothing to do when the host is gone.

        Raises:
            LabError: something is still there at the deadline.
        """
        launcher = read_record(self.record_file)
        if launcher is not None:
            wait_for(f"end of host {self.name}", lambda: _killed(launcher), STOP_DEADLINE_S)
        if self._launcher is not None:
            self._launcher.wait(STOP_DEADLINE_S)
        self._launcher = self._pid1 = None

    def root(self) -> Path:
        """Return the host's root as the machine sees it. An absolute link inside leads out of it: see read_file."""
        return Path(f"/proc/{self.pid1().pid}/root")

    def account(self, user: str) -> Account:
        """Look an account up in the host's /etc/passwd.

        Raises:
            LabError: there is none of that name.
        """
        for line in (self.root() / "etc/passwd").read_text().splitlines():
            fields = line.split(":")
            if fields[0] == user:
                return Account(user, int(fields[2]), int(fields[3]), fields[5])
        raise LabError(f"host {self.name} has no account {user}")

    def entry_argv(self, argv: Sequence[str], user: str = "root", env: Optional[Mapping[str, str]] = None) -> list[str]:
        """Return the command line that runs `argv` in the host as `user`, in its home, with a clean environment."""
        account = self.account(user)
        clean = {
            "PATH": HOST_PATH,
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "SHELL": "/bin/bash",
            "HOME": account.home,
            "USER": user,
            "LOGNAME": user,
        }
        if (self.name, user) == ("factory", "factory"):
            clean["CONDOR_CONFIG"] = FACTORY_CONDOR_CONFIG
        clean.update(env or {})
        enter = ["nsenter", "-t", str(self.pid1().pid), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--"]
        become = ["setpriv", "--reuid", str(account.uid), "--regid", str(account.gid), "--init-groups"]
        pairs = [f"{key}={value}" for key, value in clean.items()]
        return [*enter, *(become if user != "root" else ()), "env", "-C", account.home, "-i", *pairs, *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str = "root",
        text_in: Optional[str] = None,
        timeout: float = 180.0,
        check: bool = True,
        env: Optional[Mapping[str, str]] = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host to its end.

        Raises:
            CommandError: `check` is set and the exit status is not 0.
            LabError: the host is not running, or the command is not done within `timeout` seconds.
        """
        done = communicate(self.entry_argv(argv, user, env), text_in=text_in, timeout=timeout)
        done = subprocess.CompletedProcess(list(argv), done.returncode, done.stdout, done.stderr)
        if check and done.returncode:
            raise CommandError(self.name, done)
        return done

    def sh(self, script: str, *args: str, user: str = "root", timeout: float = 180.0) -> str:
        """Run a fixed shell script with `args` as $1, $2, ... and return its standard output."""
        return self.run(["sh", "-euc", script, "sh", *args], user=user, timeout=timeout).stdout

    def read_file(self, path: str) -> str:
        """Return a text file of the host, links followed inside the host."""
        return self.run(["cat", path]).stdout

    def write_file(self, path: str, text: str, owner: str = "root:root", mode: int = 0o644) -> None:
        """Write a text file in the host by renaming; the directory must exist."""
        self.run(["sh", "-c", _WRITE_FILE, "sh", path, owner, f"{mode:o}"], text_in=text)

    def make_dirs(self, *paths: str, owner: str = "root", mode: int = 0o755) -> None:
        """Make directories in the host with owner and group `owner`."""
        self.run(["install", "-d", "-o", owner, "-g", owner, "-m", f"{mode:o}", *paths])

    def daemon_runs(self, pid_file: str) -> bool:
        """Tell whether the process named in a pid file of the host is alive; the path has no symbolic links."""
        try:
            pid = int((self.root() / pid_file.lstrip("/")).read_text())
            return (self.root() / "proc" / str(pid)).exists()
        except (LabError, OSError, ValueError):
            return False


def _killed(launcher: Record) -> bool:
    """Kill once more what is left of `unshare` and its child; True when nothing is.

    The child goes first: when it is gone, all of its pid name space is. `unshare` itself then ends by itself, but
    when it has no child yet it must be killed (it blocks SIGTERM).
    """
    if not launcher.alive():
        return True
    for victim in launcher.children() or [launcher]:
        victim.kill()
    return False
