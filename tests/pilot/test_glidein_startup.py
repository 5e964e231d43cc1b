# SPDX-License-Identifier: Apache-2.0
"""A site's whole plan under the real glidein_startup.sh: from the download to payloads and to the end of the pilot."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.egress.conf import JOB_WRAPPER, bundle_files
from glideinwms_bosco.entry.render import TUNNEL_PROXY
from glideinwms_bosco.pilot.plan import EXECUTABLE, PilotPlan
from glideinwms_bosco.pilot.scripts import default_scripts_dir, pack_script, read_sources
from glideinwms_bosco.site.model import SiteDescription
from tests.pilot import stage_area, test_container, test_job_wrapper, tunnel_world, web_world
from tests.pilot.harness import GLIDEINWMS_SRC
from tests.pilot.job_wrapper import composing_script, main_variables
from tests.pilot.node import UID, Faults, Node
from tests.pilot.stage_area import ENTRY, StageArea
from tests.pilot.test_cvmfs_traps import wait_until
from tests.pilot.test_job_wrapper import PRELOAD, ContainedSite
from tests.pilot.tunnel_world import EGRESS, LOGINS, PAGE
from tests.pilot.whole_site import (
    NO_TOOL,
    REPOSITORY,
    Servers,
    attributes,
    items,
    scripts_of_pilots,
    shipped_distribution,
    whole_plan,
    whole_site,
)
from tests.unit.pilot_world import make_distribution

glideinwms = pytest.mark.skipif(not GLIDEINWMS_SRC, reason="GLIDEINWMS_SRC names no checkout of glideinWMS")
world = test_job_wrapper.world
image, debian = test_container.image, test_container.debian
MakeNode = Callable[..., Node]
HELLO = f"/cvmfs/{REPOSITORY}/hello"
OUTSIDE = "10.78.0.31"
WEB_PORT, STRATUM1_PORT, FRONTIER_PORT = 8000, 8001, 8002
STANDINS = Path(__file__).with_name("standins")
NETWORK = {
    "login_hosts": [LOGINS[0]],
    "workers": ["10.78.1.0/24"],
    "exit_addresses": ["10.78.0.0/24"],
    "tunnel": {"auth": "existing", "existing_key": "key"},
    "egress": {"kind": "http-connect", "host": EGRESS, "port": 80},
    "forwards": [
        {"name": "pool", "host": OUTSIDE, "port": WEB_PORT},
        {"name": "stratum1", "host": OUTSIDE, "port": STRATUM1_PORT},
        {"name": "frontier", "host": OUTSIDE, "port": FRONTIER_PORT},
    ],
    "web_proxy": "egress",
    "preload": [PRELOAD],
}
NO_PROXY = "http://10.78.1.99:3128"
"""The closed site's own, of which the file says that workers reach it; that of the tunnel comes first."""
EGRESS_SCRIPTS = {"egress_setup", "egress_check", "egress_wrapper.sh"}
# A pilot that fails sleeps for minutes first.
PILOT = ("timeout", "-s", "KILL", "50", "bash", "./glidein_startup.sh")
# In place of condor_startup.sh, whose lines that compose the job wrapper it runs: starts payloads by that wrapper, with
# the environment that HTCondor gives to jobs and no other, and the periodic scripts as the startd would; tells what it
# found.
LAST_SCRIPT = """#!/bin/bash
cat >main_vars.lst <<'VARIABLES'
{variables}
VARIABLES
cp main/condor_vars.lst condor_vars.lst
cat >compose.sh <<'COMPOSE'
{compose}
COMPOSE
bash compose.sh "$PWD/wrapper_list.lst" || exit 1
mapfile -t environment < <(grep -oE "'[A-Za-z_0-9]+=[^']*'" job_env | tr -d "'")
payload() {{
    env -i PATH="$PATH" HOME="$PWD" "${{environment[@]}}" sh ./condor_job_wrapper.sh "$@"
}}
echo "payload: $(payload cat {hello})"
payload sh -c 'exit 42'
echo "payload's exit code: $?"
payload sh -c 'cat "$SITECONFIG_PATH/JobConfig/site-local-config.xml"; ls "$X509_CERT_DIR"'
payload sh -c 'echo "chain: ${{LD_PRELOAD:-none}}"'
program=$(sed -n 's/^STARTD_CRON_.*_EXECUTABLE = //p' condor_config_startd_cron_include | sort -u)
sed -n 's/^STARTD_CRON_.*_ARGS = //p' condor_config_startd_cron_include | while read -r words; do
    "$program" $words </dev/null | sed 's/^/periodic: /'
done
grep -E '^(GWMS_BOSCO|HAS_CVMFS|GLIDEIN_WRAPPER_EXEC|GLIDEIN_Entry_Start)' glidein_config
grep -hE '^(GWMS_BOSCO|HAS_CVMFS)' condor_vars.lst | sed 's/^/variable: /'
{then}
exit 0
"""

