# SPDX-License-Identifier: Apache-2.0
"""SITECONF as payloads find it: the same path and contents however they are started."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from glideinwms_bosco.siteconf.read_config import read_config
from glideinwms_bosco.siteconf.render import archive_files
from tests.lab.settings import OLDEST_NODE_RECIPE
from tests.pilot import debian_node, test_container
from tests.pilot.conftest import REPOSITORY
from tests.pilot.harness import GLIDEINWMS_SRC, Outcome, Pilot
from tests.pilot.job_wrapper import compose
from tests.pilot.node import Faults, Node
from tests.pilot.test_cvmfs_parrot import PARROT_RUN
from tests.pilot.test_payload import Job
from tests.unit import siteconf_world

MakePilot = Callable[..., Pilot]
MakeNode = Callable[..., Node]
image = test_container.image
debian = test_container.debian

SITE, SIBLING, SUBSITE = "T3_XX_Here", "T1_YY_Far", "Sub"
HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<site-local-config>
  <site name="{site}">{subsite}
    <event-data>
      <catalog url="trivialcatalog_file:/nowhere/storage.xml?protocol=xrootd"/>
    </event-data>
    <local-stage-out>
      <command value="gfal2"/>
    </local-stage-out>
    <stage-out>
      <method volume="Here" protocol="XRootD"/>
    </stage-out>
    <data-access>
      <catalog volume="Here" protocol="XRootD"/>
      <catalog site="{sibling}" volume="Far" protocol="XRootD"/>
    </data-access>
    <calib-data>
      <frontier-connect>
        <load balance="proxies"/>
"""
TAIL = """        <server url="http://frontier.example.org:8000/FrontierProd"/>
      </frontier-connect>
    </calib-data>
  </site>
</site-local-config>
"""
PROXY = "http://squid.example.org:3128"
BACKUP = "http://far.example.org:3128"
ELEMENTS = f'        <proxy url="{PROXY}"/>\n        <backupproxy url="{BACKUP}"/>\n'
CONFIG = "JobConfig/site-local-config.xml"
OLD_PLACE = f"/cvmfs/{REPOSITORY}/SITECONF/local"
# What a reader opens, each with its digest; the last one as it finds other sites: from the physical path.
READ = (
    'printf "%s\\n" "$SITECONFIG_PATH"; real=$(readlink -f "$SITECONFIG_PATH") && cd "$SITECONFIG_PATH" && '
    f"sha256sum <{CONFIG} && sha256sum <storage.json && sha256sum <$real/../{SIBLING}/storage.json"
)
HOSTILE = ("a b", "'x'", '"', "$(touch /tmp/injected)", "`touch /tmp/injected`", "x;touch /tmp/injected", "x" * 65536)


