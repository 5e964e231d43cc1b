# SPDX-License-Identifier: Apache-2.0
"""The factory host: a personal HTCondor (collector and schedd) of user `factory`, and the product's command."""

from __future__ import annotations

from tests.lab.host import Host
from tests.lab.personal_condor import PLACES
from tests.lab.process import wait_for
from tests.lab.settings import BASE_HOSTS, CHECKOUT_IN_HOST, FACTORY_CONDOR_CONFIG

HOME = "/home/factory"
MASTER_LOG = f"{HOME}/condor/log/MasterLog"
PID_FILE = f"{HOME}/condor/run/master.pid"
READY_DEADLINE_S = 40.0
USER = "factory"

# The intervals at the end are short because tests wait for them; everything else is as on a factory.
# `config.d` is there for the knobs that the product or a test adds.
_CONFIG = """\
LOCAL_CONFIG_DIR=$(LOCAL_DIR)/config.d
CONDOR_HOST=factory
NETWORK_INTERFACE={address}
COLLECTOR_NAME=factory-pool
DAEMON_LIST=MASTER,COLLECTOR,SCHEDD
SEC_DEFAULT_AUTHENTICATION_METHODS=FS
use security:recommended_v9_0
ALLOW_ADMINISTRATOR=factory@*
GRIDMANAGER_LOG=$(LOG)/GridmanagerLog
GRIDMANAGER_DEBUG=D_FULLDEBUG D_SECURITY:1
GRIDMANAGER_CHECKPROXY_INTERVAL=600
GRIDMANAGER_RESOURCE_PROBE_INTERVAL=10
GRIDMANAGER_RESOURCE_PROBE_DELAY=5
GRIDMANAGER_CONTACT_SCHEDD_DELAY=1
GRIDMANAGER_JOB_PROBE_INTERVAL=2
SCHEDD_INTERVAL=5
"""
_LAUNCHER = """\
#!/bin/sh
export PYTHONPATH={checkout} PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -m glideinwms_bosco.cli.main "$@"
"""
_DIRS = ("config.d", "log", "spool", "lock", "run", "execute", "cred", "passwords.d", "tokens.d")


def start(host: Host) -> None:
    """Write configuration and launcher, start HTCondor; wait_ready waits for it."""
    config = (PLACES + _CONFIG).format(folder=f"{HOME}/condor", address=BASE_HOSTS["factory"].links[0].address)
    host.write_file(FACTORY_CONDOR_CONFIG, config)
    host.write_file("/etc/profile.d/lab-condor.sh", f"export CONDOR_CONFIG={FACTORY_CONDOR_CONFIG}\n")
    host.write_file("/usr/local/bin/gwms-bosco", _LAUNCHER.format(checkout=CHECKOUT_IN_HOST), mode=0o755)
    host.sh('mkdir -p condor jobs; cd condor; mkdir "$@"; chmod 700 cred passwords.d tokens.d', *_DIRS, user=USER)
    host.run(["condor_master", "-pidfile", PID_FILE], user=USER)


def wait_ready(host: Host) -> None:
    """Wait until the collector knows the schedd.

    Raises:
        LabError: at the deadline; with the end of the master's log.
    """

    def ready() -> bool:
        known = host.run(["condor_status", "-schedd", "-af", "Name"], user=USER, check=False)
        return known.returncode == 0 and bool(known.stdout.strip())

    wait_for("HTCondor on factory", ready, READY_DEADLINE_S, lambda: host.read_file(MASTER_LOG))
