# SPDX-License-Identifier: Apache-2.0
"""Import: entry XML becomes site files that render back to the same meaning, and importing those changes nothing."""

from __future__ import annotations

import argparse
import copy
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from glideinwms_bosco.batch import BATCH_SYSTEMS, ResourceRequest, batch_system
from glideinwms_bosco.cli.checks import checked_sites
from glideinwms_bosco.cli.entry_import import add_import
from glideinwms_bosco.cli.selection import find_account
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.entry.attrs import complete_attr
from glideinwms_bosco.entry.import_left import left_behind
from glideinwms_bosco.entry.import_sites import ImportedSite, import_sites
from glideinwms_bosco.entry.meaning import Meaning, entry_meanings
from glideinwms_bosco.entry.render import render_site
from glideinwms_bosco.entry.xml_source import read_entry_xml
from glideinwms_bosco.errors import BatchError, EntryError, SiteError, SiteFileError, UsageError
from glideinwms_bosco.site.load import describe_site, load_site
from glideinwms_bosco.site.model import Attr
from glideinwms_bosco.site.yaml_source import YamlSource
from tests.unit.site_text import HOST_KEY, problems_of

ROOT = Path(__file__).parents[2]
REAL_ENTRIES = Path(
    os.environ.get("GWMS_TEST_OSG_ENTRIES", ROOT.parent / "shared" / "data" / "osg-entries" / "batch-entries.xml")
)
REAL_FILES = tuple(sorted(REAL_ENTRIES.parent.glob("*.xml"))) if REAL_ENTRIES.parent.is_dir() else ()

FLAGS = 'const="True" glidein_publish="{0}" job_publish="{1}" parameter="True" publish="True"'
PUBLISHED, PLAIN = FLAGS.format("True", "True"), FLAGS.format("False", "False")
BATCH = 'gridtype="batch slurm" gatekeeper="pilot@login.example.org" auth_method="key_pair" trust_domain="bosco.test"'
NAMES = (
    f'<attr name="GLIDEIN_Site" {PUBLISHED} type="string" value="T3_XX_Test"/>'
    f'<attr name="GLIDEIN_ResourceName" {PUBLISHED} type="string" value="T3_XX_Test"/>'
)


def glidein(*entries: str) -> etree._Element:
    return etree.fromstring(f"<glidein><entries>{''.join(entries)}</entries></glidein>")


def entry(attributes: str = BATCH, inside: str = "", name: str = "E", attrs: str = "", submit: str = "") -> str:
    config = f"<config><submit><submit_attrs>{submit}</submit_attrs></submit></config>"
    return f'<entry name="{name}" {attributes} enabled="False">{inside}{config}<attrs>{attrs}</attrs></entry>'


def written(sites: Sequence[ImportedSite], folder: Path) -> list[Path]:
    paths = []
    for site in sites:
        path = folder / f"{site.short_name}.yaml"
        path.write_text(site.text, encoding="utf-8")
        paths.append(path)
    return paths


def rendered(paths: Sequence[Path]) -> etree._Element:
    """What all site files render, as one <glidein>."""
    root = etree.Element("glidein")
    entries = etree.SubElement(root, "entries")
    for path in paths:
        entries.extend(etree.fromstring(render_site(describe_site(path))).findall("./entries/entry"))
    return root


def without_left(site: ImportedSite) -> str:
    """The text of a site file without what is said of the file it came from."""
    return "".join(line for line in site.text.splitlines(True) if not line.startswith("# Not imported from there: "))


def assert_fixed_point(root: etree._Element, folder: Path) -> dict[str, Meaning]:
    first = import_sites(root, "factory.xml")
    back = rendered(written(first, folder))
    meanings = entry_meanings(back)
    assert meanings == entry_meanings(root)
    again = import_sites(back, "factory.xml")
    assert {site.short_name: without_left(site) for site in again} == {
        site.short_name: without_left(site) for site in first
    }
    assert not any(item.entry for site in again for item in site.left)
    return meanings


def only(root: etree._Element) -> ImportedSite:
    (site,) = import_sites(root, "factory.xml")
    return site


def data_of(site: ImportedSite, folder: Path) -> Mapping[str, object]:
    entries = YamlSource(written([site], folder)[0]).data["entries"]
    assert len(entries) == 1
    found: Mapping[str, object] = entries[0]
    return found