def document(subsite: str = "") -> str:
    """The whole site-local-config.xml of the site, without web proxies that were found."""
    return HEAD.format(site=SITE, sibling=SIBLING, subsite=f'<subsite name="{subsite}"/>' if subsite else "") + TAIL


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The unpacked archive of an entry."""
    return write_archive(tmp_path / "siteconf_archive")


def write_archive(folder: Path, subsite: str = "") -> Path:
    top = folder / "SITECONF"
    config = top / SITE / subsite / CONFIG
    config.parent.mkdir(parents=True)
    (top / SIBLING).mkdir()
    (top / "local").symlink_to(SITE)
    head = document(subsite).removesuffix(TAIL)
    Path(f"{config}.head").write_text(head)
    Path(f"{config}.tail").write_text(TAIL)
    for site, volume in ((SITE, "Here"), (SIBLING, "Far")):
        protocols = [{"protocol": "XRootD", "prefix": "root://store.example.org/"}]
        storage = [{"site": site, "volume": volume, "protocols": protocols, "rse": site}]
        (top / site / "storage.json").write_text(json.dumps(storage) + "\n")
    return folder


def configured(archive: Path, **config: str) -> dict[str, str]:
    return {"ENTRY_GWMS_BOSCO_SITECONF_DIR": str(archive), "GWMS_BOSCO_SITECONF_SITE": SITE, **config}


def set_up(pilot: Pilot) -> Outcome:
    """Run siteconf_setup as proxy_setup has left the state folder."""
    state = pilot.folder / "gwms_bosco"
    state.mkdir(mode=0o700, exist_ok=True)
    (state / "web_proxy.conf").write_text(f"PROXY={PROXY}\nSTATE=main\nFRONTIER={PROXY}\nBACKUPS={BACKUP}\n")
    for path in (state, state / "web_proxy.conf"):
        os.chown(path, 2001, 2001)
    return pilot.run("siteconf_setup")


def job_environment(pilot: Pilot) -> dict[str, str]:
    """What HTCondor gives to jobs: by the lines of condor_vars, or as the real condor_startup.sh has made it."""
    real = pilot.folder / "job_env"
    if GLIDEINWMS_SRC and real.exists():
        return dict(re.findall(r"'([A-Za-z_]+)=([^']*)'", real.read_text()))
    rows = (line.split() for line in (pilot.folder / "condor_vars.lst").read_text().splitlines())
    config = pilot.config()
    return {row[0]: config[row[0]] for row in rows if row[6] == "+"}


def tree(pilot: Pilot) -> Path:
    return pilot.folder / "gwms_bosco" / "siteconf" / "SITECONF"


def expected(pilot: Pilot, archive: Path) -> str:
    """What READ prints when all is right."""
    top = archive / "SITECONF"
    config = document().replace(TAIL, ELEMENTS + TAIL).encode()
    contents = [config, (top / SITE / "storage.json").read_bytes(), (top / SIBLING / "storage.json").read_bytes()]
    lines = [str(tree(pilot) / "local"), *(f"{hashlib.sha256(each).hexdigest()}  -" for each in contents)]
    return "".join(f"{line}\n" for line in lines)


def check_payload(pilot: Pilot, archive: Path, at_etc: bool = False) -> Job:
    """A payload started by the job wrapper reads what the archive and the web proxies say."""
    job = Job(pilot, compose(pilot))
    done = job.run("/bin/sh", "-c", READ, stdin=None, **job_environment(pilot))
    assert done.stdout.decode() == expected(pilot, archive), done
    if at_etc:
        script = (
            f"cmp $SITECONFIG_PATH/{CONFIG} /etc/cvmfs/SITECONF/local/{CONFIG} && test -e /etc/cvmfs/SITECONF/{SIBLING}"
        )
        done = job.run("/bin/sh", "-c", script, stdin=None, **job_environment(pilot))
        assert done.returncode == 0, done
    return job


def test_without_cvmfs(make_node: MakeNode, make_pilot: MakePilot, archive: Path) -> None:
    pilot = make_pilot(make_node(), **configured(archive))
    outcome = set_up(pilot)
    assert (outcome.rc, outcome.status, outcome.metrics["from"]) == (0, "OK", "site-file"), outcome
    check_payload(pilot, archive)
    assert pilot.published()["GWMS_BOSCO_SITECONF_FROM"] == '"site-file"'
    assert pilot.config()["GWMS_BOSCO_SITECONF"] == str(tree(pilot))
    assert "CMS_PATH" not in job_environment(pilot)


def test_native_and_old_releases_there(
    make_node: MakeNode, make_pilot: MakePilot, repositories: Path, archive: Path
) -> None:
    pilot = make_pilot(make_node(Faults(native=repositories)), **configured(archive))
    assert pilot.run("cvmfs_setup").metrics.get("mode") == "native"
    assert set_up(pilot).rc == 0
    job = check_payload(pilot, archive)
    script = f"cat $CMS_PATH/hello; cmp $CMS_PATH/SITECONF/local/{CONFIG} $SITECONFIG_PATH/{CONFIG}"
    done = job.run("/bin/sh", "-c", script, stdin=None, **job_environment(pilot))
    assert (done.returncode, done.stdout[:10]) == (0, b"hello from"), done


@pytest.mark.parametrize("subsite", ["", "Example-HPC"])
def test_what_the_factory_renders_is_read_back(
    make_node: MakeNode, make_pilot: MakePilot, tmp_path: Path, subsite: str
) -> None:
    block = {**siteconf_world.SMALLEST, **({"subsite": subsite} if subsite else {})}
    site = siteconf_world.site_with(tmp_path, block)
    archive = siteconf_world.write_tree(archive_files(site), tmp_path / "rendered")
    config = {"GWMS_BOSCO_SITECONF_SITE": block["site"], "GWMS_BOSCO_SITECONF_SUBSITE": subsite}
    pilot = make_pilot(make_node(), **configured(archive, **config))
    outcome = set_up(pilot)
    assert (outcome.rc, outcome.metrics["from"]) == (0, "site-file"), outcome
    path = tree(pilot) / "local"
    assert job_environment(pilot)["SITECONFIG_PATH"] == str(path)
    read = read_config(path / CONFIG)
    assert (read.site, read.subsite or "") == (block["site"], subsite)
    assert read.frontier is not None
    assert (read.frontier.proxies[0], read.frontier.backup_proxies[0]) == (PROXY, BACKUP)
    assert read.local_stage_out is not None and read.local_stage_out.catalog_url is not None
    for url in (*read.event_data, read.local_stage_out.catalog_url):
        catalog = url.partition(":")[2].partition("?")[0]
        assert catalog.startswith(f"{tree(pilot)}/")
        assert pilot.node.run(["test", "-s", catalog]).returncode == 0, url
    for sibling in block["siblings"]:
        assert (tree(pilot) / sibling / "storage.json").is_file()


@pytest.mark.parametrize("rung", ["userns", "fusermount", "mountrepo"])
def test_mounts_of_the_pilot(
    make_node: MakeNode, make_pilot: MakePilot, distribution: Path, parrot: Path, archive: Path, rung: str
) -> None:
    config = configured(archive, GWMS_BOSCO_CVMFS_RUNGS=rung, GWMS_BOSCO_PARROT=str(parrot))
    pilot = make_pilot(make_node(), GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), **config)
    outcome = pilot.run("cvmfs_setup")
    assert outcome.metrics.get("mode") == rung, outcome
    assert set_up(pilot).rc == 0
    assert pilot.run("payload_setup").rc == 0
    check_payload(pilot, archive)
    # What the client makes of /cvmfs/cms.cern.ch/SITECONF/local.
    settings = (pilot.folder / "gwms_bosco/cvmfs/dist/etc/cvmfs/default.local").read_text()
    assert f"\nCMS_LOCAL_SITE={tree(pilot)}/local\n" in settings
    assert "CMS_PATH" not in job_environment(pilot)
    pilot.end()


@pytest.mark.parametrize("kind", ["standin", "real"])
def test_parrot_shows_it_also_where_old_releases_look(
    kind: str,
    make_node: MakeNode,
    make_pilot: MakePilot,
    parrot: Path,
    opened_repositories: Path,
    session_path: Path,
    archive: Path,
) -> None:
    with ExitStack() as stack:
        if kind == "standin":
            node = make_node(Faults(fuse="absent", userns=False))
        else:
            if not PARROT_RUN:
                pytest.skip("PARROT_RUN names no parrot_run")
            node = stack.enter_context(debian_node.running(OLDEST_NODE_RECIPE, session_path.parent, fuse=False))
            shutil.copy(PARROT_RUN, parrot.with_name("real"))
            parrot.write_text(f'#!/bin/sh\nexec {parrot.with_name("real")} -M /cvmfs={opened_repositories} "$@"\n')
        config = configured(archive, GWMS_BOSCO_PARROT=str(parrot), GWMS_BOSCO_CVMFS_RUNGS="native,parrot")
        pilot = make_pilot(node, **config)
        assert pilot.run("cvmfs_setup").metrics.get("mode") == "parrot"
        outcome = set_up(pilot)
        assert (outcome.rc, outcome.metrics["why"]) == (0, "none"), outcome
        assert pilot.run("payload_setup").rc == 0
        job = check_payload(pilot, archive)
        done = job.run("cat", f"{OLD_PLACE}/{CONFIG}", f"/cvmfs/{REPOSITORY}/hello")
        assert PROXY in done.stdout.decode() and done.stdout.endswith(b"hello from a stand-in repository\n"), done
        pilot.end()


@pytest.mark.parametrize("rung", ["", "userns", "fusermount", "mountrepo"])
def test_container_of_the_site(
    debian: MakeNode, make_pilot: MakePilot, distribution: Path, tmp_path: Path, archive: Path, rung: str
) -> None:
    node = debian()
    config = test_container.configured(tmp_path, **configured(archive))
    if rung:
        config.update(GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=rung)
    pilot = make_pilot(node, **config)
    if rung:
        assert pilot.run("cvmfs_setup").metrics.get("mode") == rung
    assert set_up(pilot).rc == 0
    assert pilot.run("container_setup").rc == 0
    assert pilot.run("payload_setup").metrics["wrapped"] == "True"
    job = check_payload(pilot, archive, at_etc=True)
    assert job.run("cat", "/etc/standin-image").returncode == 0
    pilot.end()


def test_mounts_within_a_container(
    debian: MakeNode, make_pilot: MakePilot, distribution: Path, tmp_path: Path, archive: Path
) -> None:
    if "cvmfs2-wrapper" in (distribution / "singcvmfs").read_text():
        pytest.skip("the real singcvmfs needs a client that runs in the image")
    config = configured(archive, GWMS_BOSCO_IMAGE=str(tmp_path / "site.sif"), GWMS_BOSCO_CVMFS_RUNGS="container")
    pilot = make_pilot(debian(), GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), **config)
    assert pilot.run("cvmfs_setup").metrics.get("mode") == "container"
    assert set_up(pilot).rc == 0
    assert pilot.run("payload_setup").rc == 0
    check_payload(pilot, archive, at_etc=True)
    pilot.end()


@pytest.mark.skipif(not GLIDEINWMS_SRC, reason="GLIDEINWMS_SRC names no checkout of glideinWMS")
@pytest.mark.parametrize("emptied", [False, True], ids=["environment-kept", "environment-emptied"])
@pytest.mark.parametrize("rung", ["native", "userns"])
def test_container_of_a_frontend(
    debian: MakeNode,
    make_pilot: MakePilot,
    distribution: Path,
    opened_repositories: Path,
    image: Path,
    archive: Path,
    rung: str,
    emptied: bool,
) -> None:
    """glideinWMS's own wrapper starts the container: what it binds and keeps is what our scripts have set."""
    node = debian()
    config = configured(archive, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=rung)
    config["GLIDEIN_SINGULARITY_BINDPATH_DEFAULT"] = "/etc/hosts"
    if emptied:
        config["GLIDEIN_SINGULARITY_OPTS"] = "--cleanenv"
    pilot = make_pilot(node, **config)
    if rung == "native":
        show = f"mkdir -p /cvmfs && mount --bind {opened_repositories} /cvmfs"
        node.run(["sh", "-c", show], user=0).check_returncode()
    outcome = pilot.run("cvmfs_setup")
    assert outcome.metrics.get("mode") == rung, outcome
    assert set_up(pilot).rc == 0
    assert pilot.run("payload_setup").rc == 0
    web_base = Path(GLIDEINWMS_SRC) / "creation" / "web_base"
    (pilot.folder / "main").mkdir()
    shutil.copy(web_base / "singularity_lib.sh", pilot.folder / "main")
    (pilot.folder / ".gwms.d" / "bin").mkdir(parents=True)
    tool = test_container.located_tool(pilot, str(image))
    theirs = (web_base / "frontend" / "default_singularity_wrapper.sh").read_text()
    theirs = theirs.replace("EXITSLEEP=10m", "EXITSLEEP=0")
    job = Job(pilot, compose(pilot, after=[theirs]), f'SingularityImage = "{image}"\n')
    machine = job.scratch / ".machine.ad"
    machine.write_text(f'HAS_SINGULARITY = true\nSINGULARITY_PATH = "{tool}"\n')
    os.chown(job.scratch, 2001, 2001)
    env = {**job_environment(pilot), "_CONDOR_MACHINE_AD": str(machine)}
    if emptied:
        env["GLIDEIN_SINGULARITY_OPTS"] = "--cleanenv"
    assert env["GLIDEIN_SINGULARITY_BINDPATH_DEFAULT"].startswith("/etc/hosts,")
    script = f"cat /etc/standin-image; {READ}; sha256sum </etc/cvmfs/SITECONF/local/{CONFIG}; env"
    done = job.run("/bin/sh", "-c", script, stdin=None, **env)
    lines = expected(pilot, archive).splitlines()
    assert done.stdout.decode().splitlines()[:6] == ["stand-in image", *lines, lines[1]], done
    if rung == "native":
        assert f"CMS_PATH={tree(pilot)}/.cms\n" in done.stdout.decode()
    pilot.end()


