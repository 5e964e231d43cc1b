# SPDX-License-Identifier: Apache-2.0
"""Entries with a runtime block, and external ones, in glideinWMS's own parser and reconfig.

GLIDEINWMS_SRC names a glideinWMS checkout, 3.10 or 3.11.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest
from lxml import etree

from glideinwms_bosco.cli.main import main
from glideinwms_bosco.entry.meaning import entry_meanings
from glideinwms_bosco.webproxy.capacity import spread_s
from tests.unit.glideinwms_source import Factory, factory_for_commands, is_checkout
from tests.unit.pilot_world import ALL, make_ca, make_distribution, make_scripts
from tests.unit.site_text import VALID
from tests.unit.siteconf_world import SMALLEST

SOURCE = os.environ.get("GLIDEINWMS_SRC", "")
pytestmark = pytest.mark.skipif(not is_checkout(SOURCE), reason="GLIDEINWMS_SRC names no glideinWMS checkout")

OK = 0
CE = """\
<glidein><entries><entry name="CE_Entry" gatekeeper="ce ce:9619" auth_method="scitoken" trust_domain="grid">
  <attrs><attr name="GLIDEIN_Site" value="CE"/></attrs></entry></entries></glidein>
"""
NAMES = ["cvmfs_setup", "cvmfs_check", "credentials_setup", "container_setup", "payload_setup", "payload_wrapper.sh"]
PROXIED_NAMES = ["gwms_bosco_siteconf.tar.gz", "proxy_setup", "siteconf_setup", "proxy_check"]
PROXIED = f"""\
runtime:
  web_proxies:
    proxies:
      - {{url: "http://near.example.org:3128", capacity: {{clients: 500}}}}
      - {{url: "http://near2.example.org:3128", capacity: {{requests_per_s: 600}}}}
    discover: [wpad]
  siteconf: {json.dumps(dict(SMALLEST))}
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Factory:
    """A factory after a render of a batch site and an external one with every field, and after reconfig."""
    factory = factory_for_commands(tmp_path, SOURCE, monkeypatch)
    monkeypatch.setenv("GWMS_BOSCO_SCRIPTS", str(make_scripts(tmp_path / "scripts")))
    runtime = ALL.replace("DIST", str(make_distribution(tmp_path / "dist")))
    runtime = runtime.replace("ca_dir: CA", f"ca_dir: {make_ca(tmp_path / 'ca')}")
    (factory.config_d / "10-ce.xml").write_text(CE, encoding="utf-8")
    batch = VALID.replace("entries:\n", runtime + "entries:\n")
    (tmp_path / "sites.d" / "batch.yaml").write_text(batch, encoding="utf-8")
    external = "site: CE\nsubmission: external\nentries: [{name: CE_Entry}]\n" + runtime
    (tmp_path / "sites.d" / "ce.yaml").write_text(external, encoding="utf-8")
    proxied = VALID.replace("Test_Entry", "Proxied_Entry").replace("login.example.org", "other.example.org")
    proxied = proxied.replace("entries:\n", PROXIED + "entries:\n") + "    limits: {per_entry: {glideins: 500}}\n"
    (tmp_path / "sites.d" / "proxied.yaml").write_text(proxied, encoding="utf-8")
    assert main(["entry", "render", "--lint"]) == OK
    run = factory.reconfig()
    assert run.returncode == 0, run.stdout + run.stderr
    return factory


def staged(factory: Factory, entry: str) -> Path:
    """The folder that the factory's web server gives to pilots of an entry."""
    (found,) = (factory.work.parent / "stage").glob(f"**/entry_{entry}")
    return found


def latest(folder: Path, prefix: str) -> Path:
    (found,) = sorted(folder.glob(f"{prefix}.*"))
    return found