# Whoever ends the batch job signals all of the pilot's process group, also the processes that carry its own output: so
# the payload writes to a file.
KILLED = """
script='trap "cat {hello}; exit 0" TERM; echo waiting; while :; do sleep 0.05; done'
payload bash -c "$script" >{said} 2>&1 &
until grep -q waiting {said}; do sleep 0.05; done
trap : TERM
kill -TERM 0
wait
wait
"""
GET = """
get='exec 3<>/dev/tcp/{host}/{port} && printf "GET /page HTTP/1.0\\r\\n\\r\\n" >&3 && tail -n 1 <&3'
echo "outside: $(payload bash -c "$get")"
"""


def prepare(folder: Path, start: Path, plan: PilotPlan, then: str = "") -> StageArea:
    """Write the stage area and what the pilot's start folder has."""
    folder.mkdir()
    start.mkdir(exist_ok=True)
    area = StageArea(folder)
    last = LAST_SCRIPT.format(variables=main_variables(), compose=composing_script(), hello=HELLO, then=then)
    area.write(items(plan), attributes(plan), last)
    for place in (folder, start):
        # By the first of them the pilot tries its web proxy.
        (place / "glidein_startup.sh").write_bytes(stage_area.startup_script())
    for path in (start, start / "glidein_startup.sh"):
        os.chown(path, UID, UID)
    return area


def check(ended: subprocess.CompletedProcess[bytes], plan: PilotPlan, proxy: str) -> str:
    """What every pilot of the site does; returns its output."""
    out, err = ended.stdout.decode(), ended.stderr.decode()
    assert ended.returncode == 0, out + err[-4000:]
    wanted = [(file.name, str(file.period_s)) for file in plan.files if file.kind == EXECUTABLE]
    ran = re.findall(r"^=== validation OK in \S*/entry_\S+/(\S+) \((\d+)\) ===", err, re.MULTILINE)
    assert ran == [("cat_consts.sh", "0"), *wanted]
    assert "did not produce an XML file" not in out + err
    assert "payload: hello from a stand-in repository" in out
    assert "payload's exit code: 42" in out
    assert re.findall(r'<proxy url="([^"]*)"/>', out)[0] == proxy
    assert re.search(r"^[0-9a-f]{8}\.r0$", out, re.MULTILINE), "payloads find the CA directory"
    for said in (
        "GWMS_BOSCO_CVMFS_OK = True",
        f'GWMS_BOSCO_WEB_PROXY = "{proxy}"',
        'GWMS_BOSCO_WEB_PROXY_STATE = "main"',
    ):
        assert f"periodic: {said}\n" in out
    periodic = [name for name, period in wanted if period != "0"]
    assert re.findall(r"^periodic: (?:GLIDEIN_PS_)?LAST = \S*/(\w+)\"?$", out, re.MULTILINE) == periodic
    assert "FAILED" not in "".join(re.findall(r"^periodic: .*\n", out, re.MULTILINE))
    assert "HAS_CVMFS True" in out
    assert "variable: GWMS_BOSCO_CVMFS S - + N Y -" in out
    return out