def test_a_subsite(make_node: MakeNode, make_pilot: MakePilot, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "with_subsite", SUBSITE)
    pilot = make_pilot(make_node(), **configured(archive, GWMS_BOSCO_SITECONF_SUBSITE=SUBSITE))
    assert set_up(pilot).rc == 0
    path = tree(pilot) / "local"
    assert path.readlink() == Path(SITE, SUBSITE)
    assert job_environment(pilot)["SITECONFIG_PATH"] == str(path)
    assert (path / CONFIG).read_text() == document(SUBSITE).replace(TAIL, ELEMENTS + TAIL)


def node_siteconf(folder: Path, site: str = SITE, subsite: str = "") -> Path:
    """A SITECONF as a site has it, whole, and its path."""
    write_archive(folder, subsite)
    config = folder / "SITECONF" / SITE / subsite / CONFIG
    config.write_text(document(subsite).replace(SITE, site) + "<!-- the node's -->\n")
    for end in ("head", "tail"):
        Path(f"{config}.{end}").unlink()
    return folder / "SITECONF" / "local"


def test_prefers_a_healthy_one_of_the_node(
    make_node: MakeNode, make_pilot: MakePilot, tmp_path: Path, archive: Path
) -> None:
    place = node_siteconf(tmp_path / "node")
    env = {"SITECONFIG_PATH": str(place)}
    pilot = make_pilot(make_node(), env=env, **configured(archive, GWMS_BOSCO_SITECONF_PREFER_LOCAL="True"))
    outcome = set_up(pilot)
    assert (outcome.metrics["from"], outcome.metrics["node"]) == ("node", str(place)), outcome
    assert (tree(pilot) / "local" / CONFIG).read_text().endswith("<!-- the node's -->\n")
    assert pilot.published()["GWMS_BOSCO_SITECONF_FROM"] == '"node"'
    # proxy_check finds nothing to change there.
    assert not (tree(pilot).parent / "pieces").exists()
    unasked = make_pilot(make_node(), "unasked", env=env, **configured(archive))
    assert set_up(unasked).metrics["from"] == "site-file"


