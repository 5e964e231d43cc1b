# SPDX-License-Identifier: Apache-2.0
"""Sites whose pilots run for real: stand-ins for CVMFS on the nodes, site files with runtime blocks, their entries."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lab import global_pool, siteconf
from tests.lab.lab import Lab
from tests.lab.operator import USER, add_site, gwms_bosco
from tests.lab.pilots import (
    CONTRACT,
    SCRATCH,
    SCRIPTS,
    STANDINS,
    PilotEntry,
    bring_entry,
    bring_tree,
    provide_htcondor,
    provide_token,
    send_tree,
)
from tests.lab.settings import CHECKOUT, CHECKOUT_IN_HOST, WORKERS
from tests.lab.sites import LabSite

REPOSITORY = "cms.cern.ch"
HELLO = f"/cvmfs/{REPOSITORY}/hello"
GREETING = f"hello from a stand-in of {REPOSITORY}\n"
DISTRIBUTION = "/srv/standins/cvmfsexec"
"""As the factory sees it."""
PARROT = f"{STANDINS}/parrot/parrot_run"
IMAGE = f"{STANDINS}/site.sif"
IMAGES = f"{SCRATCH}/images"
"""Of pilots' caches."""
MAKER, APPTAINER = "node-plain", "node-apptainer"
REAL_DISTRIBUTION, REAL_PARROT = "/srv/real-cvmfsexec", "/shared/real-parrot"
GLIDEINWMS_SRC = os.environ.get("GLIDEINWMS_SRC", "")
CVMFSEXEC_DIST = os.environ.get("CVMFSEXEC_DIST", "")
CVMFSEXEC_SCRIPTS = os.environ.get("CVMFSEXEC_SCRIPTS") or CVMFSEXEC_DIST
"""A checkout of cvmfsexec, or a distribution made with it: its real scripts run over the stand-in client."""
PARROT_RUN = os.environ.get("PARROT_RUN", "")

_CVMFSEXEC = ("cvmfsexec", "mountrepo", "umountrepo", "singcvmfs")
_CONTRACT = CHECKOUT / "tests" / "pilot" / "contract"
RENDERED = f"/home/{USER}/rendered"
_CE_FILE = "/srv/standins/10-ce.xml"
_CE_ENTRY = "Lab_ce"
_CE_OWN = "/srv/standins/own.sh"
# An entry of somebody else, with a script of its own that counts on what ours leave.
_CE = f"""\
<glidein><entries>
  <entry name="{_CE_ENTRY}" gatekeeper="ce.example.org ce.example.org:9619" gridtype="condor" trust_domain="grid"
         auth_method="scitoken" work_dir="Condor">
    <config><submit><submit_attrs><submit_attr name="+xcount" value="8"/></submit_attrs></submit></config>
    <attrs><attr name="GLIDEIN_Site" value="CE"/></attrs>
    <files><file absfname="{_CE_OWN}" executable="True"/></files>
  </entry>
</entries></glidein>
"""
_OWN_SCRIPT = """\
#!/bin/bash
grep -q '^GWMS_BOSCO_CVMFS userns' "$1" || exit 1
$(grep '^ERROR_GEN_PATH ' "$1" | cut -d ' ' -f 2) -ok own.sh
"""


def _cvmfs(**more: Any) -> dict[str, Any]:
    return {"repositories": [REPOSITORY], "cvmfsexec": {"path": DISTRIBUTION}, **more}


def _runtimes(image_sha256: str) -> dict[str, dict[str, Any]]:
    contained = {"mode": "payload", "image": IMAGE, "sha256": image_sha256, "nested": False}
    described = siteconf.block()
    real: dict[str, dict[str, Any]] = {}
    if CVMFSEXEC_DIST:
        real["realdist"] = {"cvmfs": _cvmfs(rungs=["userns"], cvmfsexec={"path": REAL_DISTRIBUTION})}
    if PARROT_RUN:
        real["realparrot"] = {"cvmfs": _cvmfs(rungs=["parrot"], parrot=f"{REAL_PARROT}/{Path(PARROT_RUN).name}")}
    return {
        **real,
        "all": {"cvmfs": _cvmfs(parrot=PARROT), "siteconf": described},
        "noparrot": {"cvmfs": _cvmfs()},
        "fusermount": {"cvmfs": _cvmfs(rungs=["fusermount"]), "siteconf": described},
        "contained": {"cvmfs": _cvmfs(), "container": contained, "siteconf": described},
        "imaged": {"cvmfs": _cvmfs(cache=f"image:{IMAGES}", quota_mb=500), "siteconf": described},
        "lenient": {"cvmfs": _cvmfs(required=False), "payload": {"cvmfs": "on-request"}},
    }


