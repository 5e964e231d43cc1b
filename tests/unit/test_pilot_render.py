# SPDX-License-Identifier: Apache-2.0
"""`entry render` with a runtime block: elements, files beside them, and entries that stand in somebody else's file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from lxml import etree

from glideinwms_bosco.cli.main import main
from glideinwms_bosco.entry.meaning import Meaning, entry_meanings
from glideinwms_bosco.entry.render import render_site
from glideinwms_bosco.pilot.scripts import default_scripts_dir
from tests.unit.pilot_world import ALL, make_ca, make_distribution, make_scripts
from tests.unit.site_text import VALID, changed_site, use_host_folders

OK, REFUSED = 0, 1
CE = """\
<glidein><entries>
  <entry name="CE_Entry" gatekeeper="ce.example.org ce.example.org:9619" auth_method="scitoken" trust_domain="grid">
    <config><submit><submit_attrs><submit_attr name="+xcount" value="8"/></submit_attrs></submit></config>
    <!-- a remark -->
    <attrs>
      <attr name="GLIDEIN_Site" value="CE &amp; Site"/>
      <attr name="GLIDEIN_SINGULARITY_REQUIRE" value="OPTIONAL" const="False"/>
    </attrs>
    <files><file absfname="/srv/own.sh" executable="True"/></files>
  </entry>
  <entry name="Other" gatekeeper="other"/>
</entries></glidein>
"""
EXTERNAL = "site: T3_XX_CE\nsubmission: external\nentries: [{name: CE_Entry}]\n"
NATIVE = "runtime: {cvmfs: {repositories: [cms.cern.ch], rungs: [native]}}\n"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of a host, with pilot scripts."""
    monkeypatch.setenv("GWMS_BOSCO_SCRIPTS", str(make_scripts(tmp_path / "scripts")))
    return use_host_folders(tmp_path, monkeypatch)


def runtime_of(host: Path) -> str:
    text = ALL.replace("DIST", str(make_distribution(host / "dist")))
    return text.replace("ca_dir: CA", f"ca_dir: {make_ca(host / 'ca')}")


def write_site(host: Path, text: str, name: str = "test") -> Path:
    path = host / "sites.d" / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def batch_site(runtime: str) -> str:
    return VALID.replace("entries:\n", runtime + "entries:\n")


def entry_of(host: Path, name: str, file: str = "50-test.xml") -> etree._Element:
    root = etree.parse(str(host / "config.d" / file)).getroot()
    (found,) = [entry for entry in root.findall("./entries/entry") if entry.get("name") == name]
    return found


def files_of(entry: etree._Element) -> list[dict[str, str]]:
    return [{str(key): str(value) for key, value in file.attrib.items()} for file in entry.findall("./files/file")]


def test_site_without_runtime_block_renders_as_ever(tmp_path: Path) -> None:
    site = changed_site(tmp_path)
    text = render_site(site).decode()
    assert "<files/>" in text
    assert "GWMS_BOSCO" not in text


def test_elements_name_files_that_are_there(host: Path) -> None:
    write_site(host, batch_site(runtime_of(host)))
    assert main(["entry", "render"]) == OK
    entry = entry_of(host, "Test_Entry")
    files = files_of(entry)
    assert [file["relfname"] for file in files] == [
        *("gwms_bosco_cvmfsexec.tar.gz", "gwms_bosco_ca.tar.gz", "cvmfs_setup", "cvmfs_check"),
        *("credentials_setup", "container_setup", "payload_setup", "payload_wrapper.sh"),
    ]
    assert [file["period"] for file in files] == ["0", "0", "0", "600", "0", "0", "0", "0"]
    for file in files:
        assert (file["executable"], file["wrapper"], file["untar"]).count("True") == 1
        assert Path(file["absfname"]).parent == host / "state" / "pilot"
        assert Path(file["absfname"]).is_file()
    options = [dict(element.attrib) for element in entry.findall("./files/file/untar_options")]
    assert options[0] == {
        "cond_attr": "TRUE",
        "dir": "gwms_bosco_cvmfsexec",
        "absdir_outattr": "GWMS_BOSCO_CVMFSEXEC_DIR",
    }
    meaning = entry_meanings(etree.parse(str(host / "config.d" / "50-test.xml")).getroot())["Test_Entry"]
    assert meaning["attrs/[GWMS_BOSCO_CVMFS_REPOS]/@value"] == "cms.cern.ch,grid.cern.ch"
    assert meaning["attrs/[GWMS_BOSCO_CVMFS_QUOTA_MB]/@type"] == "int"
    assert meaning["attrs/[GLIDEIN_CPUS]/@value"] == "8"