def test_node_has_one_of_a_subsite(make_node: MakeNode, make_pilot: MakePilot, tmp_path: Path, archive: Path) -> None:
    place = node_siteconf(tmp_path / "node", subsite=SUBSITE)
    config = configured(archive, GWMS_BOSCO_SITECONF_PREFER_LOCAL="True", GWMS_BOSCO_SITECONF_SUBSITE=SUBSITE)
    pilot = make_pilot(make_node(), env={"SITECONFIG_PATH": str(place)}, **config)
    assert set_up(pilot).metrics["from"] == "node"
    assert job_environment(pilot)["SITECONFIG_PATH"] == str(tree(pilot) / "local")
    assert (tree(pilot) / SITE / SUBSITE / CONFIG).samefile(tree(pilot) / "local" / CONFIG)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("missing", "there is no such folder"),
        ("cut", "site-local-config.xml is cut off"),
        ("both connects", "not exactly one of frontier-connect and local-connect , but 2"),
        ("other site", "it is of site T2_ZZ_Other and not of T3_XX_Here"),
        ("no storage", "storage.json is not there"),
        ("no sibling", "T1_YY_Far/storage.json is not there"),
        ("broken json", "storage.json line 1: no JSON near ,"),
        ("no server", "site-local-config.xml has no calib-data/frontier-connect/server"),
        ("circle", "there is no such folder"),
        ("bomb", "a document type or CDATA"),
        ("odd path", "a path with odd characters"),
    ],
)
def test_refuses_a_broken_one_of_the_node_and_says_why(
    make_node: MakeNode, make_pilot: MakePilot, tmp_path: Path, archive: Path, broken: str, reason: str
) -> None:
    place = str(node_siteconf(tmp_path / "node", "T2_ZZ_Other" if broken == "other site" else SITE))
    config = tmp_path / "node" / "SITECONF" / SITE / CONFIG
    if broken == "missing":
        place = "/nowhere/SITECONF/local"
    elif broken == "cut":
        config.write_text(document()[:-10])
    elif broken == "both connects":
        config.write_text(document().replace("</calib-data>", "<local-connect/></calib-data>"))
    elif broken == "no storage":
        (config.parents[1] / "storage.json").unlink()
    elif broken == "no sibling":
        shutil.rmtree(tmp_path / "node" / "SITECONF" / SIBLING)
    elif broken == "broken json":
        (config.parents[1] / "storage.json").write_text('[ {"volume": , broken json }}} ]\n')
    elif broken == "no server":
        config.write_text(re.sub("<server .*/>", "", document()))
    elif broken == "circle":
        Path(place).unlink()
        Path(place).symlink_to("local")
    elif broken == "bomb":
        config.write_text('<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>' + document())
    elif broken == "odd path":
        place = "/a $(touch /tmp/injected)"
    env = {"SITECONFIG_PATH": place}
    pilot = make_pilot(make_node(), env=env, **configured(archive, GWMS_BOSCO_SITECONF_PREFER_LOCAL="True"))
    outcome = set_up(pilot)
    assert (outcome.rc, outcome.metrics["from"]) == (0, "site-file"), outcome
    assert reason in outcome.metrics["why"], outcome
    assert reason in pilot.published()["GWMS_BOSCO_SITECONF_WHY"]
    check_payload(pilot, archive)