def nothing_left(node: Node, start: Path) -> None:
    assert [path.name for path in start.iterdir()] == ["glidein_startup.sh"]
    nothing_mounted(node)


def nothing_mounted(node: Node) -> None:
    wait_until(lambda: node.run(["ls", "/tmp/gwms-bosco-2001"]).stdout == b"")
    assert b"/gwms_bosco/" not in node.run(["cat", "/proc/self/mountinfo"]).stdout
    listed = node.run(["ps", "-u", str(UID), "-o", "args="], user=0).stdout.decode()
    assert "cvmfs" not in listed


def test_every_script_is_in_the_plan(tmp_path: Path) -> None:
    """What pilots bring along is all that is tried here."""
    made = make_distribution(tmp_path / "distribution")
    servers = Servers(NO_PROXY, "http://127.0.0.1:8001", "http://127.0.0.1:8002")
    closed = {file.name for file in whole_plan(whole_site(tmp_path / "closed", made, servers, NETWORK)).files}
    opened = {file.name for file in whole_plan(whole_site(tmp_path / "open", made, servers)).files}
    archives = {"gwms_bosco_cvmfsexec", "gwms_bosco_ca", "gwms_bosco_siteconf"}
    assert closed == scripts_of_pilots() | archives
    assert opened == closed - EGRESS_SCRIPTS


@pytest.fixture
def web(make_node: MakeNode, tmp_path: Path, repositories: Path) -> Iterator[web_world.World]:
    """A node that reaches the world by itself."""
    with ExitStack() as stack:
        found = web_world.World(make_node(Faults()), tmp_path, stack)
        found.stratum1.folder = repositories
        yield found


def open_site(
    web: web_world.World, distribution: Path, container: Mapping[str, Any] = NO_TOOL
) -> tuple[PilotPlan, Servers]:
    stratum1, frontier = (f"http://127.0.0.1:{server.server_port}" for server in (web.stratum1, web.frontier))
    servers = Servers(web.proxy().url, stratum1, frontier)
    shipped = shipped_distribution(distribution, web.folder / "shipped", servers)
    return whole_plan(whole_site(web.folder / "site", shipped, servers, container=container)), servers


@glideinwms
def test_a_pilot_gets_all_there_is_and_leaves_nothing(web: web_world.World, distribution: Path, tmp_path: Path) -> None:
    plan, servers = open_site(web, distribution)
    start = tmp_path / "start"
    area = prepare(tmp_path / "web", start, plan)
    with stage_area.served(area.folder) as url:
        ended = web.node.run([*PILOT, *area.arguments(url)], cwd=start)
    out = check(ended, plan, servers.proxy)
    assert "GWMS_BOSCO_WEB_PROXY_SOURCE site\n" in out
    assert "chain: none\n" in out
    assert f"/cvmfs/{REPOSITORY}/data/image" in web.stratum1.requests
    nothing_left(web.node, start)


