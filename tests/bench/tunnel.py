# SPDX-License-Identifier: Apache-2.0
"""A closed site's way out, tunnel and egress proxy of each kind, against a single `ssh -L` from the same worker.

Worker, login node, egress proxy and server share this machine's processors. So there are two figures of throughput:
over links of 1 Gbit/s, and without that limit, where whoever computes least wins.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from glideinwms_bosco.pilot.scripts import default_scripts_dir, pack_script, read_sources
from tests.bench.figures import BenchError, Figure, Section
from tests.lab.closed_egress import PORTS, prepare_egress
from tests.lab.closed_home import ADDRESS, FORWARDS
from tests.lab.daemon import Daemon
from tests.lab.lab import Lab
from tests.lab.pilots import ACCOUNT
from tests.lab.process import wait_for
from tests.lab.tunnel_site import LOGIN, TunnelSite, bring_tunnel_site, closed_lab

MIB = 256
ROUNDS = 3
CONNECTIONS = 20
TARGET_RATIO = 0.8
TARGET_MIB = 30
HOP = "single ssh hop"
WORKER = "worker1"
LIBRARY = "/usr/lib/x86_64-linux-gnu/libproxychains.so.4"
_DEADLINE_S = 120.0
_HOP_PORT = 21997
_PLAIN_PORT = 443
_KEY = "/shared/pilot/bench-key"
_TUNNEL = "/shared/pilot/bench-tunnel"
_WEB = "/srv/bench"
_HOLD = """\
. "$1"
folder=$(gwms_bosco_tunnel_start "$2") || exit 1
echo "$$ $folder"
read -r
gwms_bosco_tunnel_stop "$folder"
"""
# Of all processes of the account but this shell's wrapper: the tunnel's, which the wrapper has started.
_PSS = """\
for pid in $(pgrep -u "$1"); do
    case " $2 " in *" $pid "*) ;; *) sed -n 's/^Pss: *\\([0-9]*\\) kB$/\\1/p' "/proc/$pid/smaps_rollup" ;; esac
done | awk '{ sum += $1 } END { print sum }'
"""


def measure() -> Iterator[Section]:
    """Bring up a closed site of its own and measure there.

    Raises:
        BenchError: something did not come through.
        LabError: something does not start.
    """
    with closed_lab() as lab:
        _serve(lab)
        keys = prepare_egress(lab)
        with _hop(lab):
            for kind in PORTS:
                site = bring_tunnel_site(lab, kind, ["pool", "web"], keys)
                yield _section(lab, site, kind)


def _serve(lab: Lab) -> None:
    lab.host("outside").make_dirs(_WEB)
    lab.run("outside", ["sh", "-euc", 'cd "$1"; head -c "$2"M /dev/zero >large; echo >small', "sh", _WEB, str(MIB)])
    # What the login node reaches by itself, and what only the egress proxy does.
    for port in (_PLAIN_PORT, FORWARDS["web"]):
        argv = ["python3", "-m", "http.server", "-d", _WEB, str(port)]
        Daemon(lab, "outside", "root", f"bench-{port}", argv).start()
        wait_for(f"port {port}", lambda port=port: _listens(lab, port), _DEADLINE_S)  # type: ignore[misc]
    tunnel = pack_script("lib/tunnel.sh", read_sources(default_scripts_dir()))
    lab.write_file("login", _TUNNEL, tunnel.decode())


def _listens(lab: Lab, port: int) -> bool:
    return bool(lab.run("outside", ["ss", "-Hltn", f"sport = :{port}"]).stdout)


@contextmanager
def _hop(lab: Lab) -> Iterator[None]:
    """The alternative: ssh as it comes, with a key that is not limited."""
    lab.run("login", ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", _KEY], user=ACCOUNT)
    lab.run("login", ["sh", "-c", f"cat {_KEY}.pub >>.ssh/authorized_keys"], user=ACCOUNT)
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ExitOnForwardFailure=yes", "LogLevel=ERROR"]
    argv = ["ssh", "-F", "none", "-i", _KEY, *(word for option in options for word in ("-o", option))]
    forward = ["-f", "-N", "-M", "-S", "/tmp/bench", "-L", f"127.0.0.1:{_HOP_PORT}:{ADDRESS}:{_PLAIN_PORT}"]
    lab.run(WORKER, [*argv, *forward, f"{ACCOUNT}@{LOGIN}"], user=ACCOUNT)
    try:
        yield
    finally:
        lab.run(WORKER, ["ssh", "-F", "none", "-S", "/tmp/bench", "-O", "exit", LOGIN], user=ACCOUNT, check=False)


@contextmanager
def _held(lab: Lab, site: TunnelSite) -> Iterator[tuple[str, str]]:
    """A wrapper that has the site's tunnel: its process on the worker, and the node folder."""
    argv = ["bash", "-c", _HOLD, "hold", _TUNNEL, f"{site.bundle}/egress.conf"]
    with lab.popen(WORKER, argv, user=ACCOUNT, stdin=subprocess.PIPE) as wrapper:
        try:
            words = wrapper.stdout.readline().split() if wrapper.stdout else []
            if len(words) != 2:
                raise BenchError(f"no tunnel: {wrapper.communicate(timeout=_DEADLINE_S)[1]}")
            yield words[0], words[1]
        finally:
            wrapper.communicate(timeout=_DEADLINE_S)


