# SPDX-License-Identifier: Apache-2.0
"""A small SITECONF without any finding, that tests change in one place."""

from __future__ import annotations

from pathlib import Path

CONFIG, STORAGE, CATALOG, SIBLING = "config", "storage", "catalog", "sibling"
SITE = "T2_XX_Test"
_PATHS = {
    CONFIG: f"{SITE}/JobConfig/site-local-config.xml",
    STORAGE: f"{SITE}/storage.json",
    CATALOG: f"{SITE}/PhEDEx/storage.xml",
    SIBLING: "T1_XX_Fed/storage.json",
}
TEXTS = {
    CONFIG: """\
<site-local-config>
  <site name="T2_XX_Test">
    <event-data>
      <catalog url="trivialcatalog_file:/cvmfs/cms.cern.ch/SITECONF/local/PhEDEx/storage.xml?protocol=xrootd"/>
    </event-data>
    <data-access>
      <catalog volume="Disk" protocol="XRootD"/>
      <catalog site="T1_XX_Fed" volume="Federation" protocol="XRootD"/>
    </data-access>
    <local-stage-out>
      <command value="gfal2"/>
      <catalog url="trivialcatalog_file:/cvmfs/cms.cern.ch/SITECONF/T2_XX_Test/PhEDEx/storage.xml?protocol=davs"/>
      <phedex-node value="T2_XX_Test"/>
    </local-stage-out>
    <stage-out>
      <method volume="Disk" protocol="WebDAV"/>
    </stage-out>
    <calib-data>
      <frontier-connect>
        <load balance="proxies"/>
        <failover toserver="no"/>
        <proxy url="http://squid.example.org:3128"/>
        <backupproxy url="http://backup.example.org:3128"/>
        <server url="http://frontier.example.org:8000/FrontierInt"/>
      </frontier-connect>
    </calib-data>
    <source-config>
      <cache-min-free value="10"/>
    </source-config>
  </site>
</site-local-config>
""",
    STORAGE: """\
[
  {"site": "T2_XX_Test", "volume": "Disk", "type": "DISK", "rse": "T2_XX_Test",
   "protocols": [
     {"protocol": "XRootD", "access": "global-ro", "prefix": "root://se.example.org/"},
     {"protocol": "pnfs", "access": "virtual",
      "rules": [{"lfn": "/+(.*)", "pfn": "/pnfs/example.org/$1"}]},
     {"protocol": "WebDAV", "access": "global-rw",
      "rules": [{"lfn": "/+(.*)", "pfn": "davs://se.example.org:2880/$1", "chain": "pnfs"}]}
   ]}
]
""",
    CATALOG: """\
<storage-mapping>
  <lfn-to-pfn protocol="xrootd" path-match="/+store/(.*)" result="root://fed.example.org//store/$1"/>
  <lfn-to-pfn protocol="direct" path-match="/+(.*)" result="/pnfs/$1"/>
  <lfn-to-pfn protocol="davs" path-match="(.*)" result="davs://se.example.org:2880$1" chain="direct"/>
</storage-mapping>
""",
    SIBLING: """\
[
  {"site": "T1_XX_Fed", "volume": "Federation", "type": "DISK", "rse": null,
   "protocols": [
     {"protocol": "XRootD", "access": "global-ro", "prefix": "root://fed.example.org/"}
   ]}
]
""",
}


def write_siteconf(folder: Path, which: str = "", old: str = "", new: str = "") -> Path:
    """Write the tree with one replacement; `old` must occur exactly once in that file. Returns its `local`."""
    for name, text in TEXTS.items():
        path = folder / _PATHS[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == which:
            assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    local = folder / "local"
    local.symlink_to(SITE)
    return local


def siteconf_path(folder: Path, which: str) -> Path:
    """Where one of the files lies."""
    return folder / _PATHS[which]