@pytest.mark.skipif(not REAL_FILES, reason="GWMS_TEST_OSG_ENTRIES names no file in a folder of entry XML")
@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: path.stem)
def test_real_entries_are_a_fixed_point(path: Path, tmp_path: Path) -> None:
    root = read_entry_xml(path).root
    meanings = assert_fixed_point(root, tmp_path)
    assert len(meanings) == len({element.get("name") for element in root.iterfind("./entries/entry")}) > 0
    checked_sites(sorted(tmp_path.glob("*.yaml")))


# Values around what fields take and what they do not.
_WORDS = st.sampled_from(
    (
        "",
        "True",
        "False",
        "true",
        "no",
        "007",
        "-3",
        "1e3",
        "0.2",
        "~",
        "a'b",
        'x "y"',
        "a: b #c",
        "$(X)",
        "&<>",
        "é\u0085",
    )
)
_ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), max_size=12)
_TEXT = _WORDS | _ANY_TEXT | st.sampled_from(("one\ntwo", "tab\tbed", "del\x7f"))
_NUMBER = st.integers(0, 200_000).map(str)
_MAYBE_NUMBER = st.none() | _NUMBER | _TEXT
_FLAG = st.sampled_from(("True", "True", "False", "true", None))
_ATTR_NAME = st.sampled_from(
    (
        *("GLIDEIN_Site", "GLIDEIN_ResourceName", "GLIDEIN_CPUS", "GLIDEIN_MaxMemMBs", "GLIDEIN_Max_Walltime"),
        *(
            "GLIDEIN_CMSSite",
            "GLIDEIN_Country",
            "GLIDEIN_Supported_VOs",
            "GLIDEIN_Resource_Slots",
            "OWN",
            "a b",
            "a\nb",
        ),
    )
)
_SUBMIT_NAME = st.sampled_from(
    (
        *("+NodeNumber", "+SMPGranularity", "+HostNumber", "+HostSMPSize", "+WholeNodes", "request_memory", "+own"),
        *("batch_runtime", "batch_queue", "+remote_queue", "batch_project", "batch_extra_submit_args", "Universe"),
        *("Request_Memory", "request_gpus", "a b"),
    )
)
_SUBMIT_VALUE = st.sampled_from(("8", "16", "2", "True", "172800", "normal", '"normal"', "a;b", "--x=1 --y=2")) | _TEXT
_FILE_NAMES = st.sampled_from(("", "ba", "aa", "aba"))
_LIMITS = st.fixed_dictionaries({}, optional=dict.fromkeys(("glideins", "idle", "held", "odd"), _NUMBER | _TEXT))


def _element(tag: str, values: Mapping[str, Optional[str]], *children: etree._Element) -> etree._Element:
    element = etree.Element(tag)
    for name, value in values.items():
        if value is not None:
            element.set(name, value)
    element.extend(children)
    return element


_REQUEST = st.builds(
    ResourceRequest,
    cpus=st.integers(1, 64),
    memory_mb=st.none() | st.integers(1, 64000),
    walltime_s=st.none() | st.sampled_from((3600, 5400, 86399, 172800)),
    nodes=st.sampled_from((1, 1, 2)),
    gpus=st.integers(0, 2),
    whole_node=st.booleans(),
    queue=st.sampled_from((None, "normal", "part@cluster")),
    extra_args=st.sampled_from(((), ("--qos=high", "--constraint=knl"))),
)


@st.composite
def requested(draw: st.DrawFn, system: str) -> tuple[list[etree._Element], list[etree._Element]]:
    """The <attr> and <submit_attr> elements of a request, as our own rendering has them, or nearly."""
    request = draw(_REQUEST)
    try:
        submit = batch_system(system).submit_attrs(request)
    except BatchError:
        return [], []
    walltime = draw(st.sampled_from((1800, 1200, 0))) if request.walltime_s else 0
    values = {
        "GLIDEIN_Site": "T3_XX_Test",
        "GLIDEIN_ResourceName": draw(st.sampled_from(("T3_XX_Test", "CE1"))),
        "GLIDEIN_CPUS": str(request.cpus),
        "GLIDEIN_MaxMemMBs": str(request.memory_mb or 1),
        "GLIDEIN_Max_Walltime": str((request.walltime_s or 1) - walltime),
        "GLIDEIN_Resource_Slots": f"GPUs,{request.gpus},type=main",
    }
    attrs = [complete_attr(Attr(name, value)) for name, value in values.items()]
    dropped = draw(st.sampled_from((None, None, "GLIDEIN_CPUS", "GLIDEIN_Resource_Slots")))
    flags = ("name", "value", "type", "const", "parameter", "publish", "glidein_publish", "job_publish")
    return (
        [_element("attr", {key: str(getattr(a, key)) for key in flags}) for a in attrs if a.name != dropped],
        [_element("submit_attr", {"name": item.name, "value": item.value}) for item in submit],
    )


