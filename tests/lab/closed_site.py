# SPDX-License-Identifier: Apache-2.0
"""A closed site: workers that reach only the login nodes, which reach outside only the egress proxy. See README.md."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Optional

import yaml

from tests.lab import closed_egress, closed_home, payloads, siteconf, sshd
from tests.lab.closed_egress import PORTS, SSH_USER, Egress
from tests.lab.closed_home import Home
from tests.lab.factory_pilots import FactoryPilot, prepare_jobs, submit_pilot
from tests.lab.lab import Lab
from tests.lab.operator import USER, add_site, gwms_bosco, host_keys, key_of, pin, prepare_factory
from tests.lab.payloads import Payload
from tests.lab.pilot_site import HELLO, RENDERED
from tests.lab.pilots import ACCOUNT, CONTRACT, SCRIPTS, STANDINS, Pilot, PilotEntry, bring_entry, bring_tree
from tests.lab.settings import CHECKOUT, CHECKOUT_IN_HOST, CLUSTER, HOSTS, LOGIN_NODES, WORKERS
from tests.lab.waiting import await_true
from tests.lab.web_site import QUERY

EXAMPLE = CHECKOUT / "factory_configs" / "sites" / "jsc-like.yaml"
ALIAS = "hpc-login"
"""The cluster's name for its login nodes, outside and inside."""
STARTED_DEADLINE_S = 40.0
LEFT_DEADLINE_S = 30.0
KINDS = tuple(PORTS)
NAMELESS = "socks5"
"""The kind whose sites resolve no names: the firewall before what stands for Dante knows addresses."""
IMAGE = f"{STANDINS}/site.sif"
LIBRARY = "/usr/lib/x86_64-linux-gnu/libproxychains.so.4"
CACHE = "/scratch/cvmfs"
READS = f"""\
: >output
set -e
grep -E '^GWMS_BOSCO_(EGRESS|IN_CONTAINER|WEB_PROXY_SOURCE) =' "$_CONDOR_MACHINE_AD" | sort
cat /etc/standin-image {HELLO}
proxy=$(sed -n 's/.*<proxy url="\\([^"]*\\)".*/\\1/p' "$SITECONFIG_PATH/JobConfig/site-local-config.xml" | head -n 1)
echo "proxy $proxy"
curl -fsS --proxy "$proxy" '{QUERY}' | grep -o '<quality error="0"'
"""
"""A payload's script: says what its pilot has published, and that it is in the image, and reads CVMFS, SITECONF, and a
Frontier object through the proxy that is named there."""
BRINGS = f"""\
curl -fsS --cert "$X509_USER_PROXY" --capath "$X509_CERT_DIR" --upload-file input {closed_home.STORE}/$NAME
cat
echo written >output
exit 42
"""
"""The end of it: makes an X.509-authenticated transfer, echoes its input, and leaves an output file."""
WAITS = f"""\
until curl -fs --max-time 10 --cert "$X509_USER_PROXY" --capath "$X509_CERT_DIR" {closed_home.STORE}/go-$NAME; do
    sleep 1
done
"""
X509 = f"x509userproxy = {closed_home.CREDENTIAL}"
_MAKER = WORKERS[0]
_LOGIN_LEFT = """\
for pid in $(pgrep -u "$1"); do
    at=$pid
    until [ "${at:-1}" -le 1 ]; do
        case $(cat "/proc/$at/comm") in sshd*) continue 2 ;; esac
        at=$(ps -o ppid= -p "$at" | tr -d ' ')
    done
    ps -o pid=,args= -p "$pid"
done 2>/dev/null
ss -Htn state established 'sport = :22 and dst 10.77.1.0/24'
"""
"""The account's processes but those of the factory's logins, which have connections of their own; tunnels."""
Change = Callable[[dict[str, Any]], None]
"""Changes the data of a site file."""


