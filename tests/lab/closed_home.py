# SPDX-License-Identifier: Apache-2.0
"""The home institute of a closed site: what its pilots reach through the egress proxy, all of it on host `outside`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.lab import global_pool
from tests.lab.closed_egress import HOST as EGRESS
from tests.lab.daemon import Daemon
from tests.lab.lab import Lab
from tests.lab.operator import USER
from tests.lab.pilot_site import REPOSITORY
from tests.lab.pilots import ARCHIVES, SCRIPTS, STANDINS, bring_tree, send_tree
from tests.lab.settings import BASE_HOSTS, CHECKOUT_IN_HOST
from tests.lab.squid import Squid
from tests.lab.web_site import start_server
from tests.pilot.certificates import Authority

HOST = "outside"
ADDRESS = BASE_HOSTS[HOST].links[0].address
PUBLIC_ADDRESS = "192.0.2.30"
"""What its names mean: squid opens no name that leads to a private network."""
POOL, WEB_SERVER = "pool.example.org", "web.example.org"
"""Names that outside only the egress proxy knows."""
POOL_PORT, STRATUM1_PORT, FRONTIER_PORT, WEB_PORT, STORE_PORT, SQUID_PORT = 9618, 8000, 8001, 8080, 8443, 3128
FORWARDS = {
    "pool": POOL_PORT,
    "stratum1": STRATUM1_PORT,
    "frontier": FRONTIER_PORT,
    "web": WEB_PORT,
    "store": STORE_PORT,
    "squid": SQUID_PORT,
}
"""name -> port on ADDRESS of everything that pilots and payloads reach."""
STRATUM1 = f"http://{ADDRESS}:{STRATUM1_PORT}"
HTCONDOR = "condor.tar.gz"
"""On the web server: what pilots download."""
STORE = f"https://{ADDRESS}:{STORE_PORT}"
STORE_FOLDER = "/srv/store"
PAYLOAD_NAME = "payload"
"""Common name of the payloads' certificate."""
CREDENTIAL = f"/home/{global_pool.USER}/x509"
"""On `outside`, where payloads are submitted."""
CA_FOLDER = "/etc/grid-security/certificates"
"""On the worker nodes."""
_WEB_FOLDER, _IMAGES, _KEYS = "/srv/web", "/srv/stratum1", "/srv/keys"
_LOADER = "/lib64/ld-linux-x86-64.so.2"


@dataclass(frozen=True)
class Home:
    """What tests look at.

    Attributes:
        squid: a web proxy there, for sites whose egress proxy is none.
        store: the storage element.
    """

    lab: Lab
    squid: Squid
    store: Daemon

    def stored(self, name: str) -> str:
        """A file that a payload has brought to the store."""
        return self.lab.run(HOST, ["cat", f"{STORE_FOLDER}/{name}"], check=False).stdout

    def publish(self, archive: str) -> None:
        """Put an entry's archive on the web server, as a factory does."""
        send_tree(self.lab, ("factory", ARCHIVES), (HOST, _WEB_FOLDER), [archive])

    def asked_to_go(self, name: str) -> int:
        """How often a waiting payload has asked whether it may go on."""
        return self.store.log().count(f'"GET /go-{name} ')

    def let_go(self, name: str) -> None:
        """Have a waiting payload go on."""
        self.lab.write_file(HOST, f"{STORE_FOLDER}/go-{name}", "", USER)


def web_url(name: str, host: str = WEB_SERVER) -> str:
    """URL of a file on the web server."""
    return f"http://{host}:{WEB_PORT}/{name}"


def start_home(lab: Lab, maker: str, workers: tuple[str, ...]) -> Home:
    """Start all of it; repositories are those that the stand-ins on host `maker` have, certificates go to `workers`."""
    _name(lab)
    global_pool.start(lab, way_out=False)
    send_tree(lab, (maker, f"{STANDINS}/repositories"), (HOST, _IMAGES))
    start_server(lab, "stratum1", str(STRATUM1_PORT), REPOSITORY, _IMAGES)
    start_server(lab, "frontier", str(FRONTIER_PORT))
    lab.host(HOST).make_dirs(_WEB_FOLDER, STORE_FOLDER, owner=USER)
    packing = 'sh "$1" "" "$2" | gzip -1 >"$3/condor.tar.gz"'
    lab.run(HOST, ["sh", "-c", packing, "sh", f"{SCRIPTS}/pack_htcondor.sh", _LOADER, _WEB_FOLDER])
    Daemon(lab, HOST, USER, "web", ["python3", "-m", "http.server", "-d", _WEB_FOLDER, str(WEB_PORT)]).start()
    squid = Squid(lab, HOST, "home-squid", ADDRESS, SQUID_PORT)
    squid.start()
    return Home(lab, squid, _start_store(lab, workers))


def _name(lab: Lab) -> None:
    """Give it names and an address of the Internet, which the egress proxy knows and reaches."""
    lab.run(HOST, ["ip", "address", "add", f"{PUBLIC_ADDRESS}/32", "dev", "eth0"])
    lab.run(EGRESS, ["ip", "route", "add", f"{PUBLIC_ADDRESS}/32", "dev", "eth0"])
    text = f"{lab.settings.etc_hosts(EGRESS)}{PUBLIC_ADDRESS} {POOL} {WEB_SERVER}\n"
    lab.write_file(EGRESS, "/etc/hosts", text)


def _start_store(lab: Lab, workers: tuple[str, ...]) -> Daemon:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = Authority(folder / "authority")
        authority.write_ca_folder(folder / "certificates")
        authority.write_credential(folder / "store.pem", "store", address=ADDRESS)
        authority.write_credential(folder / "x509", PAYLOAD_NAME)
        for worker in workers:
            bring_tree(lab, str(folder / "certificates"), (worker, CA_FOLDER))
        bring_tree(lab, str(folder), (HOST, _KEYS), ["store.pem", "authority/ca.pem"])
        lab.host(HOST).write_file(CREDENTIAL, (folder / "x509").read_text(), f"{global_pool.USER}:{USER}", 0o600)
    lab.run(HOST, ["chown", "-R", USER, _KEYS])
    program = f"{CHECKOUT_IN_HOST}/tests/pilot/standins/standin_store.py"
    argv = [str(STORE_PORT), f"{_KEYS}/store.pem", f"{_KEYS}/authority/ca.pem", STORE_FOLDER]
    store = Daemon(lab, HOST, USER, "store", ["python3", "-B", program, *argv])
    store.start()
    return store