@st.composite
def entries(draw: st.DrawFn, name: str) -> etree._Element:
    values = draw(
        st.fixed_dictionaries(
            {
                "gridtype": st.sampled_from(("batch slurm", "batch pbs", "batch sge", "batch lsf", "batch condor"))
                | st.sampled_from(("condor", "batch", "", None)),
                "gatekeeper": st.sampled_from(("pilot@h.example.org", "cms@h.example.org", "pilot@h.example.org:2222"))
                | st.sampled_from(("pilot@h.example.org:22", "x.invalid x.invalid:9619", "@@", "", None))
                | _TEXT,
                "enabled": _FLAG,
                "auth_method": st.sampled_from(("key_pair", "scitoken", None)),
                "trust_domain": st.sampled_from(("grid", "bosco", "a b", None)),
                "bosco_dir": st.sampled_from((None, None, "bosco-osg", "../x")),
            },
            optional=dict.fromkeys(("comment", "work_dir", "proxy_url", "verbosity", "rsl", "vm_id", "odd"), _TEXT),
        )
    )
    # Half of the entries are tidy: our own rendering, give or take a little.
    tidy = draw(st.booleans())
    if tidy:
        values["gridtype"] = f"batch {draw(st.sampled_from(tuple(BATCH_SYSTEMS)))}"
        values["gatekeeper"] = draw(st.sampled_from(("pilot@h.example.org", "cms@h.example.org", "a@b:22", "a@b:23")))
    attr = st.fixed_dictionaries(
        {"name": _ATTR_NAME, "value": st.sampled_from(("T3_XX_Test", "8", "171000", "GPUs,2,type=main")) | _TEXT}
        | dict.fromkeys(("const", "parameter", "publish", "glidein_publish", "job_publish"), _FLAG)
        | {"type": st.sampled_from(("string", "int", "expr", "bool", None))},
        optional={"comment": _TEXT},
    )
    submit = st.fixed_dictionaries({"name": _SUBMIT_NAME, "value": st.none() | _SUBMIT_VALUE})
    attrs, submit_attrs = draw(requested(str(values["gridtype"])[6:])) if tidy else ([], [])
    attrs += [_element("attr", item) for item in draw(st.lists(attr, max_size=3 if tidy else 6))]
    submit_attrs += [_element("submit_attr", item) for item in draw(st.lists(submit, max_size=1 if tidy else 6))]
    named = st.fixed_dictionaries({"name": st.sampled_from(("cms:prod", "osg", "a b", None))})
    jobs = [_element(tag, draw(_LIMITS)) for tag in draw(st.lists(st.sampled_from(("per_entry", "other")), max_size=3))]
    jobs.append(
        _element("per_frontends", {}, *[_element("per_frontend", {**draw(named), **draw(_LIMITS)}) for _ in "ab"])
    )
    pace = {
        "max_per_cycle": draw(_MAYBE_NUMBER),
        "sleep": draw(_MAYBE_NUMBER | st.sampled_from(("0.2", "2.0", "1e-05"))),
    }
    children = [
        _element(
            "config",
            {},
            _element("max_jobs", {"num_factories": draw(_MAYBE_NUMBER)}, *jobs),
            _element("stale_age", {"x": draw(_MAYBE_NUMBER)}),
            _element("release", pace),
            _element(
                "submit",
                {**pace, "slots_layout": draw(st.sampled_from(("fixed", "odd", None)))},
                _element("submit_attrs", {}, *submit_attrs),
            ),
        ),
        _element("attrs", {}, *attrs),
        _element(
            "allow_frontends", {}, *(_element("allow_frontend", draw(named)) for _ in draw(st.sampled_from(("", "ab"))))
        ),
        _element(
            "files",
            {},
            *(_element("file", {"absfname": f"/{n}"}) for n in draw(st.sampled_from(("", "ba", "aa", "aba")))),
        ),
    ]
    # Of two sections, the last one counts.
    children += draw(st.lists(st.sampled_from(children).map(copy.deepcopy), max_size=2))
    children += [_element(tag, {}) for tag in draw(st.lists(st.sampled_from(("attrs", "config", "files")), max_size=1))]
    return _element("entry", {"name": name, **values}, *draw(st.permutations(children)))