@pytest.mark.parametrize("entry", ["Test_Entry", "CE_Entry"])
def test_pilots_get_each_file_in_order_as_what_it_is(factory: Factory, entry: str) -> None:
    folder = staged(factory, entry)
    rows = [line.split() for line in latest(folder, "file_list").read_text(encoding="utf-8").splitlines()]
    ours = {row[0]: row for row in rows if row[0].startswith("gwms_bosco_") or row[0] in NAMES}
    assert list(ours) == ["gwms_bosco_cvmfsexec.tar.gz", "gwms_bosco_ca.tar.gz", *NAMES]
    assert [row[2] for row in ours.values()] == ["untar", "untar", *["exec"] * 5, "wrapper"]
    assert ours["cvmfs_check"][3] == "600"
    assert "GWMS_BOSCO_CVMFSEXEC_DIR" in ours["gwms_bosco_cvmfsexec.tar.gz"]
    assert "GWMS_BOSCO_CA_DIR" in ours["gwms_bosco_ca.tar.gz"]
    lines = latest(folder, "untar").read_text(encoding="utf-8").splitlines()
    # As glidein_startup.sh looks for it: the name, a blank, and the folder after a tab.
    (unpacked_in,) = [line for line in lines if line.startswith("gwms_bosco_cvmfsexec.tar.gz ")]
    assert unpacked_in.partition("\t")[2] == "gwms_bosco_cvmfsexec"
    script = folder / ours["cvmfs_setup"][1]
    assert script.read_bytes() == b"gwms_bosco_config() { :; }\n# cvmfs_setup\n"
    sums = latest(folder, "signature").read_text(encoding="utf-8")
    assert f"{hashlib.sha1(script.read_bytes()).hexdigest()}  {script.name}" in sums  # noqa: S324
    with tarfile.open(folder / ours["gwms_bosco_cvmfsexec.tar.gz"][1]) as tar:
        assert "cvmfsexec" in tar.getnames()


@pytest.mark.parametrize("entry", ["Test_Entry", "CE_Entry"])
def test_pilots_get_each_attribute_and_frontends_the_published_ones(factory: Factory, entry: str) -> None:
    constants = latest(staged(factory, entry), "constants").read_text(encoding="utf-8")
    found = dict(line.split(None, 1) for line in constants.splitlines() if line.startswith("G"))
    assert found["GWMS_BOSCO_CVMFS_REPOS"].strip() == "cms.cern.ch,grid.cern.ch"
    assert found["GWMS_BOSCO_CVMFS_PROXY"].strip() == (
        "http://squid.example.org:3128|http://squid2.example.org:3128;DIRECT"
    )
    assert found["GLIDEIN_SINGULARITY_REQUIRE"].strip() == "NEVER"
    assert len([name for name in found if name.startswith("GWMS_BOSCO_")]) == 14
    published = (factory.work / f"entry_{entry}" / "attributes.cfg").read_text(encoding="utf-8")
    assert "GLIDEIN_SINGULARITY_REQUIRE" in published
    assert "GWMS_BOSCO_CONTAINER" in published
    assert "GWMS_BOSCO_CVMFS_PROXY" not in published


def test_web_proxies_and_siteconf_pass_reconfig(factory: Factory) -> None:
    folder = staged(factory, "Proxied_Entry")
    rows = [line.split() for line in latest(folder, "file_list").read_text(encoding="utf-8").splitlines()]
    ours = {row[0]: row for row in rows if row[0] in PROXIED_NAMES}
    assert list(ours) == PROXIED_NAMES
    assert "GWMS_BOSCO_SITECONF_DIR" in ours["gwms_bosco_siteconf.tar.gz"]
    assert ours["proxy_check"][3] == "300"
    with tarfile.open(folder / ours["gwms_bosco_siteconf.tar.gz"][1]) as tar:
        assert tar.getmember("SITECONF/local").linkname == "T3_US_HPC"
    constants = latest(folder, "constants").read_text(encoding="utf-8")
    found = {line.split()[0]: line.split()[1] for line in constants.splitlines() if line.startswith("GWMS_BOSCO_")}
    assert found["GWMS_BOSCO_WEB_PROXIES"] == "http://near.example.org:3128,http://near2.example.org:3128"
    assert int(found["GWMS_BOSCO_WEB_PROXY_SPREAD_S"]) == spread_s(500, 25)
    assert found["GWMS_BOSCO_SITECONF_SITE"] == "T3_US_HPC"


def test_our_copy_of_an_external_entry_is_the_one_that_counts(factory: Factory) -> None:
    theirs = entry_meanings(etree.fromstring(factory.parse().xml))["CE_Entry"]
    assert theirs["@gatekeeper"] == "ce ce:9619"
    assert theirs["@auth_method"] == "scitoken"
    assert theirs["attrs/[GLIDEIN_Site]/@value"] == "CE"
    assert theirs["attrs/[GWMS_BOSCO_CONTAINER]/@value"] == "payload"


def test_external_entry_without_our_copy_passes_reconfig_again(factory: Factory, tmp_path: Path) -> None:
    (tmp_path / "sites.d" / "ce.yaml").unlink()
    assert main(["entry", "render"]) == OK
    run = factory.reconfig()
    assert run.returncode == 0, run.stdout + run.stderr
    assert "CE_Entry" in factory.active_entries()
    assert "GWMS_BOSCO" not in (factory.work / "entry_CE_Entry" / "attributes.cfg").read_text(encoding="utf-8")
