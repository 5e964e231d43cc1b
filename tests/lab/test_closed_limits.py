# SPDX-License-Identifier: Apache-2.0
"""A crowd at the login node of a closed site: sshd's limits hold, and everybody gets through.

The pilots' program is one condor_advertise: a machine ad of their own reaches the Global Pool through tunnel and egress
proxy, as a startd's would, without a hundred startds on this machine. First they are batch jobs under the job wrapper,
and those of a node share its tunnel; then each has a tunnel of its own, as if it were alone on its node.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from glideinwms_bosco.pilot.scripts import default_scripts_dir, pack_script, read_sources
from tests.lab import global_pool
from tests.lab.closed_home import ADDRESS, FORWARDS
from tests.lab.closed_site import LIBRARY
from tests.lab.lab import Lab
from tests.lab.pilots import ACCOUNT, HTCONDOR, SCRIPTS, SHARED, provide_htcondor, provide_token, send_tree
from tests.lab.settings import WORKERS
from tests.lab.sshd import LOG
from tests.lab.tunnel_site import TunnelSite, bring_tunnel_site, closed_lab
from tests.lab.waiting import await_true

KIND = "http-connect"
CROWD = 100
LISTENS = "Server listening on 0.0.0.0"
START_S = 10
"""All pilots have started within this time."""
USUAL = """\
MaxStartups 10:30:60
MaxSessions 1
PerSourcePenalties yes
"""
"""As centres set them."""
TRIES = 8
"""Connections that a node may begin until it is through, on average: its pauses grow."""
FEW = 8
"""Logins under way at which sshd turns everybody away, where even a slow crowd meets its limit."""
TIGHT = USUAL.replace("10:30:60", f"2:50:{FEW}")
FOLDER = f"{SHARED}/crowd"
JOIN_DEADLINE_S = 60.0
END_DEADLINE_S = 60.0
_JOIN = """\
#!/bin/bash
# Join the pool once, by the name of $1.
printf '%s\\n' 'MyType="Machine"' "Name=\\"$1\\"" "Machine=\\"$(uname -n)\\"" \\
    "Tunnel=\\"$GWMS_BOSCO_EGRESS_DIR\\"" 'State="Unclaimed"' 'Activity="Idle"' 'MyAddress="<127.0.0.1:9>"' \\
    >"{folder}/$1.ad"
LD_LIBRARY_PATH={htcondor}/lib CONDOR_CONFIG={folder}/condor_config \\
    exec "{folder}/condor_advertise" -tcp UPDATE_STARTD_AD "{folder}/$1.ad"
"""
_PILOT = """\
#!/bin/bash
# Stay until told to end.
{folder}/join "job-$SLURM_ARRAY_TASK_ID" || exit 1
until [ -e "{folder}/end" ]; do sleep 0.5; done
"""
_CONFIG = """\
RELEASE_DIR={htcondor}
COLLECTOR_HOST={address}:{port}
SEC_TOKEN_DIRECTORY={folder}/tokens.d
SEC_TOKEN_SYSTEM_DIRECTORY={folder}/tokens.d
SEC_DEFAULT_AUTHENTICATION_METHODS=IDTOKENS
use security:recommended_v9_0
SEC_DEFAULT_ENCRYPTION=REQUIRED
TRUST_DOMAIN={domain}
"""
_JOB = """\
#!/bin/sh
#SBATCH --output={folder}/%a.out
date +%s >{folder}/$SLURM_ARRAY_TASK_ID.began
exec {bundle}/job_wrapper {folder}/pilot
"""


@dataclass(frozen=True)
class SshdLog:
    """What the login node's sshd has written since a moment.

    Attributes:
        accepted: logins.
        under_way: for connections turned away before the login, how many logins were under way then.
        dropped: how many were turned away; at least.
        text: all of it.
    """

    accepted: int
    under_way: tuple[int, ...]
    dropped: int
    text: str


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with closed_lab() as made:
        yield made


@pytest.fixture(scope="module")
def site(lab: Lab) -> TunnelSite:
    return bring_tunnel_site(lab, KIND, ["pool"])


def limit(lab: Lab, text: str) -> None:
    """Give the login node's sshd limits: it takes the first value it meets."""
    host = lab.host("login")
    host.write_file("/etc/ssh/sshd_config.d/05-limits.conf", text)
    starts = host.read_file(LOG).count(LISTENS)
    host.sh('kill -HUP "$(cat /run/sshd.pid)"')
    await_true(lambda: host.read_file(LOG).count(LISTENS) > starts, "sshd has read its limits", 10.0)


def log_size(lab: Lab) -> int:
    return int(lab.run("login", ["stat", "-c", "%s", LOG]).stdout)


def log_since(lab: Lab, size: int) -> SshdLog:
    text = lab.run("login", ["tail", "-c", f"+{size + 1}", LOG]).stdout
    dropped = re.findall(r"^drop connection #([0-9]+) from .* Max[Ss]tartups", text, re.MULTILINE)
    # It does not log each one when there are many.
    more = re.findall(r"logging rate-limited: additional ([0-9]+) connections dropped", text)
    return SshdLog(
        text.count("Accepted publickey for "), tuple(map(int, dropped)), len(dropped) + sum(map(int, more)), text
    )