# 250 examples of two entries, which may share a login host, are 500 entries.
@settings(max_examples=250, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.tuples(entries("E1"), entries("E2")))
def test_generated_entries_are_a_fixed_point(
    tmp_path_factory: pytest.TempPathFactory, pair: tuple[etree._Element, etree._Element]
) -> None:
    root = _element("glidein", {}, _element("entries", {}, *pair))
    # As a file has it: control characters in values are character references.
    root = etree.fromstring(etree.tostring(root))
    assert len(assert_fixed_point(root, tmp_path_factory.mktemp("sites"))) == 2


def test_own_rendering_comes_back_as_fields(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "login.example.org.yaml"
    path.write_text(
        "site: T3_XX_Test\ncountry: US\ntrust_domain: bosco.test\nlogin: {host: login.example.org, port: 2222}\n"
        "accounts:\n- {user: pilot}\nbatch: {system: slurm}\ninstall: {bosco_dir: bosco-osg}\n"
        "entries:\n- name: E\n  enabled: false\n  cpus: 8\n  memory_mb: 16000\n  walltime: 48h\n"
        "  walltime_margin: 20m\n  nodes: 2\n  gpus: 1\n  whole_node: true\n"
        "  batch:\n    queue: normal\n    project: m1\n    extra_args:\n    - '--qos=high'\n    - '--constraint=knl'\n",
        encoding="utf-8",
    )
    site = only(rendered([path]))
    assert site.kept == ()
    assert load_site(written([site], tmp_path)[0])[0] == load_site(path)[0]


def test_request_without_its_published_attribute_stays_a_submit_attribute(tmp_path: Path) -> None:
    site = only(glidein(entry(attrs=NAMES, submit='<submit_attr name="request_memory" value="16000"/>')))
    assert data_of(site, tmp_path)["submit_attrs"] == {"request_memory": 16000}


def test_queue_becomes_a_field(tmp_path: Path) -> None:
    site = only(glidein(entry(attrs=NAMES, submit='<submit_attr name="batch_queue" value="normal"/>')))
    assert data_of(site, tmp_path)["batch"] == {"queue": "normal"}


def test_queue_in_another_spelling_is_kept_and_accepted(tmp_path: Path) -> None:
    site = only(glidein(entry(attrs=NAMES, submit='<submit_attr name="+remote_queue" value="&quot;normal&quot;"/>')))
    assert data_of(site, tmp_path)["raw"] == {"submit_attrs": {"+remote_queue": '"normal"'}}
    assert site.to_do == ()


def test_unsafe_queue_is_kept_reported_and_refused_by_check(tmp_path: Path) -> None:
    site = only(glidein(entry(attrs=NAMES, submit='<submit_attr name="batch_queue" value="a;id"/>')))
    assert [problem.field for problem in site.to_do] == ["entries[0].raw.submit_attrs.batch_queue"]
    assert "refuses this file until" in site.text
    with pytest.raises(SiteFileError, match="is not allowed there"):
        load_site(written([site], tmp_path)[0])


def test_unsafe_queue_in_a_fragment_is_refused_too(tmp_path: Path) -> None:
    site = only(glidein(entry(attrs=NAMES, submit='<submit_attr name="batch_queue" value="a;id" comment="x"/>')))
    assert [problem.field for problem in site.to_do] == ["entries[0].raw.children[0]"]
    assert "error" in {problem.severity for problem in problems_of(written([site], tmp_path)[0])}


def test_empty_value_and_quote_survive_with_a_warning(tmp_path: Path) -> None:
    attrs = f'<attr name="A" {PLAIN} type="string" value=""/><attr name="B" {PLAIN} type="string" value="it\'s"/>'
    site = only(glidein(entry(attrs=attrs)))
    assert [(item.field, item.why[:8]) for item in site.kept] == [
        ("raw.attrs.A", "is empty"),
        ("raw.attrs.B", '"\'" in t'),
    ]
    path = written([site], tmp_path)[0]
    warned = [problem.field for problem in load_site(path)[1] if problem.severity == "warning"]
    assert {"entries[0].raw.attrs.A", "entries[0].raw.attrs.B"} <= set(warned)
    assert entry_meanings(rendered([path]))["E"]["attrs/[A]/@value"] == ""


def test_entry_without_site_name_derives_nothing(tmp_path: Path) -> None:
    site = only(glidein(entry(attrs=f'<attr name="GLIDEIN_CPUS" {PUBLISHED} type="string" value="8"/>')))
    path = written([site], tmp_path)[0]
    assert not load_site(path)[0].entries[0].raw.derive
    assert "attrs/[GLIDEIN_Site]/@name" not in entry_meanings(rendered([path]))["E"]


def test_what_has_no_field_is_kept_as_xml_in_its_order(tmp_path: Path) -> None:
    files = '<files><file absfname="/b"/><!-- why --><file absfname="/a"/></files><monitorgroups/>'
    site = only(glidein(entry(inside=files)))
    assert [item.field for item in site.kept] == ["raw.children <files>"]
    back = rendered(written([site], tmp_path))
    assert [element.get("absfname") for element in back.iter("file")] == ["/b", "/a"]


def test_disabling_an_imported_entry_wins_over_raw(tmp_path: Path) -> None:
    root = etree.fromstring(f'<glidein><entries><entry name="E" {BATCH}/></entries></glidein>')
    path = written([only(root)], tmp_path)[0]
    assert "@enabled" not in entry_meanings(rendered([path]))["E"]
    path.write_text(
        path.read_text(encoding="utf-8").replace("- name: E", "- name: E\n  enabled: false"), encoding="utf-8"
    )
    assert entry_meanings(rendered([path]))["E"]["@enabled"] == "False"


def test_enabled_entry_needs_a_pinned_host_key_before_it_is_rendered(tmp_path: Path) -> None:
    root = etree.fromstring(f'<glidein><entries><entry name="E" {BATCH} enabled="True"/></entries></glidein>')
    site = only(root)
    assert [problem.field for problem in site.to_do] == ["login.host_keys"]
    path = written([site], tmp_path)[0]
    pinned = f'login: {{host: login.example.org, host_keys: ["{HOST_KEY}"]}}'
    path.write_text(
        path.read_text(encoding="utf-8").replace("login: {host: login.example.org}", pinned), encoding="utf-8"
    )
    assert entry_meanings(etree.fromstring(checked_sites([path]).entry_xml[0])) == entry_meanings(root)


def test_one_file_per_login_host_with_its_accounts(tmp_path: Path) -> None:
    other = BATCH.replace("pilot@", "cms@")
    pbs = BATCH.replace("batch slurm", "batch pbs")
    sites = import_sites(glidein(entry(name="A"), entry(other, name="B"), entry(pbs, name="C")), "factory.xml")
    assert [(site.short_name, site.entries) for site in sites] == [
        ("login.example.org", ("A", "B")),
        ("login.example.org-pbs", ("C",)),
    ]
    site = load_site(written(sites, tmp_path)[0])[0]
    assert [account.user for account in site.accounts] == ["pilot", "cms"]
    assert site.entries[1].accounts == ("cms",)


MANUAL = 'gridtype="condor" gatekeeper="x.invalid x.invalid:9619" auth_method="scitoken" trust_domain="grid"'


def test_entry_without_login_host_says_what_to_set(tmp_path: Path) -> None:
    site = only(glidein(entry(MANUAL)))
    assert (site.short_name, site.to_do) == ("x.invalid", ())
    assert "# No login host is known. Before deploy, set login.host" in site.text
    assert data_of(site, tmp_path)["raw"] == {
        "derive": False,
        "attributes": {"auth_method": "scitoken", "gatekeeper": "x.invalid x.invalid:9619", "gridtype": "condor"},
    }


def test_connecting_without_login_host_names_the_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GWMS_BOSCO_SITES", str(tmp_path))
    monkeypatch.setenv("GWMS_BOSCO_STATE", str(tmp_path))
    monkeypatch.setenv("GWMS_BOSCO_CONFIG_D", str(tmp_path))
    monkeypatch.delenv("GWMS_BOSCO_CONFIG", raising=False)
    written([only(glidein(entry(MANUAL)))], tmp_path)
    with pytest.raises(SiteError, match=r"login\.host is not set"):
        find_account("x.invalid", load_settings())


def test_login_is_missed_where_an_entry_has_no_raw_gatekeeper(tmp_path: Path) -> None:
    text = only(glidein(entry(MANUAL))).text.replace("      gridtype: condor\n", "")
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    assert [(problem.field, problem.severity) for problem in problems_of(path)][:1] == [("login", "error")]


def warnings_of(folder: Path, old: str, new: str) -> dict[str, str]:
    """Warnings about `raw` after one change to an imported file."""
    text = only(glidein(entry())).text
    assert old in text
    path = folder / "x.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    found = load_site(path)[1]
    return {problem.field: problem.message for problem in found if ".raw." in problem.field}


def test_raw_attribute_in_place_of_login_is_a_warning(tmp_path: Path) -> None:
    new = "derive: false\n    attributes: {gatekeeper: 'a@b', gridtype: batch pbs, bosco_dir: '$(id)'}"
    found = warnings_of(tmp_path, "derive: false", new)
    assert "in place of what `login` says" in found["entries[0].raw.attributes.gatekeeper"]
    assert "in place of what `batch.system` says" in found["entries[0].raw.attributes.gridtype"]
    assert "reaches a command line" in found["entries[0].raw.attributes.bosco_dir"]


def test_field_without_effect_is_a_warning(tmp_path: Path) -> None:
    found = warnings_of(tmp_path, "- name: E\n", "- name: E\n  cpus: 8\n  walltime: 48h\n")
    assert found == {"entries[0].raw.derive": "with false, these have no effect: cpus, walltime"}


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE files [<!ENTITY a 'b'>]><files/>",
        "<files>",
        "<files/><files/>",
        "<?x y?><files/>",
        '<entry name="F"/>',
    ],
)
def test_fragment_that_is_not_one_element_is_refused(text: str, tmp_path: Path) -> None:
    path = written([only(glidein(entry()))], tmp_path)[0]
    path.write_text(
        path.read_text(encoding="utf-8").replace("derive: false", f"derive: false\n    children: [{json.dumps(text)}]"),
        encoding="utf-8",
    )
    assert [problem.field for problem in problems_of(path) if problem.severity == "error"] == [
        "entries[0].raw.children[0]"
    ]


