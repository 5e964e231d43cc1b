# SPDX-License-Identifier: Apache-2.0
"""The Global Pool on host `outside`: collector, negotiator and a schedd of payloads behind one shared port, by token.

Workers get out through the login node, and nothing gets in to them: the pool reaches pilots through CCB, as it does
everywhere.
"""

from __future__ import annotations

from tests.lab.lab import Lab
from tests.lab.personal_condor import PLACES
from tests.lab.process import wait_for
from tests.lab.settings import BASE_HOSTS, CLUSTER, HOSTS

HOST = "outside"
USER = "factory"
"""Account on `outside` whose jobs are the payloads."""
HOME = f"/home/{USER}/pool"
CONFIG = f"{HOME}/condor_config"
TRUST_DOMAIN = "lab-pool"
ENV = {"CONDOR_CONFIG": CONFIG}
READY_DEADLINE_S = 40.0

# The intervals are short because tests wait for them.
_CONFIG = """\
CONDOR_HOST=outside
NETWORK_INTERFACE={address}
COLLECTOR_NAME=lab-pool
TRUST_DOMAIN={domain}
DAEMON_LIST=MASTER,COLLECTOR,NEGOTIATOR,SCHEDD
SEC_TOKEN_POOL_SIGNING_KEY_FILE=$(LOCAL_DIR)/passwords.d/POOL
SEC_DEFAULT_AUTHENTICATION_METHODS=FS,IDTOKENS
use security:recommended_v9_0
SEC_DEFAULT_ENCRYPTION=REQUIRED
ALLOW_DAEMON=pilot@{domain} {user}@*
ALLOW_ADVERTISE_STARTD=pilot@{domain}
ALLOW_ADVERTISE_MASTER=pilot@{domain} {user}@*
ALLOW_ADMINISTRATOR={user}@*
ALLOW_NEGOTIATOR={user}@*
ALLOW_READ=*
DELEGATE_JOB_GSI_CREDENTIALS=False
RECONNECT_BACKOFF_CEILING=4
NEGOTIATOR_INTERVAL=2
NEGOTIATOR_CYCLE_DELAY=1
NEGOTIATOR_MIN_INTERVAL=1
SCHEDD_INTERVAL=2
SCHEDD_MIN_INTERVAL=1
"""
_PREPARE = """\
umask 077
mkdir -p pool jobs
cd pool
mkdir log spool lock run execute cred passwords.d tokens.d
head -c 32 /dev/urandom >passwords.d/POOL
"""
_WAY_OUT = """\
table ip lab_pool {{
  chain postrouting {{
    type nat hook postrouting priority srcnat
    oifname "{device}" masquerade
  }}
}}
"""


def start(lab: Lab, way_out: bool = True) -> None:
    """Start the pool and open the workers' way to it.

    Args:
        way_out: False at a closed site, whose login node passes nothing on.

    Raises:
        LabError: it does not know its schedd in time; with the end of the master's log.
    """
    host = lab.host(HOST)
    host.sh(_PREPARE, user=USER)
    address = BASE_HOSTS[HOST].links[0].address
    text = (PLACES + _CONFIG).format(folder=HOME, address=address, domain=TRUST_DOMAIN, user=USER)
    host.write_file(CONFIG, text, f"{USER}:{USER}")
    host.run(["condor_master", "-pidfile", f"{HOME}/run/master.pid"], user=USER, env=ENV)
    if way_out:
        _open_way(lab)

    def ready() -> bool:
        known = host.run(["condor_status", "-any", "-af", "MyType"], user=USER, env=ENV, check=False).stdout.split()
        return {"Scheduler", "Negotiator"} <= set(known)

    wait_for("Global Pool", ready, READY_DEADLINE_S, lambda: host.read_file(f"{HOME}/log/MasterLog"))


def token(lab: Lab) -> str:
    """A fresh token for pilots."""
    argv = ["condor_token_create", "-identity", f"pilot@{TRUST_DOMAIN}", "-lifetime", "3600"]
    return lab.run(HOST, argv, user=USER, env=ENV).stdout


def _open_way(lab: Lab) -> None:
    """Have the login node pass on what workers begin."""
    device = next(link.device for link in HOSTS["login"].links if link.bridge != CLUSTER)
    lab.run("login", ["nft", "-f", "-"], input=_WAY_OUT.format(device=device))
    lab.run("login", ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
