# SPDX-License-Identifier: Apache-2.0
"""Which HTCondor source a machine gets, why not the others, and what a login node tells of itself."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.bundle.platform import SourcePlatform
from glideinwms_bosco.cli.main import main
from glideinwms_bosco.errors import PlatformError, SourceError
from glideinwms_bosco.remote.messages import MessageFormatError, parse_reply
from glideinwms_bosco.remote.platform import (
    Candidate,
    Machine,
    ask_machine,
    choose,
    libraries_of,
    misfit,
    parse_machine,
)
from glideinwms_bosco.site.source import HTCondorSource
from tests.unit.bundle_fake import make_release_like_tarball, make_root
from tests.unit.site_text import use_host_folders, write_site
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd
from tests.unit.test_remote_ssh import runtime_directory

__all__ = ["loopback_sshd", "runtime_directory"]

OK, REFUSED, USAGE, REMOTE = range(4)
MACHINE = os.uname().machine
PCRE = ("libpcre2-8.so.0", "PCRE2_10.47")
EL9 = SourcePlatform("x86_64", "2.34", "24.0.9", (("libcrypto.so.3", ""),))
LOGIN = Machine("x86_64", "2.36")


def candidates(**platforms: Any) -> list[Candidate]:
    return [Candidate(HTCondorSource(root=f"/{name}"), platform) for name, platform in platforms.items()]


def chosen(machine: Machine, **platforms: Any) -> str:
    return str(choose(candidates(**platforms), machine, "login").source.root)


def test_newest_that_fits_wins_and_versions_are_numbers() -> None:
    old, new = replace(EL9, htcondor_version="24.0.9"), replace(EL9, htcondor_version="24.0.10")
    assert chosen(LOGIN, a=old, b=new) == "/b"
    assert chosen(LOGIN, a=new, b=old) == "/a"
    assert chosen(LOGIN, a=replace(new, glibc_min="2.38"), b=old) == "/b"


def test_first_of_equal_ones_wins() -> None:
    choice = choose(candidates(a=EL9, b=EL9), LOGIN, "login")
    assert choice.source.root == "/a"
    assert choice.lines() == ("HTCondor from /a (24.0.9)", "not from /b (24.0.9): same version, later in the list")


@pytest.mark.parametrize(
    ("changes", "machine", "reason"),
    [
        ({}, LOGIN, ""),
        ({}, replace(LOGIN, libc="2.34"), ""),
        ({}, replace(LOGIN, libc="2.34.1"), ""),
        ({"glibc_min": "2.9"}, LOGIN, ""),
        ({"glibc_min": ""}, replace(LOGIN, libc=None), ""),
        ({}, replace(LOGIN, libc="2.9"), "needs glibc 2.34"),
        ({}, replace(LOGIN, libc=None), "needs glibc 2.34"),
        ({}, replace(LOGIN, architecture="aarch64"), "is for x86_64"),
        ({"libraries": (PCRE,)}, LOGIN, ""),
        ({"libraries": (PCRE,)}, replace(LOGIN, missing=frozenset({PCRE})), "needs libpcre2-8.so.0 with PCRE2_10.47"),
        ({}, replace(LOGIN, missing=frozenset({("libcrypto.so.3", "")})), "needs libcrypto.so.3"),
        ({}, replace(LOGIN, missing=frozenset({PCRE})), ""),
    ],
)
def test_reason_is_what_the_source_needs(changes: dict[str, Any], machine: Machine, reason: str) -> None:
    assert misfit(replace(EL9, **changes), machine) == reason


def test_library_that_the_bundle_brings_is_not_missed() -> None:
    machine = replace(LOGIN, missing=frozenset({PCRE}))
    assert misfit(replace(EL9, libraries=(PCRE,)), machine, frozenset({"libpcre2-8.so.0"})) == ""


def test_refusal_names_every_source_with_its_reason() -> None:
    arm = replace(EL9, architecture="aarch64", htcondor_version="25.0.1")
    with pytest.raises(PlatformError) as caught:
        choose(candidates(a=replace(EL9, glibc_min="2.38"), b=arm, c=SourceError("/c: gone")), LOGIN, "me@login")
    assert caught.value.message == (
        "me@login: no HTCondor source runs on x86_64 with glibc 2.36: /a (24.0.9) needs glibc 2.38; "
        "/b (25.0.1) is for aarch64; /c cannot be used: /c: gone"
    )
    assert "gwms-bosco.yaml" in caught.value.hint


def test_source_that_cannot_be_read_does_not_stop_the_others() -> None:
    choice = choose(candidates(a=SourceError("/a: gone"), b=EL9), LOGIN, "login")
    assert choice.source.root == "/b"
    assert choice.problems == ("HTCondor source /a cannot be used: /a: gone",)


def test_no_source_that_can_be_read_is_our_fault_not_the_login_node_s() -> None:
    with pytest.raises(SourceError, match=r"/a: gone.*/b: gone"):
        choose(candidates(a=SourceError("/a: gone"), b=SourceError("/b: gone")), LOGIN, "login")
    with pytest.raises(SourceError, match=r"^/a: gone$"):
        choose(candidates(a=SourceError("/a: gone")), LOGIN, "login")


def answer(text: str) -> Machine:
    reply = parse_reply(f"GWMS-BOSCO-BEGIN n\n{text}GWMS-BOSCO-END n\n".encode(), "n")
    return parse_machine(reply, (PCRE, ("libz.so.1", "")))


def test_answer_is_read() -> None:
    told = answer("ARCH x86_64\nLIBC 2.36\nNO-LIBRARY libz.so.1 -\nNO-LIBRARY libpcre2-8.so.0 PCRE2_10.47\n")
    assert told == Machine("x86_64", "2.36", frozenset({PCRE, ("libz.so.1", "")}))
    assert answer("ARCH x86_64\nLIBC (musl)\n").libc is None


@pytest.mark.parametrize(
    "text",
    ["ARCH x86_64\n", "LIBC 2.36\n", "ARCH a b\nLIBC 2.36\n", "ARCH x\nARCH x\nLIBC 2.3\n",
     "ARCH x86_64\nLIBC 2.36\nNO-LIBRARY libother.so.1 -\n"],
)  # fmt: skip
def test_answer_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(MessageFormatError):
        answer(text)


def test_login_node_tells_what_it_lacks(loopback_sshd: LoopbackSshd) -> None:
    asked = (
        ("libc.so.6", ""),
        ("libc.so.6", "GLIBC_2.17"),
        ("libc.so.6", "GLIBC_2.999"),
        ("libnone-such.so.1", ""),
        ("libnone-such.so.1", "X_1"),
    )
    with loopback_sshd.session() as session:
        machine = ask_machine(session, asked)
    assert machine.architecture == MACHINE
    assert machine.libc is not None
    assert machine.missing == set(asked[2:])


def test_all_libraries_are_asked_for_once() -> None:
    both = candidates(a=EL9, b=replace(EL9, libraries=(PCRE, ("libcrypto.so.3", ""))), c=SourceError("gone"))
    assert libraries_of(both) == (("libcrypto.so.3", ""), PCRE)


@pytest.fixture()
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopback_sshd: LoopbackSshd) -> Path:
    """A factory with two sources: an older HTCondor, and a newer one whose ELF headers say another machine."""
    folder = tmp_path / "host"
    folder.mkdir()
    use_host_folders(folder, monkeypatch)
    make_root(folder / "here", version="23.9.6")
    other = make_root(folder / "patched-elf-headers", version="25.0.1")
    for place in other.rglob("*"):
        if place.is_file() and not place.is_symlink() and place.read_bytes()[:4] == b"\x7fELF":
            data = bytearray(place.read_bytes())
            data[18:20] = (62 if MACHINE == "aarch64" else 183).to_bytes(2, "little")
            place.write_bytes(bytes(data))
    sha256 = make_release_like_tarball(folder / "other.tar.gz", other)
    (folder / "gwms-bosco.yaml").write_text(
        f"htcondor:\n  - {{tarball: {folder}/other.tar.gz, sha256: {sha256}}}\n  - {{root: {folder}/here}}\n"
    )
    monkeypatch.setenv("GWMS_BOSCO_CONFIG", str(folder / "gwms-bosco.yaml"))
    path = write_site(folder / "sites.d")
    text = path.read_text().replace("login.example.org", f"127.0.0.1\n  port: {loopback_sshd.port}")
    key = text[text.index('["') + 2 : text.index('"]')]
    text = text.replace(key, loopback_sshd.host_key).replace("user: pilot", f"user: {loopback_sshd.user}")
    path.write_text(text + "install:\n  overrides:\n    - {path: etc/mine, content: a}\n")
    return folder


def test_dry_run_shows_the_choice_and_what_is_laid_over(
    host: Path, loopback_sshd: LoopbackSshd, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["remote", "deploy", "test", "--dry-run", "--key", str(loopback_sshd.key_file)]
    assert main(argv) == OK
    out = capsys.readouterr().out
    other = "x86_64" if MACHINE == "aarch64" else "aarch64"
    assert "would-install" in out
    assert f"source: HTCondor from {host}/here (23.9.6)\n" in out
    assert f"source: not from other.tar.gz (25.0.1): is for {other}\n" in out
    assert f"from {host}/sites.d/test.yaml install.overrides[0], a new file\n" in out
    assert main([*argv, "--json"]) == OK
    report = json.loads(capsys.readouterr().out)
    assert report["sources"]["chosen"] == f"{host}/here (23.9.6)"
    assert report["overrides"][0]["path"] == "etc/mine"
    assert loopback_sshd.log.read_text().count("Accepted publickey") == 2
    assert not (loopback_sshd.home / "bosco").exists()


def test_refused_platform_is_one_line_and_leaves_nothing_there(
    host: Path, loopback_sshd: LoopbackSshd, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = host / "gwms-bosco.yaml"
    lines = settings.read_text().splitlines()
    settings.write_text("\n".join([*lines[:2], lines[1]]) + "\n")
    assert main(["remote", "deploy", "test", "--key", str(loopback_sshd.key_file)]) == REMOTE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.count("other.tar.gz (25.0.1) is for ") == 2
    assert not (loopback_sshd.home / "bosco").exists()


def test_one_source_needs_no_question(host: Path, loopback_sshd: LoopbackSshd, monkeypatch: Any) -> None:
    (host / "gwms-bosco.yaml").write_text(f"htcondor: {{root: {host}/here}}\n")
    monkeypatch.setattr("glideinwms_bosco.cli.site_bundles.ask_machine", None)
    assert main(["remote", "deploy", "test", "--dry-run", "--key", str(loopback_sshd.key_file)]) == OK


def test_bundle_show_takes_a_platform(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "show", "test", "--platform", f"{MACHINE}:9.9"]) == OK
    out = capsys.readouterr().out
    assert f"installed HTCondor 23.9.6 at {host}/here" in out
    assert "not from other.tar.gz (25.0.1): is for " in out
    assert "etc/mine: " in out
    assert main(["bundle", "show", "test", "--json"]) == OK
    report = json.loads(capsys.readouterr().out)
    assert report["htcondor_version"] == "25.0.1"
    assert report["sources"]["rejected"] == [{"source": f"{host}/here (23.9.6)", "reason": "older"}]
    with pytest.raises(SystemExit):
        main(["bundle", "show", "test", "--platform", "x86_64"])


def test_check_reads_no_source(host: Path) -> None:
    (host / "other.tar.gz").unlink()
    assert main(["site", "check"]) == OK
    assert not list((host / "state").iterdir())


@pytest.mark.parametrize(
    ("htcondor", "words"),
    [
        ("[]", "is empty"),
        ("[{root: x}]", "install.htcondor[0].root"),
        ("[{root: /}, {tarball: /x}]", "install.htcondor[1].sha256: missing"),
        (
            "[{root: /}, {tarball: 'ftp://h/x', sha256: " + "0" * 64 + "}]",
            "install.htcondor[1]: HTCondor source: scheme",
        ),
        ("{tarball: x, sha256: " + "0" * 64 + "}", "install.htcondor: HTCondor source: tarball 'x'"),
        ("/", "install.htcondor: must be"),
    ],
)
def test_check_refuses_bad_sources(host: Path, capsys: pytest.CaptureFixture[str], htcondor: str, words: str) -> None:
    path = host / "sites.d/test.yaml"
    path.write_text(path.read_text() + f"  htcondor: {htcondor}\n")
    assert main(["site", "check"]) == REFUSED
    assert words in capsys.readouterr().err
    (host / "gwms-bosco.yaml").write_text(f"htcondor: {htcondor}\n")
    assert main(["bundle", "show", "test"]) == USAGE