def _section(lab: Lab, site: TunnelSite, kind: str) -> Section:
    before = _pss_kb(lab, "")
    with ExitStack() as stack:
        first, folder = stack.enter_context(_held(lab, site))
        one_kb = _pss_kb(lab, first) - before
        with _held(lab, site) as (second, _):
            further_kb = _pss_kb(lab, f"{first} {second}") - before - one_kb
        with _gigabit(lab):
            limited = _rates(lab, folder)
        return Section(
            f"Tunnel and egress proxy of kind {kind}, {MIB} MiB, all of it on this machine",
            (
                _throughput("throughput, links of 1 Gbit/s", limited, f"target ratio >= {TARGET_RATIO}"),
                _throughput("throughput, links without limit", _rates(lab, folder), ""),
                _latency(lab, folder),
                Figure("memory of tunnel and supervisor", [one_kb / 1024], "MiB", note=f"target < {TARGET_MIB} MiB"),
                Figure("each further pilot of the node", [further_kb / 1024], "MiB"),
            ),
        )


def _pss_kb(lab: Lab, without: str) -> int:
    return int(lab.run(WORKER, ["sh", "-c", _PSS, "sh", ACCOUNT, without]).stdout or 0)


@contextmanager
def _gigabit(lab: Lab) -> Iterator[None]:
    """What leaves the server and the egress proxy has to pass a link of 1 Gbit/s."""
    links = (("outside", "eth0"), ("egress", "eth0"), ("egress", "eth1"))
    rate = ["tbf", "rate", "1gbit", "burst", "256kb", "latency", "20ms"]
    for host, device in links:
        lab.run(host, ["tc", "qdisc", "add", "dev", device, "root", *rate])
    try:
        yield
    finally:
        for host, device in links:
            lab.run(host, ["tc", "qdisc", "del", "dev", device, "root"])


def _curl(lab: Lab, folder: str, name: str, figure: str) -> float:
    """One download; `folder` empty: over the single hop."""
    argv = ["curl", "-fsS", "--max-time", "100", "-o", "/dev/null", "-w", f"%{{{figure}}}"]
    env = {"LD_PRELOAD": LIBRARY, "PROXYCHAINS_CONF_FILE": f"{folder}/proxychains.conf"} if folder else {}
    where = f"{ADDRESS}:{FORWARDS['web']}" if folder else f"127.0.0.1:{_HOP_PORT}"
    done = lab.run(WORKER, [*argv, f"http://{where}/{name}"], user=ACCOUNT, env=env, timeout=_DEADLINE_S, check=False)
    if done.returncode:
        raise BenchError(f"curl of {name} by {folder or HOP}: {done.stderr.strip()}")
    return float(done.stdout)


def _rates(lab: Lab, folder: str) -> tuple[list[float], list[float]]:
    """MiB/s through tunnel and egress proxy, and by the single hop, in turn."""
    both = [
        (_curl(lab, folder, "large", "speed_download"), _curl(lab, "", "large", "speed_download"))
        for _ in range(ROUNDS)
    ]
    return [first / 2**20 for first, _ in both], [second / 2**20 for _, second in both]


def _throughput(what: str, rates: tuple[list[float], list[float]], note: str) -> Figure:
    return Figure(what, rates[0], "MiB/s", HOP, rates[1], note)


def _latency(lab: Lab, folder: str) -> Figure:
    both = [
        (_curl(lab, folder, "small", "time_total"), _curl(lab, "", "small", "time_total")) for _ in range(CONNECTIONS)
    ]
    ours, hop = [first for first, _ in both], [second for _, second in both]
    return Figure("a small file over a new connection", ours, "s", HOP, hop)