def test_name_that_no_site_file_can_hold_is_refused() -> None:
    with pytest.raises(EntryError, match="cannot stand in a site file"):
        import_sites(glidein(entry(name="a b")), "factory.xml")


# What is left behind


def left_of(text: str, *names: str) -> list[tuple[str, int, str, Optional[str]]]:
    root = etree.fromstring(text)
    sites = import_sites(root, "factory.xml", names)
    left = left_behind(root, names)
    assert set(left) == {item for site in sites for item in site.left}
    return [(item.what, item.line, item.why, item.entry) for item in left]


def test_last_section_is_imported_and_the_earlier_one_reported(tmp_path: Path) -> None:
    text = (
        f'<glidein><entries>\n<entry name="E" {BATCH} enabled="False">\n'
        f'<attrs><attr name="OLD" {PLAIN} type="string" value="1"/></attrs>\n'
        '<config><submit sleep="7"/></config>\n'
        f'<attrs><attr name="NEW" {PLAIN} type="string" value="x"/></attrs>\n'
        '<config><submit cluster_size="3"/>\n<submit cluster_size="4"/></config></entry></entries></glidein>'
    )
    root = etree.fromstring(text)
    site = only(root)
    data = data_of(site, tmp_path)
    assert list(dict(data["attrs"])) == ["NEW"]  # type: ignore[call-overload]
    assert data["submit"] == {"cluster_size": 4}
    not_read = "glideinWMS does not read it: of two, the last one counts"
    assert left_of(text) == [
        ("<attrs>", 3, f"with <attr> OLD; {not_read}", "E"),
        ("<config>", 4, f"with <submit>; {not_read}", "E"),
        ("<submit>", 6, f'with cluster_size="3"; {not_read}', "E"),
    ]
    assert "# Not imported from there: <attrs> (line 3), <config> (line 4), <submit> (line 6).\n" in site.text


