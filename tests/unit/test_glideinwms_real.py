# SPDX-License-Identifier: Apache-2.0
"""Our files in glideinWMS's own parser, submit-file generator and reconfig.

GLIDEINWMS_SRC names a glideinWMS checkout, 3.10 or 3.11.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from lxml import etree

from glideinwms_bosco.cli.main import main
from glideinwms_bosco.entry.configuration import merged_root, read_configuration
from glideinwms_bosco.entry.meaning import Meaning, entry_meanings
from glideinwms_bosco.entry.submit import grid_resource, submit_attrs
from glideinwms_bosco.site.load import load_site
from glideinwms_bosco.site.model import Entry, SiteDescription
from tests.unit.glideinwms_source import MAIN_ENTRY, Factory, is_checkout
from tests.unit.site_text import HOST_KEY, problems_of, write_site

SOURCE = os.environ.get("GLIDEINWMS_SRC", "")
pytestmark = pytest.mark.skipif(not is_checkout(SOURCE), reason="GLIDEINWMS_SRC names no glideinWMS checkout")

OK = 0
ROOT = Path(__file__).parents[2]
DEMO_ENTRY = "CMSHTPC_Demo_Cluster"
DISABLED = {"CMSHTPC_T3_US_NERSC_Cori", "CMSHTPC_T3_US_NERSC_Edison", "SDSC_gordon_cms"}
# A request with everything a batch system can be asked for, at a login node on a port of its own.
FULL_ENTRY = """\
  - name: Full_Entry
    cpus: 8
    nodes: 2
    gpus: 1
    memory_mb: 16000
    walltime: 1d
    batch: {queue: gpu, project: m1, extra_args: ["--constraint=knl", "--exclusive"]}
    submit_attrs: {+Own: '"x"'}
    limits:
      per_frontends: {cms: {glideins: 5, idle: 2, held: 1}}
    attrs:
      GLIDEIN_Own: {value: a b, comment: 'a "quoted" <one> & two', const: false, parameter: true}
"""


class Host:
    """A factory host: site files, and a factory that reads what we render from them."""

    def __init__(self, home: Path) -> None:
        self.sites_d = home / "sites.d"
        self.sites_d.mkdir()
        for path in (ROOT / "tests" / "golden" / "sites").glob("*.yaml"):
            shutil.copy(path, self.sites_d)
        demo = (ROOT / "factory_configs" / "sites" / "demo.yaml").read_text(encoding="utf-8")
        assert demo.count("host_keys: []") == 1
        pinned = demo.replace("host_keys: []", f'host_keys: ["{HOST_KEY}"]')
        (self.sites_d / "demo.yaml").write_text(pinned, encoding="utf-8")
        site = write_site(self.sites_d, "host: login.example.org\n", "host: login.example.org\n  port: 2222\n")
        with site.open("a", encoding="utf-8") as file:
            file.write(FULL_ENTRY)
        (home / "factory").mkdir()
        self.factory = Factory(home / "factory", Path(SOURCE))

    def entries(self) -> list[tuple[SiteDescription, Entry]]:
        """Every entry of every site file."""
        sites = [load_site(path)[0] for path in sorted(self.sites_d.iterdir())]
        return [(site, entry) for site in sites for entry in site.entries]

    def rendered(self) -> dict[str, Meaning]:
        """What the files of ours in config.d say."""
        found: dict[str, Meaning] = {}
        for path in sorted(self.factory.config_d.iterdir()):
            found.update(entry_meanings(etree.parse(str(path)).getroot()))
        return found


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose site files are rendered."""
    host = Host(tmp_path)
    (tmp_path / "state").mkdir()
    monkeypatch.delenv("GWMS_BOSCO_CONFIG", raising=False)
    monkeypatch.setenv("GWMS_BOSCO_SITES", str(host.sites_d))
    monkeypatch.setenv("GWMS_BOSCO_CONFIG_D", str(host.factory.config_d))
    monkeypatch.setenv("GWMS_BOSCO_STATE", str(tmp_path / "state"))
    assert main(["entry", "render"]) == OK
    return host


def parsed(host: Host) -> dict[str, Meaning]:
    """What glideinWMS's parser makes of the whole configuration."""
    return entry_meanings(etree.fromstring(host.factory.parse().xml))