@glideinwms
def test_payloads_run_in_the_sites_image(
    debian: MakeNode, distribution: Path, repositories: Path, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        web = web_world.World(debian(), tmp_path, stack)
        web.stratum1.folder = repositories
        container = {"mode": "payload", "image": str(tmp_path / "site.sif"), "nested": False}
        container["sha256"] = hashlib.sha256((tmp_path / "site.sif").read_bytes()).hexdigest()
        plan, servers = open_site(web, distribution, container)
        start = tmp_path / "start"
        area = prepare(tmp_path / "web", start, plan, 'echo "image: $(payload cat /etc/standin-image)"')
        ended = web.node.run([*PILOT, *area.arguments(stack.enter_context(stage_area.served(area.folder)))], cwd=start)
        out = check(ended, plan, servers.proxy)
        assert "image: stand-in image\n" in out
        nothing_left(web.node, start)


@glideinwms
def test_term_reaches_the_payload_with_cvmfs_still_there(
    web: web_world.World, distribution: Path, tmp_path: Path
) -> None:
    plan, _ = open_site(web, distribution)
    said = tmp_path / "said"
    said.touch()
    os.chown(said, UID, UID)
    area = prepare(tmp_path / "web", tmp_path / "start", plan, KILLED.format(hello=HELLO, said=said))
    with stage_area.served(area.folder) as url:
        web.node.run([*PILOT, *area.arguments(url)], cwd=tmp_path / "start")
    wait_until(lambda: "hello from a stand-in repository" in said.read_text())
    nothing_mounted(web.node)


class ClosedSite(ContainedSite):
    """A worker that reaches its login node only, with the bundle that the site's description makes."""

    def install(self, site: SiteDescription) -> None:
        """Put what the job wrapper reads where the bundle has it."""
        packed = pack_script(JOB_WRAPPER, read_sources(default_scripts_dir()))
        for file in bundle_files(site, packed):
            (self.folder / file.path).write_bytes(file.content)
        (self.bundle / "known_hosts").write_text(f"{LOGINS[0]} {(self.folder / 'host_key.pub').read_text()}")


@glideinwms
def test_a_pilot_of_a_closed_site_gets_all_there_is(
    make_node: MakeNode, world: tunnel_world.World, distribution: Path, repositories: Path, tmp_path: Path
) -> None:
    """Started by the job wrapper: all of it, down to the payload's connection, goes through the tunnel."""
    world.squid(STRATUM1_PORT, FRONTIER_PORT)
    for script, port, words in (
        ("standin_stratum1.py", STRATUM1_PORT, [REPOSITORY, str(repositories)]),
        ("standin_frontier.py", FRONTIER_PORT, []),
    ):
        world.serve(["python3", str(STANDINS / script), f"{OUTSIDE}:{port}", *words], OUTSIDE, port)
    stratum1, frontier = (f"http://{OUTSIDE}:{port}" for port in (STRATUM1_PORT, FRONTIER_PORT))
    servers = Servers(NO_PROXY, stratum1, frontier)
    site = whole_site(
        tmp_path / "site", shipped_distribution(distribution, tmp_path / "shipped", servers), servers, NETWORK
    )
    plan = whole_plan(site)
    node = make_node()
    closed = ClosedSite(tmp_path, world, node)
    closed.install(site)
    start = closed.home / "sandbox"
    area = prepare(tmp_path / "web" / "stage", start, plan, GET.format(host=OUTSIDE, port=WEB_PORT))
    stage = f"http://{OUTSIDE}:{WEB_PORT}/stage"
    ended = closed.run(*PILOT, *area.arguments(stage), "-proxy", TUNNEL_PROXY)
    found = re.findall(r"^GWMS_BOSCO_WEB_PROXY (\S+)$", ended.stdout.decode(), re.MULTILINE)
    assert found, ended.stdout.decode() + ended.stderr.decode()[-4000:]
    out = check(ended, plan, found[0])
    assert found[0].startswith("http://127.0.0.1:")
    assert f"proxy_url         = '{found[0].removeprefix('http://')}'\n" in out
    fetched = re.findall(r" GET (\S+) ", (tmp_path / "squid/access.log").read_text())
    assert {f"{stage}/entry_{ENTRY}/{file.node_name}" for file in plan.files} <= set(fetched)
    assert "GWMS_BOSCO_WEB_PROXY_SOURCE egress\n" in out
    assert f"chain: {PRELOAD}\n" in out
    assert f"outside: {PAGE.decode()}" in out
    assert "periodic: GWMS_BOSCO_EGRESS_OK = True\n" in out
    assert "=!= False" in "".join(re.findall(r"^GLIDEIN_Entry_Start .*\n", out, re.MULTILINE))
    nothing_left(node, start)
    wait_until(lambda: closed.left == [])
