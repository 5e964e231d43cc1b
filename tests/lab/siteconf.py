# SPDX-License-Identifier: Apache-2.0
"""The SITECONF of the lab's sites: a `siteconf` block, the near site it refers to, and how payloads read all of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from tests.lab.lab import Lab
from tests.lab.settings import BASE_HOSTS
from tests.pilot.standins.standin_frontier import SERVLET

CMS_SITE, NEAR_SITE = "T3_XX_Lab", "T2_XX_Near"
FRONTIER = f"http://{BASE_HOSTS['outside'].links[0].address}:8001/{SERVLET}"
BACKUP_PROXY = f"http://{BASE_HOSTS['outside'].links[0].address}:3128"
_NEAR_FOLDER = f"/srv/siteconf/{NEAR_SITE}"
"""On the factory."""
_PREFIX = "root://near.example.org//store"
_STORAGE = [
    {
        "site": NEAR_SITE,
        "volume": "Near_Store",
        "protocols": [{"protocol": "XRootD", "access": "global-rw", "prefix": _PREFIX}],
        "type": "DISK",
        "rse": NEAR_SITE,
        "fts": [],
    }
]
READ = f"""\
echo "$SITECONFIG_PATH" && cat "$SITECONFIG_PATH/JobConfig/site-local-config.xml" && echo && \
cat "$SITECONFIG_PATH/../{NEAR_SITE}/storage.json\""""
"""A payload's script: prints the path and what it finds there, see read_back."""


def block(backup_proxies: Sequence[str] = (BACKUP_PROXY,)) -> dict[str, Any]:
    """A `siteconf` block whose payloads read and write at the near site."""
    near = {"site": NEAR_SITE, "volume": "Near_Store", "protocol": "XRootD"}
    return {
        "site": CMS_SITE,
        "data_access": [near],
        "stage_out": [near],
        "siblings": {NEAR_SITE: _NEAR_FOLDER},
        "frontier": {"servers": [FRONTIER], "backup_proxies": list(backup_proxies)},
    }


def provide_sibling(lab: Lab) -> None:
    """Put the near site's part of a SITECONF on the factory."""
    lab.run("factory", ["mkdir", "-p", _NEAR_FOLDER])
    lab.write_file("factory", f"{_NEAR_FOLDER}/storage.json", json.dumps(_STORAGE))


def frontier_of(xml: str) -> dict[str, list[str]]:
    """URLs of the Frontier connection by element, of the lab's own site-local-config.xml."""
    site = ElementTree.fromstring(xml).find("site")  # noqa: S314 # the pilot's own
    assert site is not None and site.get("name") == CMS_SITE, xml
    return {
        name: [element.get("url", "") for element in site.iterfind(f"calib-data/frontier-connect/{name}")]
        for name in ("proxy", "backupproxy", "server")
    }


def read_back(said: str) -> tuple[str, str]:
    """The path and all of the contents, with SITECONF in place of the path to the tree, of what READ has printed.

    Raises:
        AssertionError: it is not the lab's SITECONF.
    """
    path, _, text = said.partition("\n")
    xml, _, storage = text.rpartition("</site-local-config>\n")
    assert frontier_of(xml + "</site-local-config>")["server"] == [FRONTIER]
    assert _PREFIX in storage
    return path, text.replace(path.rpartition("/")[0], "SITECONF")