@dataclass(frozen=True)
class ClosedSite:
    """The site and what is around it.

    Attributes:
        home: the home institute's servers.
        egress_keys: host keys of the egress proxy of kind ssh.
        image_sha256: of the site's container image.
        listened: (login node, its listening sockets before any pilot).
    """

    lab: Lab
    home: Home
    egress_keys: Sequence[str]
    image_sha256: str
    listened: Sequence[tuple[str, frozenset[str]]]

    def egress(self, kind: str) -> Egress:
        """The egress proxy of that kind."""
        return Egress(self.lab, kind)

    def text(self, kind: str, change: Optional[Change] = None) -> str:
        """The site file: the example as it stands, pinned; for the other kinds with what is theirs in its place."""
        keys = [key for name in LOGIN_NODES for key in host_keys(self.lab, name)]
        text = pin(EXAMPLE.read_text(), keys).replace("0" * 64, self.image_sha256)
        if kind == "http-connect" and change is None:
            return text
        site: dict[str, Any] = yaml.safe_load(text)
        if kind != "http-connect":
            self._make_other(site, kind)
        if change is not None:
            change(site)
        # JSON is YAML.
        return json.dumps(site)

    def _make_other(self, site: dict[str, Any], kind: str) -> None:
        network = site["network"]
        host, port = PORTS[kind]
        network["egress"] = {"kind": kind, "host": host, "port": port}
        if kind == "ssh":
            network["egress"].update(user=SSH_USER, host_keys=list(self.egress_keys))
        by_address = [
            {"name": name, "host": closed_home.ADDRESS, "port": port} for name, port in closed_home.FORWARDS.items()
        ]
        if kind == NAMELESS:
            network.update(dns=False, forwards=by_address)
        else:
            network["forwards"] += [forward for forward in by_address if forward["name"] == "squid"]
        network["web_proxy"] = "squid"
        site["install"]["bosco_dir"] = f"bosco-{kind}"
        site["entries"][0]["name"] += f"_{kind}"

    def bring(
        self, *kinds: str, change: Optional[Change] = None, period_s: Optional[int] = None
    ) -> dict[str, PilotEntry]:
        """Put site files on the factory, deploy, render their entries, start the egress proxies; dict kind -> entry.

        Args:
            change: what is not as in the example.
            period_s: see `bring_entry`.
        """
        texts = {kind: self.text(kind, change) for kind in kinds}
        names = {kind: site_of(kind) for kind in kinds}
        for kind in kinds:
            add_site(self.lab, names[kind], texts[kind])
        gwms_bosco(self.lab, "remote", "ssh-config")
        gwms_bosco(self.lab, "remote", "deploy", *names.values(), "--key", key_of(ACCOUNT))
        self.lab.run("factory", ["mkdir", "-p", RENDERED], user=USER)
        gwms_bosco(self.lab, "entry", "render", "--output", RENDERED, *names.values())
        found = {}
        for kind in kinds:
            site: dict[str, Any] = yaml.safe_load(texts[kind])
            self._start_egress(kind, names[kind], site["install"]["bosco_dir"])
            xml = f"{RENDERED}/50-{names[kind]}.xml"
            found[kind] = bring_entry(self.lab, xml, site["entries"][0]["name"], period_s)
        return found

    def _start_egress(self, kind: str, site: str, bosco_dir: str) -> None:
        key = None
        if kind == "ssh":
            argv = ["ssh-keygen", "-y", "-f", f"/shared/{ACCOUNT}/{bosco_dir}/egress/id_ed25519"]
            key = self.lab.run(LOGIN_NODES[0], argv).stdout
        closed_egress.configure_egress(self.lab, site, kind, key)
        self.egress(kind).start()

    def submit(self, entry: PilotEntry, name: str, life_s: int = 150, idle_s: int = 20) -> FactoryPilot:
        """Submit a pilot that downloads HTCondor from home, and works in the folder it is started in.

        It knows web server and pool by name, if the site resolves names.
        """
        named = not entry.name.endswith(NAMELESS)
        web, pool = (closed_home.WEB_SERVER, closed_home.POOL) if named else (closed_home.ADDRESS,) * 2
        words = [closed_home.web_url(closed_home.HTCONDOR, web), name, str(life_s), str(idle_s), ".", pool]
        return submit_pilot(self.lab, entry, name, words)

    @contextmanager
    def only_on(self, node: str, count: int) -> Iterator[None]:
        """Have the batch system use no other node for what is submitted, until `count` jobs run on this one."""
        login = LOGIN_NODES[0]
        updates = [["scontrol", "update", f"NodeName={name}"] for name in WORKERS if name != node]
        for update in updates:
            self.lab.run(login, [*update, "State=DRAIN", "Reason=lab"])
        yield
        running = ["squeue", "-h", "-t", "R", "-w", node]
        what = f"{count} pilots on {node} started"
        await_true(lambda: len(self.lab.run(login, running).stdout.splitlines()) == count, what, STARTED_DEADLINE_S)
        for update in updates:
            self.lab.run(login, [*update, "State=RESUME"])

    def end_pilots(self, node: str) -> None:
        """Tell all pilots on a node to end, as glideinWMS does: QUIT to condor_master."""
        self.lab.run(node, ["pkill", "-QUIT", "-u", ACCOUNT, "-x", "condor_master"])

    def logs(self, kind: str) -> str:
        """What the operator sees of the logs on the site."""
        return gwms_bosco(self.lab, "remote", "logs", site_of(kind), "--key", key_of(ACCOUNT)).stdout

    def submit_payload(self, pilot: Pilot, name: str, waits: bool = False) -> Payload:
        """Submit a payload that reads everything, and brings everything back.

        Args:
            name: of the file that it brings to the store.
            waits: it asks the store every second whether it may go on, in between; see `let_go`.
        """
        script = f"NAME={name}\n{READS}{WAITS if waits else ''}{BRINGS}"
        return payloads.submit(self.lab, pilot, script, extra=f"{X509}\ntransfer_output_files = output")

    def stop_sshd(self, login: str) -> None:
        """End sshd of a login node with all its sessions."""
        self.lab.run(login, ["pkill", "-KILL", "-x", "sshd|sshd-session|sshd-auth"])

    def start_sshd(self, login: str) -> None:
        """Start it again, with the host keys that it had."""
        self.lab.run(login, ["/usr/sbin/sshd", "-E", sshd.LOG])

    def left(self) -> list[str]:
        """What is still there of pilots: processes, and on workers mounts and folders, on login nodes open sockets."""
        # What stays is of the node: the image that was checked.
        script = (
            "pgrep -a -u pilot; awk '$5 ~ /gwms-bosco-|cvmfs|glide_/' /proc/self/mountinfo; "
            "find /tmp /dev/shm /scratch/* -mindepth 1 -user pilot ! -path '/tmp/gwms-bosco-[0-9]*' | head"
        )
        found = [(worker, self.lab.run(worker, ["sh", "-c", script], check=False).stdout) for worker in WORKERS]
        argv = ["sh", "-c", _LOGIN_LEFT, "sh", ACCOUNT]
        found += [(login, self.lab.run(login, argv).stdout) for login in LOGIN_NODES]
        found += [(login, "\n".join(sorted(listening(self.lab, login) - before))) for login, before in self.listened]
        return [f"{host}: {line}" for host, text in found for line in text.splitlines()]

    def assert_nothing_left(self) -> None:
        """Wait until nothing of pilots is there any more.

        Raises:
            AssertionError: something is.
        """
        ends = time.monotonic() + LEFT_DEADLINE_S
        while (found := self.left()) and time.monotonic() < ends:
            time.sleep(0.5)
        assert found == [], "\n".join(found)

    def point_alias(self, name: str, hosts: Sequence[str] = ("factory", *WORKERS)) -> None:
        """Have the alias mean that login node, for the factory and for the workers."""
        links = {link.bridge: link.address for link in HOSTS[name].links}
        for host in hosts:
            here = {link.bridge for link in HOSTS[host].links}
            address = links[CLUSTER] if CLUSTER in here else next(at for on, at in links.items() if on in here)
            self.lab.write_file(host, "/etc/hosts", f"{self.lab.settings.etc_hosts(host)}{address} {ALIAS}\n")


