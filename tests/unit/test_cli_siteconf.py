# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco siteconf`: exit status, what is printed, and nothing written that was not asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from glideinwms_bosco.cli.main import main
from glideinwms_bosco.site.load import load_site
from glideinwms_bosco.siteconf.codes import codes_page
from glideinwms_bosco.siteconf.render import site_files
from tests.unit.site_text import use_host_folders, write_site
from tests.unit.siteconf_tree import CONFIG, write_siteconf
from tests.unit.siteconf_world import LFN, REAL, SMALLEST, site_file

OK, REFUSED, USAGE = range(3)
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = use_host_folders(tmp_path, monkeypatch)
    site_file(folder / "sites.d", SMALLEST)
    return folder


def run(*argv: object) -> int:
    return main(["siteconf", *map(str, argv)])


def test_check_of_a_folder(tmp_path: Path, capsys: Capture) -> None:
    assert run("check", write_siteconf(tmp_path / "tree")) == OK
    assert capsys.readouterr().out == "no findings\n"


def test_check_names_code_place_and_reader(tmp_path: Path, capsys: Capture) -> None:
    local = write_siteconf(tmp_path / "tree", CONFIG, '<failover toserver="no"/>', "")
    assert run("check", local) == OK
    line, summary = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{local}/JobConfig/site-local-config.xml:19: warning: [BOSCO-SITECONF-51] ")
    assert "(CMSSW); add <failover" in line
    assert summary == "1 finding: 0 error, 1 warning"


def test_check_with_an_error_is_refused(tmp_path: Path, capsys: Capture) -> None:
    local = write_siteconf(tmp_path / "tree", CONFIG, 'site="T1_XX_Fed"', 'site="T1_XX_Gone"')
    assert run("check", local, "--json") == REFUSED
    report = json.loads(capsys.readouterr().out)
    assert report["summary"] == {"error": 1, "warning": 0}
    (row,) = report["findings"]
    assert (row["code"], row["line"], row["readers"]) == ("BOSCO-SITECONF-20", 8, ["CMSSW", "WMCore"])


def test_check_of_a_site_names_files_as_on_a_node(capsys: Capture) -> None:
    assert run("check", "test") == OK
    assert run("show", "test", "--json") == OK
    output = capsys.readouterr().out
    assert '"file": "SITECONF/local/JobConfig/site-local-config.xml"' in output
    assert '"T2_FI_HIP": "SITECONF/T2_FI_HIP/storage.json"' in output


def test_check_of_a_site_with_a_subsite_knows_the_sites_own_folder(host: Path, capsys: Capture) -> None:
    site_file(host / "sites.d", {**SMALLEST, "subsite": "HPC"})
    assert run("check", "test") == OK
    assert capsys.readouterr().out == "no findings\n"


def test_check_prints_the_codes(capsys: Capture) -> None:
    assert run("check", "--codes") == OK
    assert capsys.readouterr().out == codes_page()


@pytest.mark.parametrize(
    "argv",
    [
        ("check",),
        ("check", "tset"),
        ("check", "./nothing"),
        ("explain", "no-lfn", "test"),
        ("import", "./nothing"),
        ("show", "tset"),
    ],
)
def test_wrong_call(argv: tuple[str, ...], capsys: Capture) -> None:
    assert run(*argv) == USAGE
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "error: " in error


def test_site_without_a_block_is_refused(host: Path, capsys: Capture) -> None:
    write_site(host / "sites.d", name="plain")
    assert run("check", "plain") == REFUSED
    assert "has no runtime.siteconf" in capsys.readouterr().err


def test_explain_is_a_table_in_order(capsys: Capture) -> None:
    assert run("explain", LFN, REAL / "local") == OK
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["READER", "TO", "NO", "PLACE", "PFN"]
    assert [row.split()[0] for row in rows] == ["CMSSW"] * 5 + ["WMCore"] * 2
    assert rows[2].endswith(f"  root://xrootd-cms.infn.it/{LFN}")


def test_explain_shows_chains_step_by_step(tmp_path: Path, capsys: Capture) -> None:
    assert run("explain", "/store/a", write_siteconf(tmp_path / "tree")) == OK
    assert "WMCore write 1: pnfs (rule on line 6): /store/a -> /pnfs/example.org/store/a\n" in capsys.readouterr().out


