# SPDX-License-Identifier: Apache-2.0
"""Every code is found in an entry that has one thing wrong, and nothing is found in one that has nothing wrong."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from glideinwms_bosco.cli.entry_lint import add_lint
from glideinwms_bosco.entry import lint_submit
from glideinwms_bosco.entry.lint import lint
from glideinwms_bosco.entry.lint_codes import RULES, SEVERITIES, codes_page
from glideinwms_bosco.entry.lint_context import Finding
from glideinwms_bosco.entry.render import render_site
from glideinwms_bosco.errors import UsageError
from glideinwms_bosco.site.load import load_site

CHECKOUT = Path(__file__).parents[2]
CPUS = '<attr name="GLIDEIN_CPUS" value="8"/>'


def _entry(inside: str = "", drop: str = "", cpus: str = CPUS, **attributes: str) -> str:
    """A batch entry without any finding, except for what is given; `drop` names an attribute to leave out."""
    values = {
        "name": "E",
        "gatekeeper": "pilot@login.example.org",
        "gridtype": "batch slurm",
        "auth_method": "key_pair",
        "bosco_dir": "bosco",
        **attributes,
    }
    text = " ".join(f'{name}="{value}"' for name, value in values.items() if name != drop)
    attrs = f"<attrs>{cpus}</attrs>" if "<attrs>" not in inside else ""
    return f"<entry {text}>{attrs}{inside}</entry>"


def _file(entries: str, before: str = "", root: str = "") -> str:
    return f"<glidein {root}>{before}<entries>{entries}</entries></glidein>"


def _attrs(attrs: str) -> str:
    return _file(_entry(f"<attrs>{CPUS}{attrs}</attrs>"))


def _config(config: str) -> str:
    return _file(_entry(f"<config>{config}</config>"))


def _jobs(jobs: str) -> str:
    return _config(f"<max_jobs>{jobs}</max_jobs>")


def _submit(attrs: str, system: str = "slurm") -> str:
    config = f"<config><submit><submit_attrs>{attrs}</submit_attrs></submit></config>"
    return _file(_entry(config, gridtype=f"batch {system}"))


def _files(files: str) -> str:
    return _file(_entry(f"<files>{files}</files>"))


def _found(folder: Path, *texts: str, version: str = "3.10") -> tuple[Finding, ...]:
    for i, text in enumerate(texts):
        (folder / f"{i}.xml").write_text(text, encoding="utf-8")
    return lint([folder], version)


def _codes(findings: tuple[Finding, ...]) -> list[str]:
    return sorted({finding.code for finding in findings})


OK = 'absfname="/etc/passwd"'
TARBALL = '<condor_tarballs><condor_tarball version="10.0,default" base_dir="/opt/condor"/></condor_tarballs>'
GLOBAL = '<attrs><attr name="A" value="1"/></attrs>'
CVMFS = '<attr name="GLIDEIN_USE_CVMFSEXEC" value="0"/>'
OVERLOAD = '<attr name="GLIDEIN_OVERLOAD_ENABLED" value="{}"/>'
WALLTIME = (
    '<attrs><attr name="GLIDEIN_CPUS" value="8"/><attr name="GLIDEIN_Max_Walltime" type="int" value="7200"/></attrs>'
)
RUNTIME = (
    '<config><submit><submit_attrs><submit_attr name="batch_runtime" value="{}"/></submit_attrs></submit></config>'
)

# Rows marked R are refused by reconfig, those marked A are accepted in silence.
ROWS = [
    # R: bad XML in any file; another root element.
    (1, "<glidein><entries></glidein>"),
    (1, "<factory/>"),
    # A: unknown attributes and elements.
    (2, _file(_entry(boeco_dir="bosco", drop="bosco_dir"))),
    (3, _file(_entry(colour="red"))),
    (3, _file(_entry(boeco_dir="bosco"))),
    (4, _file(_entry("<submit_attrs/>"))),
    (4, _file(_entry(f"<attrs><file/>{CPUS}</attrs>"))),
    (5, _file(_entry(f"<attrs/><attrs>{CPUS}</attrs>"))),
    (6, _file(_entry("<allow_frontends><allow_frontend/></allow_frontends>"))),
    (6, _attrs('<attr value="1"/>')),
    (6, _jobs('<per_frontends><per_frontend glideins="1" idle="1"/></per_frontends>')),
    (8, _file(_entry() + _entry())),
    # A: newline in a value.
    (9, _attrs('<attr name="A" value="a&#10;b"/>')),
    (10, _file(_entry(drop="name"))),
    (10, _file("", "<entry_sets><entry_set><entries/></entry_set></entry_sets>")),
    # R: entry name with a slash.
    (11, _file(_entry(name="a/b"))),
    (11, _file(_entry(name="a b"))),
    # R: missing gatekeeper; A: an empty one.
    (12, _file(_entry(drop="gatekeeper"))),
    (12, _file(_entry(gatekeeper=""))),
    # R: enabled="true".
    (13, _file(_entry(enabled="true"))),
    (14, _file(_entry(gatekeeper="pilot@h h:9619"))),
    (14, _file(_entry(gatekeeper="pilot@h:99999"))),
    (15, _file(_entry(gatekeeper="login.example.org"))),
    # A: gridtype, auth_method, verbosity, slots_layout garbage.
    (16, _file(_entry(gridtype="batch"))),
    (16, _file(_entry(gridtype="batch "))),
    (17, _file(_entry(gridtype="batch slrum"))),
    (18, _file(_entry(gridtype="bacth slurm"))),
    (19, _file(_entry(gridtype="gt5"))),
    (20, _file(_entry(auth_method="key_pair+nonsense"))),
    (21, _file(_entry(verbosity="loud"))),
    (22, _config('<submit slots_layout="dynamic"/>')),
    (23, _file(_entry(work_dir="scratch"))),
    (24, _file(_entry(drop="bosco_dir"))),
    (25, _file(_entry(bosco_dir="/home/bosco"))),
    (25, _file(_entry(bosco_dir="../bosco"))),
    (26, _file(_entry(schedd_name="s@h"))),
    (27, _file(_entry(trust_domain=""))),
    (27, _submit('<submit_attr name="+A" value=""/>')),
    (28, _file(_entry(auth_method="grid_proxy"))),
    (29, _file(_entry(), "<condor_tarballs/>", 'factory_name="f"')),
    # R: per_entry no number.
    (30, _jobs('<per_entry glideins="many"/>')),
    (30, _jobs('<per_entry held="-1"/>')),
    (31, _jobs('<per_entry glideins="10" idle="11"/>')),
    (32, _jobs('<default_per_frontend held="0"/>')),
    (33, _jobs('<per_entry glideins="10" idle="5"/><default_per_frontend glideins="11" idle="5"/>')),
    (34, _jobs('<per_entry glideins="0" idle="0"/>')),
    (35, _config('<submit sleep="fast"/>')),
    (35, _config('<stale_age idle="1 h"/>')),
    (36, _config('<submit cluster_size="0"/>')),
    # R: no value; bad type; no number; bad flag; contradictions; twice with different values.
    (40, _attrs('<attr name="A"/>')),
    (41, _attrs('<attr name="A" type="bool" value="1"/>')),
    (42, _attrs('<attr name="A" type="int" value="8 GB"/>')),
    (43, _attrs('<attr name="A" const="yes" value="1"/>')),
    (44, _attrs('<attr name="A" publish="False" const="False" value="1"/>')),
    (44, _attrs('<attr name="A" parameter="False" const="False" value="1"/>')),
    (45, _attrs('<attr name="A" value="1"/><attr name="A" value="2"/>')),
    # A: empty values, names with blanks.
    (46, _attrs('<attr name="A" value="1"/><attr value="1" name="A"/>')),
    (47, _attrs('<attr name="A" value=""/>')),
    (48, _attrs('<attr name="MY SITE" value="a"/>')),
    (49, _attrs('<attr name="A" value="it\'s" glidein_publish="True"/>')),
    (50, _attrs('<attr name="A" value="a &quot;b&quot;" job_publish="True"/>')),
    (51, _attrs('<attr name="A" value="a &amp; b"/>')),
    (52, _file(_entry(f'<attrs>{CPUS}<attr name="A" const="False" value="1"/></attrs>'), GLOBAL)),
    (54, _attrs('<attr name="GLIDEIN_SINGULARITY_REQUIRE" value="True"/>')),
    # R: any value but the number 0, even the string.
    (55, _attrs(CVMFS)),
    (56, _attrs(OVERLOAD.format("10%"))),
    (57, _file(_entry(cpus=""))),
    (58, _file(_entry(WALLTIME + RUNTIME.format(7200)))),
    # R: files.
    (60, _files("<file/>")),
    (60, _files('<file absfname="/etc/"/>')),
    (61, _files('<file absfname="/missing/file.sh"/>')),
    (62, _files(f'<file {OK} executable="yes"/>')),
    (63, _files(f'<file {OK} executable="True" wrapper="True"/>')),
    (64, _files(f'<file {OK} executable="True" const="False"/>')),
    (65, _files(f'<file {OK} period="60"/>')),
    (65, _files(f'<file {OK} executable="True" period="1 min"/>')),
    (66, _files(f'<file {OK} type="run"/>')),
    (67, _files(f'<file {OK} time="bogus"/>')),
    (68, _files(f'<file {OK} after_entry="True"/>')),
    # A: the same file twice.
    (69, _files(f"<file {OK}/><file {OK}/>")),
    (69, _files(f'<file {OK}/><file absfname="/etc/group" relfname="passwd"/>')),
    (70, _files(f'<file {OK} executable="True" type="exec:s"/>')),
    (70, _files(f'<file {OK} time="cleanup"/>')),
    (71, _files(f'<file {OK} relfname=""/>')),
    # R: without name; a key of glideinWMS's own. A: without value.
    (80, _submit('<submit_attr value="1"/>')),
    (81, _submit('<submit_attr name="Universe" value="vanilla"/>')),
    (82, _submit('<submit_attr name="+A"/>')),
    (83, _submit('<submit_attr name="+A" value="1"/><submit_attr name="+A" value="2"/>')),
    (84, _submit('<submit_attr name="request_cpus" value="8"/>')),
    (84, _submit('<submit_attr name="+maxWallTime" value="2880"/>')),
    (84, _submit('<submit_attr name="+maxMemory" value="2000"/>', "pbs")),
    (84, _submit('<submit_attr name="batch_project" value="a"/>', "condor")),
    (84, _submit('<submit_attr name="request_memory" value="2000"/>', "sge")),
    (84, _submit('<submit_attr name="+HostNumber" value="2"/><submit_attr name="+SMPGranularity" value="2"/>')),
    (87, _submit('<submit_attr name="batch_project" value="a b"/>')),
    (87, _submit('<submit_attr name="+remote_queue" value="&quot;a b&quot;"/>')),
    (88, _submit('<submit_attr name="batch_runtime" value="48h"/>')),
    (88, _submit('<submit_attr name="batch_runtime" value="59"/>')),
    (89, _submit('<submit_attr name="request_memory" value="0"/>')),
    (90, _submit('<submit_attr name="batch_runtime" value="61"/>')),
    (91, _submit('<submit_attr name="+remote_queue" value="normal"/>')),
    (92, _submit('<submit_attr name="+remote_cerequirements" value="true"/>')),
    (110, _file(_entry(), '<security><frontends><frontend name="f"/></frontends></security>')),
    (110, _file(_entry("<infosys_refs><infosys_ref ref='a' server='b'/></infosys_refs>"))),
    (110, _file(_entry(), "<condor_tarballs><condor_tarball/></condor_tarballs>")),
    (102, _file(_entry(auth_method="key_pair;grid_proxy"))),
]  # fmt: skip


@pytest.mark.parametrize(("number", "text"), ROWS)
def test_finds_one_thing_wrong(tmp_path: Path, number: int, text: str) -> None:
    findings = _found(tmp_path, text)
    # A misspelt bosco_dir is a missing one, too.
    besides = {2: [24]}.get(number, [])
    assert RULES[number].code in _codes(findings)
    assert {int(finding.code.rpartition("-")[2]) for finding in findings} <= {number, *besides}
    for finding in findings:
        assert (finding.line or number == 1) and finding.message and finding.remedy


NOTHING_WRONG = [
    _file(_entry()),
    _file(_entry(gatekeeper="a.b-c@login:2222", work_dir="AUTO", verbosity="fast", trust_domain="bosco", rsl="")),
    _file(_entry(gridtype="condor", gatekeeper="h.example.org h.example.org:9619", auth_method="scitoken", cpus="")),
    _file(_entry(), TARBALL, 'factory_name="f"'),
    _file(_entry(cpus=""), f"<attrs>{CPUS}</attrs>"),
    _file("<!-- comment -->" + _entry("<attrs><!-- a -->" + CPUS + "<?b c?></attrs>")),
    _attrs('<attr name="A" type="int" value=" 8 "/>'),
    _attrs('<attr name="B" type="expr" value="&quot;a&quot; &amp;&amp; x &lt; 1" glidein_publish="True"/>'),
    _attrs('<attr name="GLIDEIN_USE_CVMFSEXEC" type="int" value="0"/>'),
    _attrs('<attr name="GLIDEIN_OVERLOAD_ENABLED" value="10%" const="False"/>'),
    _jobs('<per_entry glideins="10" held="1" idle="10"/><default_per_frontend glideins="10" idle="10"/>'),
    _jobs('<per_entry glideins="10" idle="10"/>'),
    _config('<stale_age idle="-1" running="60"/><submit sleep="0.2" slots_layout="partitionable"/>'),
    _files(f'<file {OK} executable="True" period="60" const="True"/>'),
    _submit('<submit_attr name="+A" value="strcat(&quot;a&quot;, B)"/><submit_attr name="+C" value="$ENV(X) +"/>'),
    _submit('<submit_attr name="+NodeNumber" value="2"/><submit_attr name="request_memory" value="2 GB"/>'),
    _submit('<submit_attr name="batch_runtime" value="60"/><submit_attr name="batch_queue" value="a@b"/>'),
    _submit('<submit_attr name="batch_runtime" value="59"/>', "pbs"),
    _file(_entry(WALLTIME + RUNTIME.format(7260))),
]  # fmt: skip


@pytest.mark.parametrize("text", NOTHING_WRONG)
def test_finds_nothing_in_what_is_right(tmp_path: Path, text: str) -> None:
    assert [str(finding) for finding in _found(tmp_path, text)] == []


def test_every_code_has_a_test() -> None:
    # Two files, another version, or bindings of HTCondor.
    elsewhere = {7, 53, 85, 86, 100, 101, 103}
    assert {number for number, _ in ROWS} | elsewhere == set(RULES)


def test_codes_are_in_order_and_severities_known() -> None:
    assert list(RULES) == sorted(RULES)
    assert {rule.severity for rule in RULES.values()} == set(SEVERITIES)


def test_page_of_codes_is_current() -> None:
    assert (CHECKOUT / "docs" / "lint-codes.md").read_text(encoding="utf-8") == codes_page()


def test_misspelt_attribute_is_named_with_the_right_one(tmp_path: Path) -> None:
    finding, _missing = _found(tmp_path, _file("\n" + _entry(boeco_dir="bosco", drop="bosco_dir")))
    assert str(finding) == (
        f"{tmp_path}/0.xml:2: error: [BOSCO-ENTRY-02] entry E: <entry> has no attribute 'boeco_dir'; "
        "did you mean bosco_dir?"
    )


def test_replaced_entry_is_named_with_the_one_that_counts_and_not_looked_into(tmp_path: Path) -> None:
    (finding,) = _found(tmp_path, _file("\n" + _entry(enabled="true")), _file(_entry()))
    assert (finding.code, finding.file, finding.line) == (RULES[7].code, f"{tmp_path}/0.xml", 2)
    assert f"{tmp_path}/1.xml:1" in finding.message


def test_const_against_global_attribute_of_another_file_is_a_warning(tmp_path: Path) -> None:
    other = f'<attrs>{CPUS}<attr name="A" const="False" value="1"/></attrs>'
    (finding,) = _found(tmp_path, f"<glidein>{GLOBAL}</glidein>", _file(_entry(other)))
    assert (finding.code, finding.severity) == (RULES[53].code, "warning")


def test_missing_file_is_an_error_only_beside_the_factorys_own_file(tmp_path: Path) -> None:
    entry = _entry('<files><file absfname="/missing/x.sh"/></files>')
    assert [finding.severity for finding in _found(tmp_path, _file(entry))] == ["warning"]
    assert [finding.severity for finding in _found(tmp_path, _file(entry, TARBALL, 'factory_name="f"'))] == ["error"]


@pytest.mark.parametrize("value", ["1 +", "&quot;a", "((1)", "a b"])
def test_finds_what_is_no_classad_expression(tmp_path: Path, value: str) -> None:
    pytest.importorskip("classad2")
    assert _codes(_found(tmp_path, _submit(f'<submit_attr name="+A" value="{value}"/>'))) == [RULES[85].code]


def test_deep_expression_never_reaches_the_parser(tmp_path: Path) -> None:
    value = "(" * 100_000 + "1" + ")" * 100_000
    (finding,) = _found(tmp_path, _submit(f'<submit_attr name="+A" value="{value}"/>'))
    assert (finding.code, finding.severity) == (RULES[85].code, "warning")


def test_says_once_that_expressions_are_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint_submit, "_CLASSAD2", None)
    lint_submit._parses.cache_clear()
    text = _submit('<submit_attr name="+A" value="1 +"/><submit_attr name="+B" value="1 +"/>')
    assert [finding.code for finding in _found(tmp_path, text)] == [RULES[86].code]
    lint_submit._parses.cache_clear()


CONSENT = '<attr name="CONTINUE_IF_NO_PROXY" value="True" const="{}"/>'


@pytest.mark.parametrize(
    ("numbers", "entry"),
    [
        ([100], _entry()),
        ([100], _entry(f"<attrs>{CPUS}{CONSENT.format('True')}</attrs>")),
        ([], _entry(f"<attrs>{CPUS}{CONSENT.format('False')}</attrs>")),
        ([101], _entry(f"<attrs>{CPUS}{CONSENT.format('False')}</attrs>", auth_method="key_pair;username")),
        ([15, 103], _entry(f"<attrs>{CPUS}{CONSENT.format('False')}</attrs>", gatekeeper="login")),
    ],
)
def test_rules_of_3_11(tmp_path: Path, numbers: list[int], entry: str) -> None:
    findings = _found(tmp_path, _file(entry), version="3.11")
    assert _codes(findings) == sorted(RULES[number].code for number in numbers)


def test_section_twice_is_an_error_only_if_something_is_lost(tmp_path: Path) -> None:
    def severities(first: str) -> list[str]:
        return [found.severity for found in _found(tmp_path, _file(_entry(first + f"<attrs>{CPUS}</attrs>")))]

    assert severities("<attrs> </attrs>") == ["warning"]
    assert severities('<attrs><attr name="A" value="1"/></attrs>') == ["error"]


def test_main_file_without_factory_name(tmp_path: Path) -> None:
    path = tmp_path / "glideinWMS.xml"
    path.write_text(_file(_entry()), encoding="utf-8")
    assert _codes(lint([path])) == [RULES[110].code]


def test_global_attribute_twice_without_const_is_an_error(tmp_path: Path) -> None:
    (finding,) = _found(tmp_path, _file(_entry(), GLOBAL.replace("</attrs>", '<attr name="A" value="1"/></attrs>')))
    assert (finding.code, finding.severity) == (RULES[46].code, "error")


def test_refuses_unknown_version(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        _found(tmp_path, _file(_entry()), version="3.9")


@pytest.mark.parametrize("site", sorted((CHECKOUT / "tests" / "golden" / "sites").glob("*.yaml")), ids=lambda p: p.stem)
@pytest.mark.parametrize("version", ["3.10", "3.11"])
def test_no_errors_in_what_we_render(tmp_path: Path, site: Path, version: str) -> None:
    rendered = render_site(load_site(site)[0]).decode("utf-8")
    assert [str(found) for found in _found(tmp_path, rendered, version=version) if found.severity == "error"] == []


def test_entry_set_shares_its_attributes_with_its_entries(tmp_path: Path) -> None:
    inner = _entry(cpus="", name="A") + _entry(cpus="", name="B", enabled="true")
    text = f'<entry_sets><entry_set alias="S"><attrs>{CPUS}</attrs><entries>{inner}</entries></entry_set></entry_sets>'
    (finding,) = _found(tmp_path, _file("", text))
    assert (finding.code, finding.entry) == (RULES[13].code, "B")


def _run(*args: str) -> int:
    parser = argparse.ArgumentParser()
    add_lint(parser.add_subparsers())
    parsed = parser.parse_args(["lint", *args])
    status: int = parsed.run(parsed)
    return status


def test_command_prints_findings_and_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.xml"
    path.write_text(_file(_entry(verbosity="loud")), encoding="utf-8")
    assert _run(str(path)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 finding: 0 error, 1 warning, 0 info"
    path.write_text(_file(_entry(enabled="true")), encoding="utf-8")
    assert _run(str(path), "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["summary"] == {"error": 1, "warning": 0, "info": 0}
    assert report["findings"][0]["code"] == RULES[13].code
    path.write_text(_file(_entry()), encoding="utf-8")
    assert _run(str(path)) == 0
    assert capsys.readouterr().out == "no findings\n"


def test_command_prints_the_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--codes") == 0
    assert capsys.readouterr().out == codes_page()


@pytest.mark.parametrize("args", [(), ("/missing/glideinWMS.xml",)])
def test_unusable_call(args: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        _run(*args)
