# SPDX-License-Identifier: Apache-2.0
"""The plan is decided from plain values: what is kept, copied on the remote, sent; and what is refused."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from glideinwms_bosco.errors import PlatformError, RemoteError, RemoteStorageError
from glideinwms_bosco.remote.archive import pack_files
from glideinwms_bosco.remote.inspection import InstalledFile, InstalledVersion, OpenPlace, RemoteState, parse_state
from glideinwms_bosco.remote.messages import MessageFormatError, parse_reply
from glideinwms_bosco.remote.plan import (
    check_bosco_dir,
    check_login_shell,
    check_owners,
    check_platform,
    check_space,
    dynamic_linker,
    make_plan,
    recorded,
)
from tests.unit.test_remote_deploy import LARGE, OLD, make_bundle

MACHINE = os.uname().machine
OTHER = "0" * 64


def state(versions: Mapping[str, InstalledVersion] = MappingProxyType({}), **changes: Any) -> RemoteState:
    empty = RemoteState(
        account="pilot", node="login1", home="/home/pilot", architecture=MACHINE, libc="2.34", glite="none",
        glite_target="", versions=versions, missing_tools=(), missing_commands=(), missing_directories=(),
        login="complete", open_places=(), foreign_places=(), not_writable=None, free_kb=None, free_inodes=None,
    )  # fmt: skip
    return dataclasses.replace(empty, **changes)


def installed() -> InstalledVersion:
    files = {entry.path: InstalledFile(entry.sha256, entry.mode) for entry in OLD.manifest.files}
    for name, content in recorded(make_plan(OLD, state()).entries).items():
        files[name] = InstalledFile(hashlib.sha256(content).hexdigest(), 0o644)
    return InstalledVersion(files, dict(OLD.links))


def operations(found: RemoteState) -> dict[str, str]:
    return {entry.path: entry.operation for entry in make_plan(OLD, found).entries if entry.operation != "info"}


def test_empty_account_gets_everything() -> None:
    assert operations(state()) == {"bin/alias": "link", "bin/blahpd": "send", "etc/blah.config": "send"}


def test_content_in_another_version_is_copied_there() -> None:
    plan = make_plan(OLD, state({OTHER: installed()}))
    assert plan.action == "installed"
    assert plan.send == ()
    assert {entry.source for entry in plan.entries if entry.operation == "copy"} == {
        f"{OTHER}/bin/blahpd", f"{OTHER}/etc/blah.config",
    }  # fmt: skip


def test_complete_current_version_needs_nothing() -> None:
    found = state({OLD.digest: installed()}, glite="link", glite_target=f"versions/{OLD.digest}")
    assert make_plan(OLD, found).action == "unchanged"
    assert make_plan(OLD, dataclasses.replace(found, missing_directories=("log",))).action == "repaired"


@pytest.mark.parametrize("target", [f"versions/{OTHER}", "/elsewhere", f"versions/{OLD.digest}/x"])
def test_complete_version_behind_another_link_is_switched_to(target: str) -> None:
    found = state({OLD.digest: installed()}, glite="link", glite_target=target)
    assert make_plan(OLD, found).action == "switched"


def test_numbers_of_libc_are_compared_not_text() -> None:
    check_platform(make_bundle({}, glibc_min="2.9"), state(libc="2.34"), "x")
    with pytest.raises(PlatformError, match=r"2\.9 there is older than 2\.34"):
        check_platform(make_bundle({}, glibc_min="2.34"), state(libc="2.9"), "x")


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"libc": None}, "no glibc"), ({"missing_tools": ("tar",)}, "tar"), ({"architecture": "aarch65"}, "aarch65")],
)
def test_refuses_machine(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PlatformError, match=words):
        check_platform(OLD, state(**changes), "x")


def test_space_is_refused_below_the_need_and_accepted_at_it() -> None:
    plan = make_plan(LARGE, state())
    with pytest.raises(RemoteStorageError) as caught:
        check_space(LARGE, plan, state(free_kb=0), "x")
    need = int(caught.value.message.split(" kB free, ")[1].split()[0])
    assert need * 1024 > len(LARGE.files["lib/big"].content)
    check_space(LARGE, plan, state(free_kb=need), "x")
    with pytest.raises(RemoteStorageError, match="kB free"):
        check_space(LARGE, plan, state(free_kb=need - 1), "x")
    with pytest.raises(RemoteStorageError, match="inodes"):
        check_space(LARGE, plan, state(free_inodes=3), "x")
    with pytest.raises(RemoteStorageError, match="/home/pilot is not writable"):
        check_space(LARGE, plan, state(not_writable="/home/pilot"), "x")


@pytest.mark.parametrize("folder", ["", "/abs", "..", "a/../b", "-x", "a b", "a\nb", "$HOME", "a//b"])
def test_refuses_folder_outside_home(folder: str) -> None:
    bad = dataclasses.replace(OLD, manifest=dataclasses.replace(OLD.manifest, bosco_dir=folder))
    with pytest.raises(RemoteError, match="bosco_dir"):
        check_bosco_dir(bad)


def test_dynamic_linker_is_read_from_programs_only() -> None:
    assert (dynamic_linker(Path("/bin/true").read_bytes()) or "").startswith("/lib")
    assert dynamic_linker(b"#!/bin/sh\n") is None
    assert dynamic_linker(b"\x7fELF" + b"\xff" * 100) is None
    assert dynamic_linker(b"\x7fELF") is None


def test_archive_holds_only_what_was_asked_and_is_reproducible() -> None:
    packed = pack_files(OLD, ("bin/blahpd",))
    assert packed == pack_files(OLD, ("bin/blahpd",))
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as archive:
        (member,) = archive.getmembers()
    assert (member.name, member.mode, member.uid, member.mtime) == ("bin/blahpd", 0o755, 0, 0)


THERE = "ab" * 32
ANSWER = (
    f"ACCOUNT pilot\nUID 7\nNODE n\nHOME /h\nARCH x86_64\nLIBC 2.34\nGLITE link versions/{THERE}\nVERSION ab\n"
    f"MODE ab 81ed bin/x\nSUM ab {OTHER}  bin/x\nMODE ab a1ff bin/y\nSUM ab {OTHER}  bin/y\nTARGET ab bin/y x\n"
    "LOGIN complete\nHELD 7 41ed .\nHELD 7 41c0 sandbox\nHELD 7 a1ff versions/ab\n"
)


def answer(text: str) -> RemoteState:
    return parse_state(parse_reply(f"GWMS-BOSCO-BEGIN n\n{text}GWMS-BOSCO-END n\n".encode(), "n"))


def test_reads_the_answer_of_the_account() -> None:
    found = answer(ANSWER)
    assert found.current_digest == THERE
    assert found.versions["ab"].files == {"bin/x": InstalledFile(OTHER, 0o755)}
    assert found.versions["ab"].links == {"bin/y": "x"}


@pytest.mark.parametrize(
    ("old", "new"),
    [("NODE n\n", ""), ("NODE n\n", "NODE n\nNODE n\n"), ("GLITE link", "GLITE what"), (OTHER, "zz"),
     ("VERSION ab", "VERSION ../x"), ("81ed", "+1"), ("ARCH", "FREE-KB -1\nARCH")],
)  # fmt: skip
def test_refuses_malformed_answer(old: str, new: str) -> None:
    with pytest.raises(MessageFormatError):
        answer(ANSWER.replace(old, new))


@pytest.mark.parametrize("libc", ["", "musl", "2", "2.34.x"])
def test_unknown_libc_is_none(libc: str) -> None:
    assert answer(ANSWER.replace("LIBC 2.34", f"LIBC {libc}")).libc is None


@pytest.mark.parametrize(
    "line", ["HELD 7 41c0 ../x", "HELD x 41c0 log", "LOGIN what", "UID 8", "HELD 7 41c0 versions/a/b"]
)
def test_refuses_malformed_line_about_owners_and_login(line: str) -> None:
    with pytest.raises(MessageFormatError):
        answer(f"{ANSWER}{line}\n")


@pytest.mark.parametrize(
    ("held", "places"),
    [
        ("41ed .", ()),
        ("41fd .", (OpenPlace(".", 0o775),)),
        ("41ef versions", (OpenPlace("versions", 0o757),)),
        ("41c0 log", ()),
        ("45c0 log", ()),
        ("41e8 log", (OpenPlace("log", 0o750),)),
        ("41ed sandbox", (OpenPlace("sandbox", 0o755),)),
        ("81b4 versions/ab", (OpenPlace("versions/ab", 0o664),)),
        ("a1ff versions/ab", ()),
    ],
)
def test_place_is_open_when_others_may_write_or_look_into_sandboxes(held: str, places: tuple[OpenPlace, ...]) -> None:
    found = answer(f"{ANSWER.replace('HELD 7 41c0 sandbox', '')}HELD 7 {held}\n".replace("\n\n", "\n"))
    assert found.open_places == places
    assert found.foreign_places == ()


def test_open_place_turns_unchanged_into_repaired_and_files_are_verified_again() -> None:
    found = state({OLD.digest: installed()}, glite="link", glite_target=f"versions/{OLD.digest}")
    opened = dataclasses.replace(found, open_places=(OpenPlace("versions", 0o777),))
    assert make_plan(OLD, opened).action == "repaired"
    assert {entry.operation for entry in make_plan(OLD, opened).entries} == {"keep", "there", "info"}
    private = make_plan(OLD, dataclasses.replace(found, open_places=(OpenPlace("log", 0o755),)))
    assert (private.action, private.entries) == ("repaired", ())


def test_refuses_what_belongs_to_another_user() -> None:
    check_owners(OLD, state(), "x")
    found = answer(f"{ANSWER}HELD 8 81a4 versions/ab\n")
    with pytest.raises(RemoteError, match="/h/site/bosco/versions/ab belongs to user id 8, not to pilot"):
        check_owners(OLD, found, "x")


@pytest.mark.parametrize(
    ("login", "words"),
    [("no-bash", "no /bin/bash"), ("ended 124", r"hangs \(> 30 s\)"), ("ended 143", "hangs"),
     ("ended 0", r"ends the shell \(status 0\)"), ("reads", "reads standard input")],
)  # fmt: skip
def test_refuses_login_shell_that_starts_no_pilot(login: str, words: str) -> None:
    check_login_shell(state(), 30, "x")
    with pytest.raises(RemoteError, match=words) as caught:
        check_login_shell(state(login=login), 30, "x")
    assert "no pilot can start" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "target",
    [f"versions/{OLD.digest[:-1]}", f"versions/{OLD.digest}/", f"./versions/{OLD.digest}",
     f"versions/{OLD.digest}\u2028", f"versions/{OLD.digest.upper()}", "/sw/bosco", ""],
)  # fmt: skip
def test_link_to_anything_but_a_version_is_not_ours(target: str) -> None:
    assert state(glite="link", glite_target=target).glite_is_foreign
    assert not state(glite="link", glite_target=f"versions/{OLD.digest}").glite_is_foreign
    assert not state().glite_is_foreign


def test_texts_of_the_account_are_harmless() -> None:
    found = answer(ANSWER.replace("NODE n", "NODE \x1b[2Jn\r"))
    assert found.node == "?[2Jn"