def prepare_pool(lab: Lab) -> None:
    """Bring up the Global Pool, and what every pilot needs to join it."""
    global_pool.start(lab)
    provide_htcondor(lab)
    provide_token(lab)
    bring_tree(lab, f"{GLIDEINWMS_SRC}/creation/web_base" if GLIDEINWMS_SRC else str(_CONTRACT), ("factory", CONTRACT))


def prepare(lab: Lab) -> Mapping[str, PilotEntry]:
    """Bring up the stand-ins and the sites; dict name of a runtime block -> entry; `ce`: somebody else's.

    The site `all` is for the login node's Slurm as well: `pilot-all`, deployed by whoever submits through it.
    """
    for node in (MAKER, APPTAINER):
        lab.ensure(node)
    for worker in WORKERS:
        lab.run(worker, ["sh", f"{SCRIPTS}/node_faults.sh", "open-fuse"])
    lab.run(MAKER, ["bash", f"{SCRIPTS}/make_standins.sh", f"{CHECKOUT_IN_HOST}/tests/pilot/standins", STANDINS])
    lab.run(APPTAINER, ["bash", f"{CHECKOUT_IN_HOST}/tests/pilot/make_image.sh", IMAGE])
    if CVMFSEXEC_SCRIPTS:
        bring_tree(lab, CVMFSEXEC_SCRIPTS, (MAKER, f"{STANDINS}/cvmfsexec"), _CVMFSEXEC)
    send_tree(lab, (MAKER, f"{STANDINS}/cvmfsexec"), ("factory", DISTRIBUTION))
    if CVMFSEXEC_DIST:
        bring_tree(lab, CVMFSEXEC_DIST, ("factory", REAL_DISTRIBUTION))
    if PARROT_RUN:
        bring_tree(lab, str(Path(PARROT_RUN).parent), ("login", REAL_PARROT))
    return _entries(lab)


def site_file(lab: Lab, name: str) -> tuple[str, str]:
    """Name and text of the site file with that runtime block."""
    sha256 = lab.run(APPTAINER, ["sha256sum", IMAGE]).stdout.split()[0]
    site = json.loads(LabSite(f"pilot-{name}").text(lab))
    return f"pilot-{name}", json.dumps({**site, "runtime": _runtimes(sha256)[name]})


def _external_site() -> str:
    entry = {"name": _CE_ENTRY, "file": _CE_FILE}
    runtime = {"cvmfs": _cvmfs()}
    return json.dumps({"site": "CE", "submission": "external", "entries": [entry], "runtime": runtime})


def _entries(lab: Lab) -> dict[str, PilotEntry]:
    """Render into a folder of our own: config.d is other tests' as well."""
    lab.write_file("factory", _CE_OWN, _OWN_SCRIPT, mode=0o755)
    lab.write_file("factory", _CE_FILE, _CE, USER)
    siteconf.provide_sibling(lab)
    found = {f"pilot-{name}": f"Lab_pilot-{name}" for name in _runtimes("0" * 64)}
    for name in found:
        add_site(lab, *site_file(lab, name.partition("-")[2]))
    add_site(lab, "pilot-ce", _external_site())
    found["pilot-ce"] = _CE_ENTRY
    lab.run("factory", ["mkdir", "-p", RENDERED], user=USER)
    gwms_bosco(lab, "entry", "render", "--output", RENDERED, *found)
    return {
        name.partition("-")[2]: bring_entry(lab, f"{RENDERED}/50-{name}.xml", entry) for name, entry in found.items()
    }
