# SPDX-License-Identifier: Apache-2.0
"""Files laid over a bundle: whose wins, what the manifest says of them, and every file that is refused at a check."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.bundle import Bundle, BundleRequest, HTCondorSource, build, build_bundle, load_bundle
from glideinwms_bosco.bundle.elf import read_elf
from glideinwms_bosco.bundle.extra import MAX_EXTRA_FILE_BYTES, MAX_EXTRA_FILES, ExtraFile
from glideinwms_bosco.bundle.layout import LAYOUTS
from glideinwms_bosco.bundle.overrides import read_overrides
from glideinwms_bosco.cli.checks import checked_sites
from glideinwms_bosco.cli.settings import Settings, load_settings
from glideinwms_bosco.errors import BundleError, Problem, SettingsFileError, SiteFileError
from tests.unit.bundle_fake import BLAH_PY, elf, make_root
from tests.unit.site_text import VALID, problems_of

ATTRIBUTES = "libexec/slurm_local_submit_attributes.sh"
GOOD = b"#!/bin/sh\necho hello\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture()
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path / "root")


def built(root: Path, *files: ExtraFile, system: str = "slurm", **more: object) -> Bundle:
    request = replace(BundleRequest(system), extra_files=files, **more)  # type: ignore[arg-type]  # of this test
    return build_bundle(HTCondorSource(root=str(root)), request)


def site_file(folder: Path, overrides: str) -> Path:
    path = folder / "test.yaml"
    path.write_text(VALID + f"install:\n  overrides:\n{overrides}")
    return path


def found(path: Path, host_folder: Optional[Path] = None) -> list[Problem]:
    """Errors of `site check`."""
    settings = Settings(path.parent, path.parent, path.parent, overrides_dir=host_folder)
    try:
        checked_sites([path], (), settings)
    except SiteFileError as err:
        return [problem for problem in err.problems if problem.severity == "error"]
    return []


def test_file_takes_the_place_of_htcondor_s_and_the_manifest_says_so(root: Path, tmp_path: Path) -> None:
    plain = built(root)
    bundle = built(root, ExtraFile(ATTRIBUTES, GOOD, "site x"))
    assert bundle.files[ATTRIBUTES].content == GOOD
    assert bundle.files[ATTRIBUTES].mode == 0o755
    assert bundle.digest != plain.digest
    (override,) = bundle.manifest.overrides
    shipped = plain.files[ATTRIBUTES]
    assert (override.path, override.sha256, override.origin) == (ATTRIBUTES, sha256(GOOD), "site x")
    assert (override.replaced_sha256, override.replaced_origin) == (sha256(shipped.content), shipped.origin)
    bundle.write_archive(tmp_path / "b.tar.gz")
    assert load_bundle(tmp_path / "b.tar.gz").manifest == bundle.manifest


def test_new_file_and_one_in_the_place_of_a_link(root: Path) -> None:
    files = (ExtraFile("etc/wrapper.conf", b"a=1\n", "part"), ExtraFile("libexec/slurm/sbatch", GOOD, "site"))
    bundle = built(root, *files)
    assert (bundle.files["etc/wrapper.conf"].mode, bundle.files["libexec/slurm/sbatch"].mode) == (0o644, 0o755)
    assert "libexec/slurm/sbatch" not in bundle.links
    told = {override.path: override.replaced_origin for override in bundle.manifest.overrides}
    assert told == {"etc/wrapper.conf": "", "libexec/slurm/sbatch": "link to passthrough"}


def test_later_layer_wins_and_names_the_one_below(root: Path) -> None:
    bundle = built(root, ExtraFile(ATTRIBUTES, b"# host\n", "host"), ExtraFile(ATTRIBUTES, GOOD, "site"))
    (override,) = bundle.manifest.overrides
    assert (override.origin, override.replaced_origin) == ("site", "host")
    assert override.replaced_sha256 == sha256(b"# host\n")


def test_no_repair_touches_what_was_laid_over(root: Path) -> None:
    bundle = built(root, ExtraFile("libexec/blah.py", b"print('mine')\n", "site"))
    assert bundle.files["libexec/blah.py"].content == b"print('mine')\n"
    assert "libexec/blah.py" not in {repair.path for repair in bundle.manifest.repairs}
    assert BLAH_PY.encode() != bundle.files["libexec/blah.py"].content


def test_library_that_is_brought_need_not_be_there(root: Path) -> None:
    asks = make_root(root.parent / "asks")
    (asks / "usr/bin/blahpd").write_bytes(elf("libgomp.so.1"))
    source = HTCondorSource(root=str(asks))
    assert "libgomp.so.1" in build_bundle(source, BundleRequest("slurm")).manifest.system_libraries
    brought = (ExtraFile("lib/libgomp.so.1", elf(), "site"),)
    bundle = build_bundle(source, BundleRequest("slurm", extra_files=brought))
    assert "libgomp.so.1" not in bundle.manifest.system_libraries
    assert bundle.files["lib/libgomp.so.1"].content == elf()
    assert read_elf(bundle.files["libexec/blahpd.bin"].content, "x").runpath == "$ORIGIN/../lib"


def test_binary_for_another_machine_is_refused(root: Path) -> None:
    other = bytearray(elf())
    other[18:20] = (183 if other[18] != 183 else 62).to_bytes(2, "little")
    with pytest.raises(BundleError, match=r"^site: libexec/helper is for .*, the bundle is for "):
        built(root, ExtraFile("libexec/helper", bytes(other), "site"))


def test_binary_that_needs_a_newer_c_library_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = replace(read_elf(elf(), "x"), glibc=(9, 9))
    monkeypatch.setattr(build, "read_elf", lambda *_: newer)
    with pytest.raises(BundleError, match=r"libexec/helper needs glibc 9\.9, the bundle only "):
        built(root, ExtraFile("libexec/helper", elf(), "site"))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../x", "not a plain relative path"),
        ("/etc/passwd", "not a plain relative path"),
        ("libexec/../../x", "not a plain relative path"),
        (".git/config", "not a plain relative path"),
        ("a b", "not a plain relative path"),
        ("x" * 201, "not a plain relative path"),
        ("bin/blahpd", "keeps a running gahp at its version"),
        ("bin/condor_ft-gahp", "keeps a running gahp at its version"),
        ("etc/condor_config.ft-gahp", "loses the output of running jobs"),
        ("etc/bosco.conf", "made for"),
        ("etc/blah.config", "exit codes are lost"),
        ("etc/blah.config.d/x", "scripts fail"),
        ("manifest.json", "list of its files"),
        ("libexec/blahpd.bin", "another HTCondor source"),
        ("lib/libcondor_utils_23_9_6.so", "another HTCondor source"),
        ("libexec/slurm", "is a folder"),
    ],
)
def test_path_is_refused(path: str, words: str) -> None:
    with pytest.raises(BundleError, match=r"^site: ") as caught:
        BundleRequest("slurm", extra_files=(ExtraFile(path, GOOD, "site"),))
    assert words in str(caught.value)


@pytest.mark.parametrize("path", ["libexec/slurm/sbatch/x", "libexec/slurm_submit.sh/x"])
def test_path_below_a_file_is_refused(root: Path, path: str) -> None:
    with pytest.raises(BundleError, match="lies below a file"):
        built(root, ExtraFile(path, GOOD, "site"))


def test_size_and_number_have_limits() -> None:
    limit = ExtraFile("etc/x", b"x" * MAX_EXTRA_FILE_BYTES, "site")
    BundleRequest("slurm", extra_files=(limit,))
    with pytest.raises(BundleError, match="larger than"):
        BundleRequest("slurm", extra_files=(replace(limit, content=limit.content + b"x"),))
    with pytest.raises(BundleError, match="extra files of"):
        large = tuple(replace(limit, path=f"etc/{number}") for number in range(5))
        BundleRequest("slurm", extra_files=large)
    many = tuple(ExtraFile(f"etc/{number}", b"", "site") for number in range(MAX_EXTRA_FILES + 1))
    BundleRequest("slurm", extra_files=many[1:])
    with pytest.raises(BundleError, match="are allowed"):
        BundleRequest("slurm", extra_files=many)


@pytest.mark.parametrize("system", list(LAYOUTS))
def test_what_blahp_runs_must_be_executable_and_what_it_sources_need_not(system: str) -> None:
    for name in ("submit", "cancel", "ping"):
        with pytest.raises(BundleError, match="is not executable"):
            BundleRequest(system, extra_files=(ExtraFile(f"libexec/{system}_{name}.sh", GOOD, "site", 0o644),))
    sourced = ExtraFile(f"libexec/{system}_local_submit_attributes.sh", GOOD, "site", 0o644)
    assert BundleRequest(system, extra_files=(sourced,)).extra_files == (sourced,)


INLINE = "    - path: libexec/slurm_local_submit_attributes.sh\n      content: |\n"


def test_inline_script_of_several_lines(tmp_path: Path) -> None:
    path = site_file(tmp_path, INLINE + "        #!/bin/sh\n        \techo 'a $b'\n")
    assert found(path) == []
    ((file,), problems) = read_overrides(checked_sites([path]).sites[0], None)
    assert (file.path, file.content, problems) == (ATTRIBUTES, b"#!/bin/sh\n\techo 'a $b'\n", ())
    assert file.origin == f"{path} install.overrides[0]"


@pytest.mark.parametrize(
    ("overrides", "line", "field", "words"),
    [
        (INLINE + "        #!/bin/bash\n        if true\n", 19, "path", "line 3: syntax error"),
        (INLINE + "        x\n      file: x.sh\n", 19, "", "exactly one of file and content"),
        ("    - path: libexec/x.sh\n", 19, "", "exactly one of file and content"),
        ("    - {path: libexec/x, content: a}\n    - {path: libexec/x, content: b}\n", 20, "path", "line 19"),
        ("    - {path: libexec/x.sh, file: none.sh}\n", 19, "file", "none.sh cannot be read: No such file"),
        ("    - {path: libexec/x.sh, file: ../x.sh}\n", 19, "file", "leaves the folder of the site file"),
        ("    - {path: libexec/x.sh, file: link.sh}\n", 19, "file", "leaves the folder of the site file"),
        ("    - {path: libexec/x.sh, file: bad.sh}\n", 19, "file", "bad.sh:3: Syntax error"),
        ("    - {path: libexec/x.sh, file: crlf.sh}\n", 19, "file", "ends with CR LF (line 2)"),
        ("    - {path: libexec/x.sh, file: folder}\n", 19, "file", "folder cannot be read: Is a directory"),
        ("    - {path: libexec/x.sh, file: pipe}\n", 19, "file", "pipe is not a regular file"),
        ("    - {path: libexec/x, file: huge}\n", 19, "file", "huge is larger than"),
        ("    - {path: libexec/x, file: broken}\n", 19, "file", "damaged ELF"),
        ("    - {path: bin/blahpd, file: good.sh}\n", 19, "file", "keeps a running gahp"),
        ("    - {path: libexec/slurm_submit.sh, file: good.sh, mode: 0644}\n", 19, "file", "not executable"),
        ("    - {path: ../x, file: good.sh}\n", 19, "path", "is not allowed here"),
        ("    - {path: x, file: good.sh, mode: 4755}\n", 19, "mode", "0644"),
        ('    - {path: x, content: "a\\u0001"}\n', 19, "content", "control character"),
    ],
)
def test_check_refuses_with_file_and_line(tmp_path: Path, overrides: str, line: int, field: str, words: str) -> None:
    folder = tmp_path / "sites"
    folder.mkdir()
    (folder / "good.sh").write_bytes(GOOD)
    (folder / "bad.sh").write_bytes(b"#!/bin/sh\nx=1\n)\n")
    (folder / "crlf.sh").write_bytes(b"#!/bin/sh\necho x\r\n")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "broken").write_bytes(b"\x7fELF\x02\x01\x01")
    with (folder / "huge").open("wb") as stream:
        stream.truncate(MAX_EXTRA_FILE_BYTES + 1)
    (tmp_path / "outside.sh").write_bytes(GOOD)
    (folder / "link.sh").symlink_to("../outside.sh")
    path = site_file(folder, overrides)
    errors = found(path)
    number = {"": "", "path": ".path"}.get(field, f".{field}")
    places = [(problem.line, problem.field.partition("]")[2]) for problem in errors]
    assert (line, number) in places, errors
    assert words in "\n".join(map(str, errors))
    assert all(str(problem).startswith(f"{path}:{problem.line}: error: ") for problem in errors)


def test_absolute_path_is_where_the_operator_says(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.sh"
    elsewhere.write_bytes(GOOD)
    folder = tmp_path / "sites"
    folder.mkdir()
    assert found(site_file(folder, f"    - {{path: libexec/x.sh, file: {elsewhere}}}\n")) == []


def test_bash_script_is_parsed_by_bash(tmp_path: Path) -> None:
    assert found(site_file(tmp_path, INLINE + "        #!/bin/sh\n        a=(1 2)\n")) == []
    text = "    - path: libexec/x.sh\n      content: |\n        #!/usr/bin/env bash\n        a=(1 2)\n"
    assert found(site_file(tmp_path, text)) == []


def test_script_is_not_run_by_the_check(tmp_path: Path) -> None:
    assert found(site_file(tmp_path, INLINE + f"        #!/bin/bash\n        : > {tmp_path}/ran\n")) == []
    assert not (tmp_path / "ran").exists()


def host_file(folder: Path, content: bytes, path: str = ATTRIBUTES, mode: int = 0o755) -> Path:
    place = folder / "slurm" / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    place.chmod(mode)
    return place


def test_host_folder_lies_below_the_site(tmp_path: Path) -> None:
    host = tmp_path / "overrides"
    place = host_file(host, b"# host\n")
    host_file(host, GOOD, "libexec/helper.sh")
    host_file(host, b"", ".git/HEAD")
    path = site_file(tmp_path, INLINE + "        # site\n")
    assert found(path, host) == []
    files, _ = read_overrides(checked_sites([path]).sites[0], host)
    assert [(file.path, file.origin) for file in files] == [
        ("libexec/helper.sh", str(host / "slurm/libexec/helper.sh")),
        (ATTRIBUTES, str(place)),
        (ATTRIBUTES, f"{path} install.overrides[0]"),
    ]


def test_host_folder_of_another_batch_system_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "overrides/pbs").mkdir(parents=True)
    (tmp_path / "overrides/pbs/bad.sh").write_bytes(b"if\n")
    assert found(site_file(tmp_path, INLINE + "        # site\n"), tmp_path / "overrides") == []


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("libexec/bad.sh", 2, "line 2: Syntax error"),
        ("libexec/slurm_submit.sh", 0, "not executable"),
        ("libexec/away", 0, "a link that leaves the folder"),
        ("etc/folder", 0, "a link to a folder"),
        ("etc/x~", 0, "not a plain relative path"),
    ],
)
def test_host_folder_is_refused_by_its_own_name(tmp_path: Path, name: str, line: int, words: str) -> None:
    host = tmp_path / "overrides"
    place = host / "slurm" / name
    place.parent.mkdir(parents=True)
    if name == "libexec/away":
        place.symlink_to("/etc/hostname")
    elif name == "etc/folder":
        (host / "slurm/libexec").mkdir()
        place.symlink_to("../libexec")
    else:
        host_file(host, b"#!/bin/sh\n)\n" if "bad" in name else GOOD, name, 0o644)
    (problem,) = found(site_file(tmp_path, INLINE + "        # site\n"), host)
    assert (problem.file, problem.line) == (str(place), line)
    assert words in problem.message


def test_host_folder_with_too_many_files_is_left(tmp_path: Path) -> None:
    host = tmp_path / "overrides"
    for number in range(MAX_EXTRA_FILES + 1):
        host_file(host, b"", f"etc/{number}")
    path = tmp_path / "test.yaml"
    path.write_text(VALID)
    assert [problem.message for problem in found(path, host)] == ["holds more than 64 files"]
    (host / "slurm/etc/0").unlink()
    assert found(path, host) == []


def test_link_inside_the_host_folder_is_followed(tmp_path: Path) -> None:
    host = tmp_path / "overrides"
    host_file(host, GOOD, "libexec/a.sh")
    (host / "slurm/libexec/b.sh").symlink_to("a.sh")
    files, problems = read_overrides(checked_sites([site_file(tmp_path, INLINE + "        x\n")]).sites[0], host)
    assert problems == ()
    assert {file.path for file in files if file.content == GOOD} == {"libexec/a.sh", "libexec/b.sh"}


def test_settings_of_host_and_site_are_in_the_manifest_and_the_site_wins(root: Path) -> None:
    bundle = built(
        root,
        system="sge",
        host_settings=(("sge_rootpath", "/host"), ("sge_cellname", "default")),
        blah_settings=(("sge_rootpath", "/site"),),
    )
    told = [(item.key, item.value, item.origin) for item in bundle.manifest.settings]
    assert told == [("sge_cellname", "default", "gwms-bosco.yaml"), ("sge_rootpath", "/site", "site file")]
    lines = bundle.files["etc/blah.config"].content.decode().splitlines()
    assert [line for line in lines if line.startswith("sge_")] == ["sge_rootpath=/site", "sge_cellname=default"]


def test_host_settings_come_from_the_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "gwms-bosco.yaml"
    path.write_text("batch_settings:\n  sge: {sge_cellname: prod}\n")
    settings = load_settings({"GWMS_BOSCO_CONFIG": str(path)})
    assert settings.host_settings("sge") == (("sge_cellname", "prod"),)
    assert settings.host_settings("slurm") == ()


def test_host_setting_that_the_bundle_makes_itself_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "gwms-bosco.yaml"
    path.write_text("batch_settings:\n  slurm: {slurm_binpath: /x}\n")
    site = tmp_path / "test.yaml"
    site.write_text(VALID)
    with pytest.raises(SiteFileError, match=r"gwms-bosco\.yaml: blah setting slurm_binpath is set by the bundle"):
        checked_sites([site], (), load_settings({"GWMS_BOSCO_CONFIG": str(path)}))


@pytest.mark.parametrize("text", ["{sge: {a: '$(id)'}}", "{sge: {A-B: x}}", "{cobalt: {a: x}}"])
def test_host_settings_obey_the_patterns_of_the_site_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gwms-bosco.yaml"
    path.write_text(f"batch_settings: {text}\n")
    with pytest.raises(SettingsFileError):
        load_settings({"GWMS_BOSCO_CONFIG": str(path)})


def test_site_settings_hold_nothing_that_a_shell_expands(tmp_path: Path) -> None:
    path = tmp_path / "test.yaml"
    path.write_text(VALID.replace("system: slurm", "system: slurm\n  settings: {a: '$(id)'}"))
    assert any(problem.field == "batch.settings.a" for problem in problems_of(path))