def assert_differs_by_defaults_only(ours: Meaning, theirs: Meaning, bare: Meaning) -> None:
    """Compare an entry before and after glideinWMS's defaults; `bare` is MAIN_ENTRY after them."""
    assert {path: theirs.get(path) for path in ours} == ours
    added = {path: value for path, value in theirs.items() if path not in ours}
    assert added == {path: bare.get(re.sub(r"\[[^]]*\]", "[x]", path)) for path in added}


def entry_names(root: etree._Element) -> list[str]:
    """Names of entries in the order of a configuration, doubles too."""
    return [str(entry.get("name")) for entry in root.iterfind("./entries/entry")]


def values_of(submit_file: str, key: str) -> list[str]:
    """Every value that a submit file gives to a key, which HTCondor compares without regard to case."""
    pairs = [line.partition("=") for line in submit_file.splitlines() if not line.startswith("#")]
    return [value.strip() for name, _, value in pairs if name.strip().lower() == key.lower()]


def test_parser_reads_what_was_rendered_and_adds_defaults_only(host: Host) -> None:
    ours, theirs = host.rendered(), parsed(host)
    assert set(theirs) == {MAIN_ENTRY, *(entry.name for _, entry in host.entries())}
    assert set(ours) == {DEMO_ENTRY, "Test_Entry", "Full_Entry", *DISABLED}
    for name in ours:
        assert_differs_by_defaults_only(ours[name], theirs[name], theirs[MAIN_ENTRY])


def test_parser_keeps_the_fields_that_decide_where_pilots_go(host: Host) -> None:
    theirs = parsed(host)
    assert theirs[DEMO_ENTRY]["@bosco_dir"] == "bosco-cms"
    assert theirs[DEMO_ENTRY]["config/max_jobs/per_entry/@glideins"] == "100"
    assert theirs[DEMO_ENTRY]["allow_frontends/[osg]/@name"] == "osg"
    assert "@bosco_dir" not in theirs["Full_Entry"]
    assert theirs["Full_Entry"]["@gatekeeper"] == "pilot@login.example.org:2222"
    assert theirs["Full_Entry"]["config/max_jobs/per_frontends/[cms]/@idle"] == "2"
    assert theirs["Full_Entry"]["attrs/[GLIDEIN_Own]/@comment"] == 'a "quoted" <one> & two'
    assert theirs["Full_Entry"]["config/submit/submit_attrs/[+Own]/@value"] == '"x"'


def test_our_merge_of_a_configuration_is_the_parsers(host: Host) -> None:
    """Files of others before and after ours define entries of the same name: the last one counts, whole."""
    for name, entry in (("10-before.xml", DEMO_ENTRY), ("90-after.xml", "Full_Entry")):
        (host.factory.config_d / name).write_text(
            f'<glidein><entries><entry name="{entry}" gatekeeper="old" bosco_dir="old" rsl="(old)">'
            '<attrs><attr name="GLIDEIN_Old" value="1"/></attrs></entry></entries></glidein>',
            encoding="utf-8",
        )
    our_root = merged_root(read_configuration([host.factory.config_d.parent]))
    their_root = etree.fromstring(host.factory.parse().xml)
    assert entry_names(our_root) == entry_names(their_root)
    ours, theirs = entry_meanings(our_root), entry_meanings(their_root)
    assert "@rsl" not in theirs[DEMO_ENTRY]
    assert theirs["Full_Entry"]["@gatekeeper"] == "old"
    for name in ours:
        assert_differs_by_defaults_only(ours[name], theirs[name], theirs[MAIN_ENTRY])


def test_submit_file_has_the_grid_resource_that_we_compute(host: Host) -> None:
    """Also for accounts other than the first: the frontend's credential names the user, not the gatekeeper."""
    submit_files = host.factory.parse().submit_files
    compared = 0
    for site, entry in host.entries():
        (line,) = values_of(submit_files[entry.name], "Grid_Resource")
        for account in site.accounts_of(entry):
            job = line.replace("$ENV(GRID_RESOURCE_OPTIONS)", "--rgahp-key /k --rgahp-nopass")
            job = job.replace("$ENV(GLIDEIN_REMOTE_USERNAME)", account.user)
            assert re.sub(" +", " ", job) == grid_resource(site, account, Path("/k"))
            compared += 1
    assert compared == 7


def test_submit_file_has_each_submit_attribute_once(host: Host) -> None:
    submit_files = host.factory.parse().submit_files
    compared = 0
    for site, entry in host.entries():
        for name, value in submit_attrs(site, entry):
            assert values_of(submit_files[entry.name], name) == [value], name
            compared += 1
    assert compared > 20