def listening(lab: Lab, login: str) -> frozenset[str]:
    """Addresses at which something listens on a login node, besides what the factory's logins forward."""
    lines = lab.run(login, ["ss", "-Hltnp"]).stdout.splitlines()
    return frozenset(f"listens on {line.split()[3]}" for line in lines if '"sshd-session"' not in line)


def ended_well(pilot: FactoryPilot) -> bool:
    """Tell whether its job has ended by itself."""
    return "Normal termination (return value 0)" in pilot.log()


def site_of(kind: str) -> str:
    """Name of the site file whose egress proxy is of that kind."""
    return f"jsc-like-{kind}"


def prepare_closed(lab: Lab) -> ClosedSite:
    """Bring the home institute up, and what a site's administrators and operators have put on its disks."""
    prepare_factory(lab)
    for worker in WORKERS:
        lab.run(worker, ["sh", f"{SCRIPTS}/node_faults.sh", "open-fuse"])
        lab.host(worker).make_dirs(CACHE, owner=ACCOUNT)
    making = ["bash", f"{SCRIPTS}/make_standins.sh", f"{CHECKOUT_IN_HOST}/tests/pilot/standins", STANDINS]
    lab.run(_MAKER, [*making, closed_home.STRATUM1])
    lab.run(_MAKER, ["bash", f"{CHECKOUT_IN_HOST}/tests/pilot/make_image.sh", IMAGE, LIBRARY])
    bring_tree(lab, str(CHECKOUT / "tests" / "pilot" / "contract"), ("factory", CONTRACT))
    siteconf.provide_sibling(lab)
    home = closed_home.start_home(lab, _MAKER, WORKERS)
    prepare_jobs(lab)
    keys = closed_egress.prepare_egress(lab)
    listened = [(login, listening(lab, login)) for login in LOGIN_NODES]
    site = ClosedSite(lab, home, keys, lab.run(_MAKER, ["sha256sum", IMAGE]).stdout.split()[0], listened)
    site.point_alias(LOGIN_NODES[0])
    return site