def test_a_broken_own_one_ends_the_pilot(make_node: MakeNode, make_pilot: MakePilot, archive: Path) -> None:
    shutil.rmtree(archive / "SITECONF" / SIBLING)
    outcome = set_up(make_pilot(make_node(), **configured(archive)))
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert outcome.detail.startswith("BOSCO-SITECONFSETUP-03 T1_YY_Far/storage.json is not there"), outcome


def test_an_entry_without_one_says_so(make_node: MakeNode, make_pilot: MakePilot) -> None:
    pilot = make_pilot(make_node())
    outcome = set_up(pilot)
    assert (outcome.rc, outcome.metrics["from"], outcome.metrics["why"]) == (0, "none", "the entry brings none")
    assert "SITECONFIG_PATH" not in pilot.config()


def test_a_second_run_changes_nothing(make_node: MakeNode, make_pilot: MakePilot, archive: Path) -> None:
    pilot = make_pilot(make_node(), **configured(archive))
    assert set_up(pilot).rc == 0
    before, variables = pilot.config(), (pilot.folder / "condor_vars.lst").read_text()
    inode = tree(pilot).stat().st_ino
    assert set_up(pilot).rc == 0
    assert (pilot.config(), tree(pilot).stat().st_ino) == (before, inode)
    assert sorted((pilot.folder / "condor_vars.lst").read_text().splitlines()) == sorted(variables.splitlines())
    check_payload(pilot, archive)