def test_second_render_changes_nothing(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_site(host, batch_site(runtime_of(host)))
    assert main(["entry", "render"]) == OK
    before = {path: path.stat().st_ino for path in host.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["entry", "render", "--json"]) == OK
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["pilot_files"] == []
    assert [row["action"] for row in outcome["files"]] == ["unchanged"]
    assert {path: path.stat().st_ino for path in before} == before


def test_changed_script_gets_a_new_name_and_the_old_file_stays(host: Path) -> None:
    """A reconfig that has read the old XML copies the old file a little later."""
    write_site(host, batch_site(NATIVE))
    assert main(["entry", "render"]) == OK
    old = {path.name: path.read_bytes() for path in (host / "state" / "pilot").iterdir()}
    (host / "scripts" / "cvmfs_setup").write_text("# other\n", encoding="utf-8")
    assert main(["entry", "render"]) == OK
    now = {path.name: path.read_bytes() for path in (host / "state" / "pilot").iterdir()}
    assert {name: now[name] for name in old} == old
    assert len(now) == len(old) + 1


def test_dry_run_and_check_write_nothing(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_site(host, batch_site(NATIVE))
    assert main(["entry", "render", "--dry-run", "--lint"]) == OK
    assert "pilot file: " in capsys.readouterr().out
    assert main(["site", "check"]) == OK
    assert main(["entry", "render", "--stdout"]) == OK
    assert not (host / "state" / "pilot").exists()
    assert list((host / "config.d").iterdir()) == []


def test_lint_takes_files_that_come_with_the_entries(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a whole configuration a `<file>` that is not there is an error; only ours may still be on their way."""
    main_file = (
        '<glidein factory_name="Test"><condor_tarballs><condor_tarball os="default" arch="default" version="default"/>'
    )
    (host / "glideinWMS.xml").write_text(main_file + "</condor_tarballs></glidein>", encoding="utf-8")
    own = "cpus: 8\n    raw: {children: ['<files><file absfname=\"/none/own.sh\"/></files>']}\n"
    site = write_site(host, batch_site(runtime_of(host)))
    assert main(["entry", "render", "--dry-run", "--lint"]) == OK
    site.write_text(site.read_text(encoding="utf-8").replace("cpus: 8\n", own), encoding="utf-8")
    capsys.readouterr()
    assert main(["entry", "render", "--dry-run", "--lint"]) == REFUSED
    said = capsys.readouterr().err
    assert "/none/own.sh" in said
    assert "state/pilot" not in said


def test_problem_of_a_distribution_is_told_with_its_line(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = batch_site("runtime:\n  cvmfs:\n    repositories: [a.b]\n    cvmfsexec:\n      path: /none\n")
    path = write_site(host, text)
    assert main(["site", "check"]) == REFUSED
    line = text[: text.index("cvmfsexec:")].count("\n") + 1
    assert f"{path}:{line}: error: runtime.cvmfs.cvmfsexec: /none: cannot be read" in capsys.readouterr().err


def test_own_files_of_the_entry_come_after_ours(host: Path) -> None:
    own = 'cpus: 8\n    raw: {children: [\'<files><file absfname="/srv/own.sh" executable="True"/></files>\']}\n'
    write_site(host, batch_site(NATIVE).replace("cpus: 8\n", own))
    assert main(["entry", "render"]) == OK
    names = [file["absfname"] for file in files_of(entry_of(host, "Test_Entry"))]
    assert names[-1] == "/srv/own.sh"
    assert len(names) == 5


def test_pilot_show_lists_files_and_attributes_and_writes_nothing(
    host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_site(host, batch_site(NATIVE))
    assert main(["pilot", "show", "test"]) == OK
    said = capsys.readouterr().out
    assert "test: 4 files, 4 attributes" in said
    assert "GWMS_BOSCO_CVMFS_REPOS = cms.cern.ch" in said
    assert main(["pilot", "show", "--json"]) == OK
    assert json.loads(capsys.readouterr().out)["test"]["files"][1]["period_s"] == 600
    assert not (host / "state" / "pilot").exists()


def test_pilot_pack_gives_one_executable_file(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pilot", "pack", "cvmfs_setup"]) == OK
    printed = capsys.readouterr().out
    assert main(["pilot", "pack", "cvmfs_setup", "--output", str(host / "packed")]) == OK
    assert (host / "packed").read_text(encoding="utf-8") == printed
    assert os.access(host / "packed", os.X_OK)
    assert main(["pilot", "pack", "none"]) == REFUSED
    assert main(["pilot", "pack", "cvmfs_setup", "--output", str(host / "no" / "packed")]) == REFUSED


def test_pilot_pack_puts_the_image_of_a_site_in(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """blah.config takes no words behind the name of a job wrapper."""
    write_site(host, batch_site(f"runtime: {{container: {{mode: pilot, image: /a.sif, sha256: {'0' * 64}}}}}\n"))
    real = ["pilot", "pack", "pilot_container", "--site", "test"]
    monkeypatch.setenv("GWMS_BOSCO_SCRIPTS", str(default_scripts_dir()))
    assert main(real) == OK
    assert capsys.readouterr().out.endswith(f'\ngwms_bosco_pilot_main /a.sif {"0" * 64} "$@"\n')
    assert main(["pilot", "pack", "cvmfs_setup", "--site", "test"]) != OK
    write_site(host, batch_site("runtime: {container: {nested: false}}\n"))
    assert main(real) != OK
    assert "no image and sha256" in capsys.readouterr().err


# External entries


def ce_host(host: Path, text: str = EXTERNAL + NATIVE, name: str = "10-ce.xml") -> Path:
    (host / "config.d" / name).write_text(CE, encoding="utf-8")
    return write_site(host, text)


def meaning_of(host: Path, file: str, name: str = "CE_Entry") -> Meaning:
    return entry_meanings(etree.parse(str(host / "config.d" / file)).getroot())[name]


def test_external_entry_is_the_original_with_our_elements(host: Path) -> None:
    ce_host(host)
    assert main(["entry", "render"]) == OK
    ours, original = meaning_of(host, "50-test.xml"), meaning_of(host, "10-ce.xml")
    added = {path: value for path, value in ours.items() if path not in original}
    assert {path: ours[path] for path in original} == original
    assert all(re.match(r"files/\[|attrs/\[GWMS_BOSCO_", path) for path in added), added
    names = [Path(file["absfname"]).name.partition("-")[0] for file in files_of(entry_of(host, "CE_Entry"))]
    assert names == ["cvmfs_setup", "cvmfs_check", "payload_setup", "payload_wrapper.sh", "own.sh"]
    assert (host / "config.d" / "10-ce.xml").read_text(encoding="utf-8") == CE


def test_render_without_elements_would_mean_the_same(host: Path) -> None:
    ce_host(host)
    assert main(["entry", "render"]) == OK
    root = etree.parse(str(host / "config.d" / "50-test.xml")).getroot()
    for file in root.findall("./entries/entry/files/file"):
        if "/pilot/" in str(file.get("absfname")):
            file.getparent().remove(file)  # type: ignore[union-attr]
    for attr in root.findall("./entries/entry/attrs/attr"):
        if str(attr.get("name")).startswith("GWMS_BOSCO_"):
            attr.getparent().remove(attr)  # type: ignore[union-attr]
    assert entry_meanings(root)["CE_Entry"] == meaning_of(host, "10-ce.xml")


def test_nested_false_replaces_an_attribute_only_where_it_does_not_contradict(
    host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ce_host(host, EXTERNAL + "runtime: {container: {nested: false}}\n")
    assert main(["entry", "render"]) == REFUSED
    assert "10-ce.xml:2: OPTIONAL asks for containers" in capsys.readouterr().err
    path = host / "config.d" / "10-ce.xml"
    path.write_text(CE.replace("OPTIONAL", "NEVER"), encoding="utf-8")
    assert main(["entry", "render"]) == OK
    assert meaning_of(host, "50-test.xml")["attrs/[GLIDEIN_SINGULARITY_REQUIRE]/@const"] == "True"


def test_change_of_the_original_is_taken_over_at_the_next_render(host: Path) -> None:
    ce_host(host)
    assert main(["entry", "render"]) == OK
    path = host / "config.d" / "10-ce.xml"
    path.write_text(CE.replace("ce.example.org:9619", "ce2.example.org:9619"), encoding="utf-8")
    assert main(["entry", "render"]) == OK
    assert meaning_of(host, "50-test.xml")["@gatekeeper"] == "ce.example.org ce2.example.org:9619"


def test_lint_does_not_complain_of_the_replaced_original(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ce_host(host)
    (host / "config.d" / "05-older.xml").write_text(CE, encoding="utf-8")
    assert main(["entry", "render"]) == OK
    capsys.readouterr()
    main(["entry", "lint", str(host / "config.d")])
    replaced = [line for line in capsys.readouterr().out.splitlines() if "is replaced by" in line]
    assert [Path(line.split(":")[0]).name for line in replaced if "CE_Entry" in line] == ["05-older.xml"]


@pytest.mark.parametrize("attribute", ["relfname", "absfname"])
def test_refuses_an_original_with_a_file_of_the_name_of_ours(
    host: Path, attribute: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the node the later one would lie over the other, or reconfig fail."""
    other = '<file absfname="/srv/cvmfs_setup" executable="True"/>'
    if attribute == "relfname":
        other = '<file absfname="/srv/x.sh" relfname="cvmfs_setup" executable="True"/>'
    (host / "config.d" / "10-ce.xml").write_text(
        CE.replace('<file absfname="/srv/own.sh" executable="True"/>', other), encoding="utf-8"
    )
    write_site(host, EXTERNAL + NATIVE)
    assert main(["entry", "render"]) == REFUSED
    assert "cvmfs_setup" in capsys.readouterr().err
    assert not (host / "config.d" / "50-test.xml").exists()


def test_original_in_the_main_file_is_found(host: Path) -> None:
    (host / "glideinWMS.xml").write_text(CE.replace("<glidein>", '<glidein factory_name="Test">'), encoding="utf-8")
    write_site(host, EXTERNAL + NATIVE)
    assert main(["entry", "render"]) == OK
    assert meaning_of(host, "50-test.xml")["@auth_method"] == "scitoken"


def test_last_original_counts_as_it_does_for_reconfig(host: Path) -> None:
    ce_host(host)
    (host / "config.d" / "20-ce.xml").write_text(CE.replace("scitoken", "grid_proxy"), encoding="utf-8")
    assert main(["entry", "render"]) == OK
    assert meaning_of(host, "50-test.xml")["@auth_method"] == "grid_proxy"


def test_original_may_be_named_by_its_file(host: Path) -> None:
    (host / "config.d" / "20-ce.xml").write_text(CE.replace("scitoken", "grid_proxy"), encoding="utf-8")
    first = host / "config.d" / "10-ce.xml"
    ce_host(host, EXTERNAL.replace("name: CE_Entry", f"name: CE_Entry, file: {first}") + NATIVE)
    assert main(["entry", "render"]) == OK
    assert meaning_of(host, "50-test.xml")["@auth_method"] == "scitoken"


def test_refuses_an_original_that_is_read_later(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ce_host(host, name="60-ce.xml")
    assert main(["entry", "render"]) == REFUSED
    assert "60-ce.xml:2 is read after 50-test.xml" in capsys.readouterr().err
    assert not (host / "config.d" / "50-test.xml").exists()


@pytest.mark.parametrize("xml", ["", CE.replace('"CE_Entry"', '"Gone"'), "<glidein><entries>"])
def test_refuses_when_there_is_no_original(host: Path, xml: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What was rendered before stays as it was."""
    path = ce_host(host)
    assert main(["entry", "render"]) == OK
    before = (host / "config.d" / "50-test.xml").read_bytes()
    (host / "config.d" / "10-ce.xml").unlink()
    if xml:
        (host / "config.d" / "10-ce.xml").write_text(xml, encoding="utf-8")
    capsys.readouterr()
    assert main(["entry", "render"]) == REFUSED
    assert f"{path}:3: error: entries[0].name" in capsys.readouterr().err
    assert (host / "config.d" / "50-test.xml").read_bytes() == before


def test_entry_is_its_own_files_again_when_the_site_file_goes(host: Path) -> None:
    """A disabled copy would take the operator's own entry out of service."""
    path = ce_host(host)
    assert main(["entry", "render"]) == OK
    path.unlink()
    assert main(["entry", "render", "--all-gone"]) == OK
    assert [path.name for path in (host / "config.d").iterdir()] == ["10-ce.xml"]


def test_entry_is_its_own_files_again_when_it_leaves_the_site_file(host: Path) -> None:
    path = ce_host(host, EXTERNAL.replace("[{name: CE_Entry}]", "[{name: CE_Entry}, {name: Other}]") + NATIVE)
    assert main(["entry", "render"]) == OK
    path.write_text(EXTERNAL + NATIVE, encoding="utf-8")
    assert main(["entry", "render"]) == OK
    text = (host / "config.d" / "50-test.xml").read_text(encoding="utf-8")
    assert "CE_Entry" in text
    assert "Other" not in text


@pytest.mark.parametrize(
    "text", [EXTERNAL.replace("name: CE_Entry", "name: CE_Entry, enabled: false"), "enabled: false\n" + EXTERNAL]
)
def test_external_entry_can_be_disabled(host: Path, text: str) -> None:
    ce_host(host, text + NATIVE)
    assert main(["entry", "render"]) == OK
    assert meaning_of(host, "50-test.xml")["@enabled"] == "False"


def test_removed_external_entry_is_its_own_files_again(host: Path) -> None:
    ce_host(host)
    assert main(["entry", "remove", "CE_Entry"]) == OK
    assert meaning_of(host, "50-test.xml")["@enabled"] == "False"
    assert main(["entry", "remove", "CE_Entry", "--reconfigured"]) == OK
    assert "CE_Entry" not in (host / "config.d" / "50-test.xml").read_text(encoding="utf-8")
    assert main(["entry", "enable", "CE_Entry"]) == OK
    assert "@enabled" not in meaning_of(host, "50-test.xml")


def test_external_entry_can_be_drained_though_its_file_has_no_limits(host: Path) -> None:
    ce_host(host)
    assert main(["entry", "drain", "CE_Entry"]) == OK
    drained = meaning_of(host, "50-test.xml")
    assert drained["config/max_jobs/per_entry/@glideins"] == "0"
    assert drained["config/max_jobs/default_per_frontend/@glideins"] == "0"


def test_commands_for_the_login_host_do_not_read_what_pilots_bring(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_site(host, batch_site(NATIVE))
    monkeypatch.setenv("GWMS_BOSCO_SCRIPTS", str(host / "none"))
    assert main(["remote", "ssh-config", "--stdout"]) == OK
    assert "login.example.org" in capsys.readouterr().out
    assert main(["site", "check"]) == REFUSED


def test_commands_that_connect_refuse_an_external_site(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ce_host(host)
    assert main(["remote", "deploy", "test", "--dry-run"]) != OK
    assert "submission: external" in capsys.readouterr().err