def connections(lab: Lab) -> int:
    """Established connections of workers to the login node's sshd."""
    return len(lab.run("login", ["ss", "-Htn", "state", "established", "sport = :22"]).stdout.splitlines())


def left(lab: Lab) -> str:
    """What is still there of tunnels and pilots."""
    script = "pgrep -a -u pilot; ls -d /tmp/gwms-bosco-egress-* /tmp/tmp.* 2>/dev/null"
    return "".join(lab.run(worker, ["sh", "-c", script], check=False).stdout for worker in WORKERS)


@pytest.fixture(scope="module")
def crowded(lab: Lab, site: TunnelSite) -> TunnelSite:
    """The site, with the pool and what a crowd runs on the shared folder."""
    global_pool.start(lab, way_out=False)
    provide_htcondor(lab)
    token = provide_token(lab)
    send_tree(lab, (global_pool.HOST, "/usr/sbin"), ("login", FOLDER), ["condor_advertise"])
    host = lab.host("login")
    host.make_dirs(FOLDER, owner=ACCOUNT)
    host.make_dirs(f"{FOLDER}/tokens.d", owner=ACCOUNT, mode=0o700)
    host.run(["cp", "-p", token, f"{FOLDER}/tokens.d/pool"])
    words = {
        "folder": FOLDER, "bundle": site.bundle, "htcondor": HTCONDOR, "address": ADDRESS,
        "port": FORWARDS["pool"], "domain": global_pool.TRUST_DOMAIN,
    }  # fmt: skip
    host.write_file(f"{FOLDER}/condor_config", _CONFIG.format(**words))
    for name, text in (("join", _JOIN), ("pilot", _PILOT)):
        host.write_file(f"{FOLDER}/{name}", text.format(**words), mode=0o755)
    host.write_file(f"{FOLDER}/job", _JOB.format(**words))
    return site


def joined(lab: Lab, kind: str) -> dict[str, str]:
    """Names of pilots in the pool, which begin with that word, and their tunnels' folders on the node."""
    argv = ["condor_status", "-af", "Name", "Tunnel"]
    lines = lab.run(global_pool.HOST, argv, user=global_pool.USER, env=global_pool.ENV).stdout.splitlines()
    found = dict(line.split() for line in lines if line.startswith(f"{kind}-"))
    assert all("/gwms-bosco-egress-" in tunnel for tunnel in found.values()), found
    return found


@pytest.mark.usefixtures("crowded")
def test_hundred_pilots_share_one_connection_per_node(lab: Lab) -> None:
    limit(lab, USUAL)
    size = log_size(lab)
    lab.run("login", ["sbatch", f"--array=1-{CROWD}", f"{FOLDER}/job"], user=ACCOUNT)
    try:
        await_true(lambda: len(joined(lab, "job")) == CROWD, f"{CROWD} pilots in the pool", JOIN_DEADLINE_S)
        assert connections(lab) == len(WORKERS)
    finally:
        lab.run("login", ["touch", f"{FOLDER}/end"])
    began = [int(word) for word in lab.run("login", ["sh", "-c", f"cat {FOLDER}/*.began"]).stdout.split()]
    assert max(began) - min(began) <= START_S
    await_true(lambda: left(lab) == "" and connections(lab) == 0, "nothing is left", END_DEADLINE_S)
    log = log_since(lab, size)
    assert (log.accepted, log.dropped) == (len(WORKERS), 0), log.text
    said = lab.run("login", ["sh", "-c", f"cat {FOLDER}/*.out"]).stdout.splitlines()
    assert [line for line in said if not line.startswith("Sent 1 of 1 ad")] == []


def test_hundred_nodes_join_when_sshd_turns_some_away(lab: Lab, crowded: TunnelSite) -> None:
    tunnel = pack_script("lib/tunnel.sh", read_sources(default_scripts_dir())).decode()
    lab.write_file("login", f"{SHARED}/tunnel", tunnel)
    limit(lab, TIGHT)
    size = log_size(lab)
    argv = ["bash", f"{SCRIPTS}/many_nodes.sh", f"{SHARED}/tunnel", f"{crowded.bundle}/egress.conf", str(CROWD // 2)]
    argv += [LIBRARY, f"{FOLDER}/join"]
    nodes = [lab.popen(worker, argv, user=ACCOUNT, stdin=subprocess.PIPE) for worker in WORKERS]
    said = [node.stdout.readline() for node in nodes if node.stdout for _ in range(CROWD // 2)]
    up, members = connections(lab), joined(lab, "node")
    errors = [node.communicate(timeout=END_DEADLINE_S)[1] for node in nodes]
    assert [line for line in said if not line.startswith("joined ")] == [], errors
    began = [int(line.split()[1]) for line in said]
    assert max(began) - min(began) <= START_S
    assert len(members) == len(set(members.values())) == CROWD
    log = log_since(lab, size)
    assert 0 < log.dropped <= CROWD * TRIES, "nobody was turned away, so this shows nothing; or all try too often"
    assert max(log.under_way) <= FEW
    assert up == CROWD
    # Fifty nodes on one worker share its ports: whose port was taken since he looked logs in again.
    assert CROWD <= log.accepted <= CROWD + CROWD // 10
    assert "penalty" not in log.text
    await_true(lambda: left(lab) == "" and connections(lab) == 0, "nothing is left", END_DEADLINE_S)
