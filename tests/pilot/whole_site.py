# SPDX-License-Identifier: Apache-2.0
"""A site description that asks for everything pilots can get, and its plan as a stage area has it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.pilot.plan import EXECUTABLE, UNTAR, PilotFile, PilotPlan, pilot_plan
from glideinwms_bosco.pilot.scripts import default_scripts_dir
from glideinwms_bosco.site.load import load_site
from glideinwms_bosco.site.model import SiteDescription
from tests.pilot.certificates import Authority
from tests.pilot.stage_area import Item
from tests.pilot.standins.standin_frontier import SERVLET
from tests.unit.site_text import HOST_KEY
from tests.unit.siteconf_world import SMALLEST

REPOSITORY = "cms.cern.ch"
NO_TOOL = {"mode": "never", "image": "/project/site.sif", "sha256": "0" * 64}
"""Of a site whose nodes have no container tool: it is that of the last way to /cvmfs, which is not needed."""
OUTER = frozenset(("job_wrapper", "pilot_container"))
"""Started by the batch system, before there is a pilot."""


@dataclass(frozen=True)
class Servers:
    """Where pilots of the site find the world: `proxy` and `stratum1` are URLs, as is `frontier`."""

    proxy: str
    stratum1: str
    frontier: str


def shipped_distribution(source: Path, folder: Path, servers: Servers) -> Path:
    """A copy of a distribution as a factory has it: what is in its repositories comes from the stratum 1."""
    shutil.copytree(source, folder, symlinks=True)
    (folder / "dist" / "usr" / "repositories").unlink(missing_ok=True)
    settings = folder / "dist" / "etc" / "cvmfs" / "default.local"
    settings.write_text(f"STANDIN_SERVER={servers.stratum1}\n{settings.read_text()}")
    return folder


def whole_site(
    folder: Path,
    distribution: Path,
    servers: Servers,
    network: Optional[Mapping[str, Any]] = None,
    container: Mapping[str, Any] = NO_TOOL,
) -> SiteDescription:
    """Load a site whose runtime block has all there is.

    Args:
        folder: where its file and what it names are written.
        distribution: of cvmfsexec.
        servers: where its pilots find what they need.
        network: that block; without one workers reach the world by themselves.
        container: that of the runtime block.
    """
    folder.mkdir()
    Authority(folder / "authority").write_ca_folder(folder / "ca")
    runtime = {
        "cvmfs": {
            "repositories": [REPOSITORY],
            "rungs": ["native", "userns", "fusermount", "container"],
            "cvmfsexec": {"path": str(distribution)},
        },
        "web_proxies": {
            "proxies": [{"url": servers.proxy, "capacity": {"clients": 10}}],
            "test": {
                "cvmfs": f"{servers.stratum1}/cvmfs/{REPOSITORY}/.cvmfspublished",
                "frontier": f"{servers.frontier}/{SERVLET}",
            },
            "max_latency_ms": 5000,
        },
        "siteconf": dict(SMALLEST),
        "credentials": {"ca": ["shipped"], "ca_dir": str(folder / "ca"), "x509_required": True},
        "container": dict(container),
    }
    data = {
        "site": "T3_XX_Test",
        "trust_domain": "bosco.test",
        "login": {"host": "login.example.org", "host_keys": [HOST_KEY]},
        "accounts": [{"user": "pilot", "credential": "broker"}],
        "batch": {"system": "slurm", "queue": "normal"},
        "entries": [{"name": "Test_Entry", "cpus": 8, "memory_mb": 16000, "walltime": "48h"}],
        "runtime": runtime,
    }
    path = folder / "test.yaml"
    # JSON is YAML in which no text looks like a number.
    path.write_text(json.dumps({**data, "network": dict(network)} if network is not None else data))
    return load_site(path)[0]


def whole_plan(site: SiteDescription) -> PilotPlan:
    """Its plan, which has no error; storage outside may be out of reach here."""
    plan, problems = pilot_plan(site, default_scripts_dir())
    assert [problem for problem in problems if problem.severity == "error"] == []
    return plan


def scripts_of_pilots() -> set[str]:
    """All scripts there are for pilots, whatever a plan has."""
    return {path.name for path in default_scripts_dir().iterdir() if path.is_file()} - OUTER


def items(plan: PilotPlan) -> list[Item]:
    """Its files as lines of a file list."""
    return [_item(file) for file in plan.files]


def attributes(plan: PilotPlan) -> dict[str, str]:
    """Its attributes as the entry's constants."""
    return {attr.name: attr.value for attr in plan.attrs}


def _item(file: PilotFile) -> Item:
    # Source of the word: glideinWMS 3.10 creation/lib/cgWParamDict.py.
    kind = "exec" if file.kind == EXECUTABLE else file.kind
    assert (file.attribute is not None) == (file.kind == UNTAR)
    return Item(file.node_name, file.stored_content(), kind, file.period_s, file.attribute or "FALSE")