def test_site_check_refuses_every_line_that_glideinwms_writes_itself(host: Host, tmp_path: Path) -> None:
    """A line that comes twice stops reconfig for the whole factory; in another spelling, the later one counts."""
    for path in host.factory.config_d.iterdir():
        path.unlink()
    (host.factory.config_d / "all-lines.xml").write_text(
        '<glidein advertise_pilot_accounting="True"><entries>'
        '<entry name="All_Lines" gatekeeper="pilot@login" gridtype="batch slurm" proxy_url="http://squid:3128"><attrs>'
        '<attr name="GLIDEIN_Max_Walltime" value="3600" type="int"/></attrs></entry></entries></glidein>',
        encoding="utf-8",
    )
    run = host.factory.reconfig()
    assert run.returncode == 0, run.stdout + run.stderr
    lines = [line for line in host.factory.submit_file("All_Lines").splitlines() if not line.startswith("#")]
    keys = [line.partition("=")[0].strip() for line in lines if "=" in line]
    assert len(keys) > 30
    accepted = [
        key
        for key in keys
        if not any(
            problem.severity == "error"
            for problem in problems_of(
                write_site(tmp_path, "cpus: 8\n", f"cpus: 8\n    submit_attrs: {{{key}: x}}\n", "one-more")
            )
        )
    ]
    assert accepted == []


def test_reconfig_takes_our_files_and_serves_the_enabled_entries(host: Host) -> None:
    run = host.factory.reconfig()
    assert run.returncode == 0, run.stdout + run.stderr
    assert host.factory.active_entries() == {MAIN_ENTRY, DEMO_ENTRY, "Test_Entry", "Full_Entry"}
    generated = host.factory.parse().submit_files
    for site, entry in host.entries():
        submit_file = host.factory.submit_file(entry.name)
        for key in ("Grid_Resource", *(name for name, _ in submit_attrs(site, entry))):
            assert values_of(submit_file, key) == values_of(generated[entry.name], key)


def test_reconfig_of_what_did_not_change_passes_again(host: Host) -> None:
    for _ in range(2):
        assert main(["entry", "render"]) == OK
        run = host.factory.reconfig()
        assert run.returncode == 0, run.stdout + run.stderr


def test_reconfig_is_aborted_by_an_entry_that_vanishes(host: Host) -> None:
    assert host.factory.reconfig().returncode == 0
    before = host.factory.active_entries()
    (host.factory.config_d / "50-demo.xml").unlink()
    run = host.factory.reconfig()
    assert run.returncode == 1
    assert f"entry {DEMO_ENTRY} is not found in new xml" in run.stdout
    assert host.factory.active_entries() == before


@pytest.mark.parametrize("what", ["site file", "entry of a site file"])
def test_reconfig_passes_with_our_disabled_copy_of_an_entry_that_left(what: str, host: Host) -> None:
    assert host.factory.reconfig().returncode == 0
    if what == "site file":
        name = DEMO_ENTRY
        (host.sites_d / "demo.yaml").unlink()
    else:
        name = "Full_Entry"
        path = host.sites_d / "test.yaml"
        path.write_text(path.read_text(encoding="utf-8").replace(FULL_ENTRY, ""), encoding="utf-8")
    assert main(["entry", "render"]) == OK
    run = host.factory.reconfig()
    assert run.returncode == 0, run.stdout + run.stderr
    assert host.factory.active_entries() == {MAIN_ENTRY, DEMO_ENTRY, "Test_Entry", "Full_Entry"} - {name}
    # The reconfig has seen it: now it may go for good.
    assert main(["entry", "remove", name, "--reconfigured"]) == OK
    assert main(["entry", "render"]) == OK
    assert name not in parsed(host)
    run = host.factory.reconfig()
    assert run.returncode == 0, run.stdout + run.stderr


def test_reconfig_gives_a_draining_entry_no_room_for_pilots(host: Host) -> None:
    assert main(["entry", "drain", "Full_Entry"]) == OK
    run = host.factory.reconfig()
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Full_Entry" in host.factory.active_entries()
    limits = host.factory.job_description("Full_Entry")
    assert {key: limits[key] for key in ("PerEntryMaxGlideins", "PerEntryMaxIdle")} == {
        "PerEntryMaxGlideins": "0",
        "PerEntryMaxIdle": "0",
    }
    assert limits["PerFrontendMaxGlideins"] == "cms;0"
    assert limits["PerEntryMaxHeld"] != "0"
