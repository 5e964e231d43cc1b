# SPDX-License-Identifier: Apache-2.0
"""A closed site in name spaces: a worker, two login nodes, an egress proxy, and nftables between them. Needs root.

    worker 10.78.1.11 -- 22 only --> login 10.78.1.1, 10.78.1.2 -- 80, 443 only --> egress proxy 10.78.0.30
                                                                                    web server   10.78.0.31:8000

sshd, squid, microsocks and proxychains are the real ones. The two login nodes are one host with two daemons.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Optional

from glideinwms_bosco.pilot.scripts import default_scripts_dir, pack_script, read_sources

LOGINS = ("10.78.1.1", "10.78.1.2")
WORKER, EGRESS, TARGET = "10.78.1.11", "10.78.0.30", "10.78.0.31:8000"
WAIT_S = 60.0
PAGE = b"hello from outside\n"
ATTACKER = 2001
"""User id of another user of the worker."""
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
NEEDS = ("ssh", "sshd", "squid", "microsocks", "proxychains4", "nft", "ip", "nsenter", "flock")
QUICK = {
    "GWMS_BOSCO_TUNNEL_ALIVE_S": "1", "GWMS_BOSCO_TUNNEL_CONNECT_S": "5", "GWMS_BOSCO_TUNNEL_SPREAD_MS": "0",
    "GWMS_BOSCO_JOB_STAY_S": "0",
}  # fmt: skip
"""Environment of a wrapper whose tunnel sees loss in seconds, and that ends at once when there is none."""
HOSTBASED = (
    "HostbasedAuthentication yes", "HostbasedUsesNameFromPacketOnly yes", "IgnoreRhosts no", "IgnoreUserKnownHosts no",
    "PubkeyAuthentication no",
)  # fmt: skip
_WRAPPER = """
. "$1"
folder= pilot=
stop() { [ -z "$pilot" ] || kill "$pilot"; [ -z "$folder" ] || gwms_bosco_tunnel_stop "$folder"; exit "$1"; }
trap 'stop 143' TERM INT HUP
folder=$(gwms_bosco_tunnel_start "$2") || exit 1
echo "$$ $folder"
cat <&0 >/dev/null &
pilot=$!
wait "$pilot"
pilot=
stop 0
"""
_FIREWALL = {
    "worker": "oif lo accept; ip daddr 10.78.1.0/24 tcp dport 22 accept; counter reject",
    "login": "oif lo accept; ct state established accept; oifname o0 tcp dport { 80, 443 } accept; counter reject",
}


def lacking() -> str:
    """Programs or rights this machine lacks for it; empty when it has all."""
    if os.geteuid() != 0:
        return "root"
    return " ".join(name for name in NEEDS if shutil.which(name, path=_PATH) is None)


def wait_for(condition: Callable[[], object], what: str, within_s: float = WAIT_S) -> None:
    """Return as soon as the condition holds.

    Raises:
        AssertionError: it does not in that time.
    """
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, f"not within {within_s} s: {what}"
        time.sleep(0.05)


class Host:
    """Network and process name spaces, which end with `stack`."""

    def __init__(self, stack: ExitStack) -> None:
        command = ["unshare", "-n", "-m", "-p", "-f", "--kill-child", "--mount-proc", "sh", "-c"]
        self._first = subprocess.Popen(
            [*command, "ip link set lo up; echo ready; exec sleep 3600"], stdout=subprocess.PIPE
        )
        stack.callback(self._end)
        assert self._first.stdout is not None
        assert self._first.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text().split()
        self.pid = int(children[0])

    def _end(self) -> None:
        # Its first process takes all others with it.
        self._first.kill()
        self._first.communicate()

    def start(
        self, command: Sequence[str], env: Optional[Mapping[str, str]] = None, log: Optional[Path] = None, user: int = 0
    ) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own; with `log` its stderr goes there."""
        argv = [
            "nsenter",
            "-t",
            str(self.pid),
            "-n",
            "-m",
            "-p",
            "--",
            "env",
            "--default-signal",
            "-i",
            f"PATH={_PATH}",
        ]
        argv += [f"{name}={value}" for name, value in (env or {}).items()]
        if user:
            argv += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        with contextlib.ExitStack() as stack:
            err = stack.enter_context(log.open("ab")) if log else subprocess.PIPE
            return subprocess.Popen(
                [*argv, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                start_new_session=True,
            )

    def run(self, *command: str, env: Optional[Mapping[str, str]] = None, stdin: bytes = b"") -> str:
        """Output of a command that must succeed."""
        process = self.start(command, env)
        out, err = process.communicate(stdin, WAIT_S)
        assert process.returncode == 0, (command, out, err)
        return out.decode()

    def processes(self) -> dict[int, str]:
        """Number -> command line of all but the first; numbers as the host has them, zombies left out."""
        listing = self.run("ps", "-eo", "pid=,stat=,args=").splitlines()
        rows = [line.split(None, 2) for line in listing]
        return {
            int(row[0]): row[2]
            for row in rows
            if row[1][0] != "Z" and row[0] != "1" and row[2] != "ps -eo pid=,stat=,args="
        }

    def pids(self, *words: str) -> list[int]:
        """Numbers of processes whose command line has all the words."""
        return [pid for pid, line in self.processes().items() if all(word in line for word in words)]

    def kill(self, name: str, *pids: int) -> None:
        """Send a signal to processes of the host, by their numbers there."""
        self.run("kill", f"-{name}", *(str(pid) for pid in pids))

    def kill_others(self, spared: int) -> None:
        """kill -9 of everything but one, at once as far as they can tell, also of what one is just starting."""
        stopped: set[int] = set()
        while others := set(self.processes()) - {spared} - stopped:
            # One of them may end meanwhile.
            self.run("sh", "-c", 'kill -STOP "$@" || :', "sh", *(str(pid) for pid in others))
            stopped |= others
        self.run("sh", "-c", 'kill -KILL "$@" || :', "sh", *(str(pid) for pid in stopped))

    def nft(self, rules: str) -> None:
        """Add rules to its firewall."""
        self.run("nft", "-f", "-", stdin=rules.encode())


class Sshd:
    """sshd on one address of a host."""

    def __init__(self, host: Host, folder: Path, address: str, port: int, keys: Path, host_key: Path) -> None:
        self._host, self.log = host, folder / f"sshd-{address}-{port}.log"
        self._config = folder / f"sshd-{address}-{port}.conf"
        self._lines = [
            f"ListenAddress {address}", f"Port {port}", f"HostKey {host_key}", f"AuthorizedKeysFile {keys}",
            "PidFile none", "UsePAM no", "StrictModes no", "PasswordAuthentication no", "PermitRootLogin yes",
            "KbdInteractiveAuthentication no", "LogLevel VERBOSE",
        ]  # fmt: skip
        self._process: Optional[subprocess.Popen[bytes]] = None

    def start(self, *extra: str) -> None:
        """Start it, with more lines of sshd_config."""
        self._config.write_text("\n".join([*extra, *self._lines]) + "\n")
        before = self.count("Server listening")
        self._process = self._host.start(["/usr/sbin/sshd", "-D", "-e", "-f", str(self._config)], log=self.log)
        wait_for(lambda: self.count("Server listening") > before, "sshd listens")

    def stop(self) -> None:
        """Kill it and its connections, as a reboot would."""
        # Found first: a connection whose daemon has gone belongs to nobody.
        with contextlib.suppress(AssertionError):
            self._host.kill("KILL", *[pid for pid in self._host.pids("sshd") if self._mine(pid)])
        assert self._process is not None
        self._process.communicate()

    def _mine(self, pid: int) -> bool:
        """Of this daemon: the daemon by its command line, a connection by who started it."""
        tree = {
            int(a): int(b) for a, b in (line.split() for line in self._host.run("ps", "-eo", "pid=,ppid=").splitlines())
        }
        lines = self._host.processes()
        while pid in tree and pid != 1:
            if str(self._config) in lines.get(pid, ""):
                return True
            pid = tree[pid]
        return False

    def count(self, text: str) -> int:
        """How often its log has the text."""
        return self.log.read_text(errors="replace").count(text) if self.log.exists() else 0

    @property
    def logins(self) -> int:
        """How many connections logged in so far."""
        return self.count("Accepted publickey")


class World:
    """The site and what is outside."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.worker, self.login, self.outside = Host(stack), Host(stack), Host(stack)
        self._stack = stack
        self._cable(self.worker, "w0", [f"{WORKER}/24"], self.login, "l0", [f"{name}/24" for name in LOGINS])
        self._cable(self.login, "o0", ["10.78.0.1/24"], self.outside, "e0", [f"{EGRESS}/24", "10.78.0.31/24"])
        for name, rules in _FIREWALL.items():
            self._host(name).nft(
                f"table inet site {{ chain out {{ type filter hook output priority 0; {rules}; }}; }}\n"
            )
        for name in ("host_key", "home/key", "egress_key"):
            (folder / name).parent.mkdir(exist_ok=True)
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)], check=True
            )
        (folder / "packed.sh").write_bytes(pack_script("lib/tunnel.sh", read_sources(default_scripts_dir())))
        (folder / "wrapper").write_text(_WRAPPER)
        (folder / "keys").write_text(f"{self.key_options(80)} {self.key}\n")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.logins = [self.sshd(self.login, address) for address in LOGINS]
        web = folder / "web"
        web.mkdir()
        (web / "page").write_bytes(PAGE)
        self.serve(["python3", "-m", "http.server", "-b", "10.78.0.31", "-d", str(web), "8000"], "10.78.0.31", 8000)

    @property
    def key(self) -> str:
        """The public half of the tunnel's key."""
        return (self.folder / "home/key.pub").read_text().strip()

    @staticmethod
    def key_options(port: int) -> str:
        """What limits the key in authorized_keys of the login node."""
        return f'restrict,port-forwarding,command="/bin/false",from="10.78.1.0/24",permitopen="{EGRESS}:{port}"'

    def sshd(self, host: Host, address: str, port: int = 22, keys: str = "keys", host_key: str = "host_key") -> Sshd:
        """A daemon, not yet started."""
        return Sshd(host, self.folder, address, port, self.folder / keys, self.folder / host_key)

    def squid(self, *ports: int) -> subprocess.Popen[bytes]:
        """Start the egress proxy of kind http-connect on port 80; `ports` are more ports of the web server's host."""
        folder, user = self.folder / "squid", pwd.getpwnam("proxy")
        folder.mkdir(exist_ok=True)
        os.chown(folder, user.pw_uid, user.pw_gid)
        (folder / "squid.conf").write_text(
            f"http_port {EGRESS}:80\nacl from src 10.78.0.1\nacl to dst 10.78.0.31\n"
            f"acl port port {' '.join(map(str, (8000, *ports)))}\n"
            "http_access allow CONNECT from to port\nhttp_access allow from to port\nhttp_access deny all\n"
            f"visible_hostname egress.test\ncache_mem 8 MB\ncache_effective_user {user.pw_name}\n"
            f"cache_log {folder}/cache.log\naccess_log stdio:{folder}/access.log\npid_filename none\n"
            f"coredump_dir {folder}\npinger_enable off\nnetdb_filename none\n"
        )
        return self.serve(["squid", "-N", "-f", str(folder / "squid.conf")], EGRESS, 80)

    def microsocks(self) -> subprocess.Popen[bytes]:
        """Start the egress proxy of kind socks5 on port 443."""
        (self.folder / "keys").write_text(f"{self.key_options(443)} {self.key}\n")
        return self.serve(["microsocks", "-i", EGRESS, "-p", "443"], EGRESS, 443)

    def egress_sshd(self) -> Sshd:
        """Start the egress proxy of kind ssh on port 443."""
        (self.folder / "keys").write_text(f"{self.key_options(443)} {self.key}\n")
        limits = f'restrict,port-forwarding,command="/bin/false",from="10.78.0.1",permitopen="{TARGET}"'
        (self.folder / "egress_keys").write_text(f"{limits} {self.key}\n")
        daemon = self.sshd(self.outside, EGRESS, 443, "egress_keys", "egress_key")
        daemon.start()
        return daemon

    def conf(self, kind: str = "http-connect", name: str = "egress", **changed: str) -> Path:
        """Write egress.conf and known_hosts as the bundle has them."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        lines = {
            "KIND": kind, "EGRESS_HOST": EGRESS, "EGRESS_PORT": "80" if kind == "http-connect" else "443",
            "EGRESS_USER": "root" if kind == "ssh" else "", "LOGIN_HOSTS": LOGINS[0], "LOGIN_PORT": "22",
            "AUTH": "site-key", "KEY": "key", "FORWARDS": f"web={TARGET}", "DNS": "False",
            "WEB_PROXY": {"http-connect": "egress"}.get(kind, "web"), "LOCALNETS": "10.78.1.0/24", "CONNECT_MS": "8000",
            "READ_MS": "15000", **changed,
        }  # fmt: skip
        (folder / "egress.conf").write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        names = ((",".join(LOGINS), "host_key"), (f"[{EGRESS}]:443", "egress_key"))
        (folder / "known_hosts").write_text(
            "".join(f"{hosts} {(self.folder / key).with_suffix('.pub').read_text()}" for hosts, key in names)
        )
        return folder / "egress.conf"

    def login_host_key_changes(self) -> None:
        """The login nodes have another host key than known_hosts says."""
        self.conf()
        self.logins = [self.sshd(self.login, address, host_key="egress_key") for address in LOGINS]

    def trust_worker(self) -> None:
        """Have the login node know the worker's host key, and the worker's ssh use it."""
        etc, home = self.folder / "etc-ssh", self.folder / "root"
        etc.mkdir()
        (home / ".ssh").mkdir(parents=True)
        shutil.copy(self.folder / "egress_key", etc / "ssh_host_ed25519_key")
        shutil.copy(self.folder / "egress_key.pub", etc / "ssh_host_ed25519_key.pub")
        (etc / "ssh_config").write_text("EnableSSHKeysign yes\n")
        names = {socket.gethostname(), socket.getfqdn(), WORKER, "worker1.test"}
        (home / ".shosts").write_text("".join(f"{name} root\n" for name in names))
        (home / ".ssh" / "known_hosts").write_text(
            f"{','.join(names)} {(etc / 'ssh_host_ed25519_key.pub').read_text()}"
        )
        self.worker.run("mount", "--bind", str(etc), "/etc/ssh")
        self.login.run("mount", "--bind", str(home), "/root")

    def wrapper(self, conf: Path, place: str = "tmp", **env: str) -> Wrapper:
        """Start a wrapper; `place` stands for the node's /tmp."""
        folder = self.folder / place
        folder.mkdir(exist_ok=True)
        folder.chmod(0o1777)
        words = {"HOME": str(self.folder / "home"), "GWMS_BOSCO_TUNNEL_TMP": str(folder), **QUICK, **env}
        return Wrapper(self, conf, words)

    def _host(self, name: str) -> Host:
        found = getattr(self, name)
        assert isinstance(found, Host)
        return found

    def serve(self, command: Sequence[str], address: str, port: int) -> subprocess.Popen[bytes]:
        """Start a server outside, and return when it answers there."""
        process = self.outside.start(command)
        wait_for(lambda: self._answers(address, port), f"{command[0]} listens")
        return process

    def _answers(self, address: str, port: int) -> bool:
        probe = self.outside.start(["bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"])
        probe.communicate()
        return probe.returncode == 0

    @staticmethod
    def _cable(one: Host, name: str, addresses: Sequence[str], other: Host, peer: str, others: Sequence[str]) -> None:
        ends = ["peer", "name", peer, "netns", str(other.pid)]
        subprocess.run(["ip", "link", "add", name, "netns", str(one.pid), "type", "veth", *ends], check=True)
        for host, link, own in ((one, name, addresses), (other, peer, others)):
            for address in own:
                host.run("ip", "address", "add", address, "dev", link)
            host.run("ip", "link", "set", link, "up")


class Wrapper:
    """A job wrapper on the worker that uses the tunnel until its stdin ends."""

    def __init__(self, world: World, conf: Path, env: Mapping[str, str]) -> None:
        self._world, self._env = world, env
        self.host = world.worker
        self._process = self.host.start(
            ["bash", *map(str, (world.folder / "wrapper", world.folder / "packed.sh", conf))], env
        )
        self._folder: Optional[Path] = None
        self.pid = 0

    @property
    def folder(self) -> Path:
        """The node folder; waits until the tunnel is up.

        Raises:
            AssertionError: it does not come up; with what the wrapper says.
        """
        if self._folder is None:
            assert self._process.stdout is not None
            number, _, folder = self._process.stdout.readline().decode().rstrip("\n").partition(" ")
            assert folder, self.failure()
            self.pid, self._folder = int(number), Path(folder)
        return self._folder

    def failure(self) -> str:
        """What it says on stderr when it has ended by itself with exit code 1."""
        _, err = self._process.communicate(timeout=4 * WAIT_S)
        assert self._process.returncode == 1, self._process.returncode
        return err.decode().strip()

    def end(self) -> None:
        """Its normal end."""
        self._process.communicate(timeout=WAIT_S)

    def kill(self, whole: bool = True) -> None:
        """kill -9 of its process group, or of itself alone: its supervisor stays."""
        if whole:
            os.killpg(self._process.pid, 9)
        else:
            self.host.kill("KILL", self.pid)
        self._process.communicate()

    @property
    def port(self) -> int:
        """The proxy's port at this end."""
        return int(dict(line.split("=") for line in (self.folder / "ports").read_text().split())["PROXY"])

    @property
    def state(self) -> tuple[str, int]:
        """UP or DOWN, and since when."""
        word, since = (self.folder / "state").read_text().split()
        return word, int(since)

    @property
    def ssh(self) -> int:
        """The number of the ssh process."""
        return int((self.folder / "ssh").read_text().split()[0])

    @property
    def supervisor(self) -> int:
        """The number of this wrapper's supervisor."""
        (file,) = (self.folder / "users").glob(f"{self.pid}.*")
        return int(file.read_text().split()[0])

    def log(self) -> str:
        """The tunnel's log."""
        return (self.folder / "log").read_text()

    def fetch(self, url: str = f"http://{TARGET}/page") -> bytes:
        """Get a page by proxychains and the configuration in the folder; empty when that fails."""
        env = {"PROXYCHAINS_CONF_FILE": str(self.folder / "proxychains.conf")}
        address, _, path = url.removeprefix("http://").partition("/")
        host, _, port = address.partition(":")
        get = f"exec 3<>/dev/tcp/{host}/{port} && printf 'GET /{path} HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
        process = self.host.start(["timeout", "20", "proxychains4", "bash", "-c", get], env)
        out, _ = process.communicate()
        return out.partition(b"\r\n\r\n")[2]


@contextlib.contextmanager
def running(folder: Path) -> Iterator[World]:
    """Bring the site up, its login nodes not yet running, and take it down again."""
    with ExitStack() as stack:
        yield World(folder, stack)
