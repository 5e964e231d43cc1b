# SPDX-License-Identifier: Apache-2.0
"""Entry XML: the same site gives the same bytes, and real entries can be said in site files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import pytest
from lxml import etree

from glideinwms_bosco.entry.meaning import entry_meanings
from glideinwms_bosco.entry.render import file_name, render_site
from glideinwms_bosco.entry.submit import grid_resource, submit_problems
from glideinwms_bosco.entry.write import write_entry_file
from glideinwms_bosco.errors import BatchError, EntryError
from glideinwms_bosco.site.load import load_site
from glideinwms_bosco.site.model import SiteDescription
from tests.unit.network_text import closed_site
from tests.unit.site_text import changed_site

ROOT = Path(__file__).parents[2]
REAL_SITES = ROOT / "tests" / "golden" / "sites"
# Entries of the OSG factories are not ours to ship; they lie beside the checkout or where the variable says.
REAL_ENTRIES = Path(
    os.environ.get("GWMS_TEST_OSG_ENTRIES", ROOT.parent / "shared" / "data" / "osg-entries" / "batch-entries.xml")
)
REAL_NAMES = ("SDSC_gordon_cms", "CMSHTPC_T3_US_NERSC_Edison", "CMSHTPC_T3_US_NERSC_Cori")


def meanings(site: SiteDescription) -> dict[str, dict[str, str]]:
    return entry_meanings(etree.fromstring(render_site(site)))


@pytest.mark.skipif(not REAL_ENTRIES.is_file(), reason="GWMS_TEST_OSG_ENTRIES names no batch-entries.xml")
@pytest.mark.parametrize("name", REAL_NAMES)
def test_real_entry_is_expressible(name: str) -> None:
    real = entry_meanings(etree.parse(str(REAL_ENTRIES)).getroot())
    ours: dict[str, dict[str, str]] = {}
    for path in REAL_SITES.glob("*.yaml"):
        ours.update(meanings(load_site(path)[0]))
    assert ours[name] == real[name]
    assert len(real[name]) > 100


def test_renders_identical_bytes_twice(tmp_path: Path) -> None:
    site = changed_site(tmp_path)
    assert render_site(site) == render_site(changed_site(tmp_path))


def test_order_of_fields_in_the_file_does_not_matter(tmp_path: Path) -> None:
    one = changed_site(tmp_path, "cpus: 8\n", "attrs: {B: b, A: a}\n    cpus: 8\n")
    two = changed_site(tmp_path, "cpus: 8\n", "cpus: 8\n    attrs: {A: a, B: b}\n")
    assert render_site(one) == render_site(two)


def test_derives_attributes_and_submit_attributes(tmp_path: Path) -> None:
    entry = meanings(changed_site(tmp_path))["Test_Entry"]
    assert entry["@gatekeeper"] == "pilot@login.example.org"
    assert entry["@gridtype"] == "batch slurm"
    assert entry["@auth_method"] == "key_pair"
    assert entry["attrs/[GLIDEIN_CPUS]/@value"] == "8"
    # 48 h less the margin of 30 min: the pilot ends itself before the batch system does.
    assert entry["attrs/[GLIDEIN_Max_Walltime]/@value"] == "171000"
    assert entry["config/submit/submit_attrs/[batch_runtime]/@value"] == "172800"
    assert "@bosco_dir" not in entry


@pytest.mark.parametrize(
    ("changes", "proxy_url"),
    [
        ([], "OSG"),
        ([("web_proxy: egress", "web_proxy: squid")], "OSG"),
        ([("  web_proxy: egress\n", "")], None),
        ([("cpus: 8", "cpus: 8\n    proxy_url: http://10.77.1.9:3128")], "http://10.77.1.9:3128"),
        ([("cpus: 8", "cpus: 8\n    proxy_url: None")], "None"),
    ],
)
def test_pilots_of_a_closed_site_download_by_the_proxy_of_the_tunnel(
    tmp_path: Path, changes: list[tuple[str, str]], proxy_url: Optional[str]
) -> None:
    assert meanings(closed_site(tmp_path, *changes))["Test_Entry"].get("@proxy_url") == proxy_url


def test_own_attribute_wins_over_a_derived_one(tmp_path: Path) -> None:
    site = changed_site(tmp_path, "cpus: 8\n", "cpus: 8\n    attrs: {GLIDEIN_CPUS: {value: 4, const: false}}\n")
    entry = meanings(site)["Test_Entry"]
    assert entry["attrs/[GLIDEIN_CPUS]/@value"] == "4"
    assert entry["attrs/[GLIDEIN_CPUS]/@const"] == "False"


def test_disabled_site_disables_its_entries(tmp_path: Path) -> None:
    site = changed_site(tmp_path, "site: T3_XX_Test", "site: T3_XX_Test\nenabled: false")
    assert meanings(site)["Test_Entry"]["@enabled"] == "False"


def test_markup_in_a_value_stays_a_value(tmp_path: Path) -> None:
    site = changed_site(tmp_path, "cpus: 8\n", "cpus: 8\n    comment: '</entry><entry name=\"x\">&amp;'\n")
    assert meanings(site)["Test_Entry"]["@comment"] == '</entry><entry name="x">&amp;'
    assert list(meanings(site)) == ["Test_Entry"]


def test_frontends_of_accounts_restrict_the_entry(tmp_path: Path) -> None:
    site = changed_site(tmp_path, "user: pilot\n", "user: pilot\n    frontend: cms\n    security_class: prod\n")
    assert meanings(site)["Test_Entry"]["allow_frontends/[cms]/@security_class"] == "prod"


def test_submit_attribute_given_twice_is_refused(tmp_path: Path) -> None:
    site = changed_site(tmp_path, "cpus: 8\n", "cpus: 8\n    submit_attrs: {+nodenumber: 2}\n")
    (problem,) = submit_problems(site)
    assert problem.field == "entries[0].submit_attrs.+nodenumber"
    assert problem.line == 15
    assert "stops reconfig" in problem.message


def test_submit_attribute_in_another_spelling_is_the_same_one(tmp_path: Path) -> None:
    site = changed_site(tmp_path, "cpus: 8\n", "cpus: 8\n    submit_attrs: {+RequestMemory: 2}\n")
    assert [problem.field for problem in submit_problems(site)] == ["entries[0].submit_attrs.+RequestMemory"]


def test_inexpressible_request_is_reported_at_its_line(tmp_path: Path) -> None:
    site = changed_site(tmp_path, "system: slurm", "system: condor\n  project: m1")
    (problem,) = submit_problems(site)
    assert (problem.field, problem.line) == ("batch.project", 11)
    with pytest.raises(BatchError):
        render_site(site)


def test_grid_resource_is_what_the_factory_writes(tmp_path: Path) -> None:
    site = changed_site(tmp_path, "entries:", "install: {bosco_dir: bosco-osg}\nentries:")
    assert grid_resource(site, site.accounts[0], Path("/k/cred_1")) == (
        "batch slurm --rgahp-key /k/cred_1 --rgahp-nopass --rgahp-glite ~/bosco-osg/glite pilot@login.example.org"
    )


def test_grid_resource_leaves_defaults_to_remote_gahp(tmp_path: Path) -> None:
    site = changed_site(tmp_path, "host: login.example.org", "host: login.example.org\n  port: 2222")
    assert grid_resource(site, site.accounts[0], None) == "batch slurm --rgahp-nokey pilot@login.example.org:2222"


def test_grid_resource_refuses_a_key_path_with_a_blank(tmp_path: Path) -> None:
    site = changed_site(tmp_path)
    with pytest.raises(EntryError, match="blank"):
        grid_resource(site, site.accounts[0], Path("/my keys/k"))


def test_meaning_tells_a_changed_value() -> None:
    text = "<glidein><entries><entry name='e'><attrs><attr name='A' value='{}'/></attrs></entry></entries></glidein>"
    one, two = (entry_meanings(etree.fromstring(text.format(value))) for value in ("1", "2"))
    assert one != two
    assert one["e"]["attrs/[A]/@value"] == "1"


def test_writes_atomically_and_leaves_equal_files_alone(tmp_path: Path) -> None:
    path = tmp_path / "50-test.xml"
    assert write_entry_file(path, b"<a/>")
    before = path.stat()
    assert not write_entry_file(path, b"<a/>")
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert write_entry_file(path, b"<b/>")
    assert path.read_bytes() == b"<b/>"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [file.name for file in tmp_path.iterdir()] == ["50-test.xml"]


def test_unwritable_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(EntryError, match="No such file or directory"):
        write_entry_file(tmp_path / "none" / "x.xml", b"<a/>")


def test_file_name_carries_order_and_short_name(tmp_path: Path) -> None:
    assert file_name(changed_site(tmp_path), 5) == "05-test.xml"