def test_site_names_come_from_the_last_section(tmp_path: Path) -> None:
    old = NAMES.replace("T3_XX_Test", "T3_XX_Old")
    site = only(glidein(entry(inside=f"<attrs>{old}</attrs>", attrs=NAMES)))
    assert describe_site(written([site], tmp_path)[0]).name == "T3_XX_Test"


def test_only_the_last_entries_element_is_imported() -> None:
    text = f"<glidein><entries>{entry(name='OLD')}</entries>\n<entries>{entry(name='NEW')}</entries></glidein>"
    assert only(etree.fromstring(text)).entries == ("NEW",)
    why = "with <entry> OLD; glideinWMS does not read it: of two, the last one counts"
    assert left_of(text) == [("<entries>", 1, why, None)]


def test_entries_that_glideinwms_does_not_read_are_said_to_be() -> None:
    root = etree.fromstring(f"<glidein><entries>{entry()}</entries><entries/></glidein>")
    with pytest.raises(EntryError, match="its last <entries> has no <entry>"):
        import_sites(root, "factory.xml")


def test_two_entries_of_one_name_are_refused_with_both_lines() -> None:
    root = etree.fromstring(f"<glidein><entries>\n{entry()}\n{entry(name='F')}\n{entry(MANUAL)}</entries></glidein>")
    with pytest.raises(
        EntryError, match=r"^factory\.xml:2: the entry 'E' stands there again in line 4; reconfig mixes"
    ):
        import_sites(root, "factory.xml")
    assert [site.entries for site in import_sites(root, "factory.xml", ["F"])] == [("F",)]