def test_explain_is_refused_when_a_reader_gets_nothing(capsys: Capture) -> None:
    assert run("explain", "/other/a", REAL / "local", "--json") == REFUSED
    rows = json.loads(capsys.readouterr().out)
    assert {row["reader"] for row in rows if row["pfn"]} == {"WMCore"}
    assert all(bool(row["pfn"]) != bool(row["why"]) for row in rows)


def test_import_prints_a_block_that_a_site_file_takes(host: Path, capsys: Capture) -> None:
    assert run("import", REAL / "T2_FI_HIP") == OK
    output = capsys.readouterr()
    assert output.err == ""
    path = host / "new.yaml"
    path.write_text("site: T2_FI_HIP\nsubmission: external\nentries: [{name: A}]\n" + output.out)
    assert "T2_FI_HIP/storage.json" in site_files(load_site(path)[0])


def test_import_replaces_no_file_unless_told(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "hip.yaml"
    assert run("import", REAL / "T2_FI_HIP", "--output", path) == OK
    assert capsys.readouterr().out == f"written: {path}\n"
    path.write_text("mine")
    assert run("import", REAL / "T2_FI_HIP", "--output", path) == REFUSED
    assert path.read_text() == "mine"
    assert run("import", REAL / "T2_FI_HIP", "--output", path, "--force") == OK
    assert path.read_text().startswith("# runtime.siteconf of ")


def test_import_of_what_has_no_configuration_is_refused(capsys: Capture) -> None:
    assert run("import", REAL / "T1_IT_CNAF") == REFUSED
    assert "is not there" in capsys.readouterr().err


def test_show_is_a_table_and_what_jobs_ask(capsys: Capture) -> None:
    assert run("show", REAL / "T2_FI_HIP") == OK
    output = capsys.readouterr().out
    assert "write  1   T2_FI_HIP   HIP_dCache           WebDAV    gfal2\n" in output
    assert "proxy: http://frontier-vm.hip.helsinki.fi:3128\n" in output
    assert "servers asked directly: yes\n" in output


def test_show_tells_of_proxies_that_pilots_add(host: Path, capsys: Capture) -> None:
    assert run("show", "test") == OK
    assert "pilots find" not in capsys.readouterr().out
    site_file(host / "sites.d", SMALLEST, web_proxies={"discover": ["wpad"]})
    assert run("show", "test") == OK
    assert capsys.readouterr().out.splitlines()[-1].startswith("proxies that pilots find come before these")
    assert run("show", "test", "--json") == OK
    assert json.loads(capsys.readouterr().out)["pilot_proxies"] is True


def test_render_writes_a_tree_that_passes_its_check(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "out"
    assert run("render", "test", "--output", folder) == OK
    assert capsys.readouterr().out.startswith(f"written: {folder} (")
    assert (folder / "local").readlink() == Path("T3_US_HPC")
    assert run("check", folder, "--json") == OK
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*.json")} == {0o644}
    assert run("render", "test", "--output", folder) == OK
    assert f"unchanged: {folder} (" in capsys.readouterr().out


def test_render_replaces_nothing_else_unless_told(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    assert run("render", "test", "--output", folder) == REFUSED
    assert [path.name for path in folder.iterdir()] == ["mine"]
    assert "nothing was written" in capsys.readouterr().err
    assert run("render", "test", "--output", folder, "--force") == OK
    assert not (folder / "mine").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_render_where_one_may_not_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    assert run("render", "test", "--output", tmp_path / "out") == REFUSED


def test_render_into_a_missing_folder_is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert run("render", "test", "--output", tmp_path / "missing" / "out") == REFUSED
    assert "cannot be written" in capsys.readouterr().err


def test_names_in_files_cannot_drive_the_terminal(tmp_path: Path, capsys: Capture) -> None:
    local = write_siteconf(tmp_path / "tree", CONFIG, 'volume="Federation"', 'volume="&#x9b;2J"')
    assert run("check", local) == REFUSED
    assert run("show", local) == OK
    assert "\x9b" not in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["check", "explain", "import", "show", "render"])
def test_help_has_an_example(verb: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        run(verb, "--help")
    assert f"example: gwms-bosco siteconf {verb} " in capsys.readouterr().out