@pytest.mark.parametrize(
    "key",
    [
        "GWMS_BOSCO_SITECONF_SITE",
        "GWMS_BOSCO_SITECONF_SUBSITE",
        "GWMS_BOSCO_SITECONF_PREFER_LOCAL",
        "ENTRY_GWMS_BOSCO_SITECONF_DIR",
    ],
)
def test_refuses_hostile_values(make_node: MakeNode, make_pilot: MakePilot, archive: Path, key: str) -> None:
    node = make_node()
    for number, value in enumerate(HOSTILE):
        pilot = make_pilot(node, f"pilot{number}", **configured(archive, **{key: value}))
        outcome = pilot.run("siteconf_setup")
        assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
        assert outcome.detail.startswith("BOSCO-SITECONFSETUP-02") and len(outcome.detail) < 300
        assert "SITECONFIG_PATH" not in pilot.config()
    assert node.run(["test", "-e", "/tmp/injected"]).returncode == 1


@pytest.mark.parametrize("value", [*HOSTILE, 'http://a:1"/><!--', "http://a:1\n$(touch /tmp/injected)\nFRONTIER=x y"])
def test_hostile_web_proxies_get_nowhere(make_node: MakeNode, make_pilot: MakePilot, archive: Path, value: str) -> None:
    pilot = make_pilot(make_node(), **configured(archive))
    assert set_up(pilot).rc == 0
    conf = pilot.folder / "gwms_bosco" / "web_proxy.conf"
    conf.write_text(f"FRONTIER={value}\n")
    outcome = pilot.run("siteconf_setup")
    config = tree(pilot) / "local" / CONFIG
    if "\n" in value:
        # The rest of a value behind a line break is a line of its own, and the first of a key counts.
        assert config.read_text() == document().replace(TAIL, '        <proxy url="http://a:1"/>\n' + TAIL)
    else:
        assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
        assert "FRONTIER of web_proxy.conf" in outcome.detail and len(outcome.detail) < 300
        assert not config.exists()
    assert pilot.node.run(["test", "-e", "/tmp/injected"]).returncode == 1