def test_everything_outside_entries_is_reported() -> None:
    text = (
        '<glidein factory_name="F">\n<attrs><attr name="G" value="1"/><attr value="2"/></attrs>\n'
        '<files><file absfname="/x"/></files>\n<frontends/>\n<monitor base_dir="/m"/>\n'
        f"<entries>{entry()}</entries></glidein>"
    )
    stays = "is not part of an entry; it stays there"
    assert left_of(text) == [
        ("attributes of <glidein>", 1, "factory_name; they stay where they are", None),
        ("<attrs>", 2, f"with <attr> G, <attr> without a name; {stays}", None),
        ("<files>", 3, f"with <file> /x; {stays}", None),
        ("<frontends>", 4, stays, None),
        ("<monitor>", 5, f'with base_dir="/m"; {stays}', None),
    ]


def test_comments_are_counted_and_entries_in_them_named() -> None:
    text = (
        f"<!-- top -->\n<glidein><entries>\n<!-- <entry name='GONE' enabled=\"False\"><attrs/></entry> -->\n"
        f"{entry(inside='<!-- why -->')}</entries></glidein>\n<!-- end -->"
    )
    assert left_of(text) == [
        ("4 comments", 1, "comments are not imported", None),
        ("<entry> GONE", 3, "stands in a comment", None),
    ]


def test_list_items_that_do_not_count_are_reported() -> None:
    attrs = (
        f'<attr value="1"/>\n<attr value="2"/>\n<attr/>\n<attr name="A" {PLAIN} type="string" value="x"/>\n'
        f'<attr name="A" {PLAIN} type="string" value="y"/>'
    )
    text = f"<glidein><entries>\n{entry(attrs=attrs)}{entry(name='F', attrs='<attr/>')}</entries></glidein>"
    assert left_of(text, "E") == [
        ("<attr> without a name", 2, "the later one of that name counts, line 4", "E"),
        ("<attr> without a name", 3, "the later one of that name counts, line 4", "E"),
        ("<attr> without a name", 4, "says nothing", "E"),
        ("<attr> A", 5, "the later one of that name counts, line 6", "E"),
    ]


def test_one_attribute_without_a_name_is_kept(tmp_path: Path) -> None:
    site = only(glidein(entry(attrs='<attr value="1"/>')))
    assert (site.left, [item.field for item in site.kept]) == ((), ["raw.children <attrs>"])
    assert entry_meanings(rendered(written([site], tmp_path)))["E"]["attrs/[]/@value"] == "1"


def test_long_sections_are_named_in_short() -> None:
    attrs = "".join(f'<attr name="A{i}"/>' for i in range(7))
    others = "".join(f"<x{i}/>" for i in range(8))
    text = f"<glidein><attrs>{attrs}</attrs>{others}<entries>{entry()}</entries></glidein>"
    assert left_of(text)[0][2].startswith("with <attr> A0, <attr> A1, <attr> A2, <attr> A3, <attr> A4 and 2 more; ")
    assert "<x4> (line 1) and 3 more.\n" in only(etree.fromstring(text)).text


def test_files_named_twice_keep_their_order(tmp_path: Path) -> None:
    names = ["/b", "/a", "/b"]
    files = "".join(f'<file absfname="{name}"/>' for name in names)
    root = glidein(entry(inside=f"<files>{files}</files>"))
    assert_fixed_point(root, tmp_path)
    assert only(root).left == ()
    assert [file.get("absfname") for file in rendered(sorted(tmp_path.glob("*.yaml"))).iter("file")] == names


# The command


def call(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_import(parser.add_subparsers())
    args = parser.parse_args(["import", *arguments])
    return int(args.run(args))


@pytest.fixture
def factory_file(tmp_path: Path) -> Path:
    path = tmp_path / "factory.xml"
    root = glidein(entry(name="A", attrs=f'<attr name="X" {PLAIN} type="string" value=""/>'), entry(MANUAL, name="B"))
    path.write_bytes(etree.tostring(root))
    return path


def test_prints_a_site_file(factory_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(str(factory_file), "A") == 0
    output = capsys.readouterr()
    path = tmp_path / "printed.yaml"
    path.write_text(output.out, encoding="utf-8")
    assert [found.name for found in load_site(path)[0].entries] == ["A"]
    assert "kept: raw.attrs.X (A): is empty" in output.err


def test_prints_several_site_files_with_their_names(factory_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(str(factory_file)) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# login.example.org.yaml\n")
    assert "---\n# x.invalid.yaml\n" in printed


def test_writes_files_and_refuses_to_replace_one(
    factory_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    assert call(str(factory_file), "--output", str(folder)) == 0
    assert "written: " in capsys.readouterr().out
    (folder / "login.example.org.yaml").unlink()
    mine = folder / "x.invalid.yaml"
    mine.write_text("mine", encoding="utf-8")
    with pytest.raises(EntryError, match="exists, nothing was written"):
        call(str(factory_file), "--output", str(folder))
    assert [(path.name, path.read_text(encoding="utf-8")) for path in folder.iterdir()] == [("x.invalid.yaml", "mine")]
    assert call(str(factory_file), "--output", str(folder), "--force") == 0
    assert load_site(mine)[0].entries[0].name == "B"


def test_json_names_what_was_kept(factory_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(str(factory_file), "A", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["sites"]
    assert {"entry": "A", "field": "raw.attrs.X", "why": "is empty"} in row["kept"]
    assert row["action"] == "not written"


def test_report_and_json_name_what_was_left(factory_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = factory_file.read_text(encoding="utf-8").replace("<glidein>", "<glidein>\n<attrs/>\n<!-- c -->", 1)
    factory_file.write_text(text.replace("<attrs>", "<attrs/><attrs>", 1), encoding="utf-8")
    assert call(str(factory_file)) == 0
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("left: ")] == [
        f"left: {factory_file}:2: <attrs>: is not part of an entry; it stays there",
        f"left: {factory_file}:3: 1 comment: comments are not imported",
        f"left: {factory_file}:3: <attrs> of entry A: glideinWMS does not read it: of two, the last one counts",
    ]
    assert call(str(factory_file), "--json") == 0
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert set(document) == {"source", "sites", "left"}
    assert [(item["what"], item["line"], item["entry"]) for item in document["left"]] == [
        ("<attrs>", 2, None),
        ("1 comment", 3, None),
        ("<attrs>", 3, "A"),
    ]
    assert output.err == ""


def test_unknown_entry_is_named(factory_file: Path) -> None:
    with pytest.raises(UsageError, match="has no entry 'C'; it has 2: A, B"):
        call(str(factory_file), "C")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    for text, message in (("no xml", "well-formed"), ("<a/>", "root element is <a>"), ("<glidein/>", "has no <entry>")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(EntryError, match=message):
            call(str(path))


def test_entry_sets_are_said_to_stay(factory_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = factory_file.read_text(encoding="utf-8").replace(
        "</glidein>", "<entry_sets><entry_set/></entry_sets></glidein>"
    )
    factory_file.write_text(text, encoding="utf-8")
    assert call(str(factory_file), "A") == 0
    assert "entry sets are not imported" in capsys.readouterr().err
    assert call(str(factory_file), "A", "--json") == 0
    output = capsys.readouterr()
    assert [item["what"] for item in json.loads(output.out)["left"]] == ["<entry_sets>"]
    assert output.err == ""
