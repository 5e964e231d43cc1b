# SPDX-License-Identifier: Apache-2.0
"""A command by root leaves nothing in the state folder that locks the folder's owner out."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import pytest

from glideinwms_bosco import bundle
from glideinwms_bosco.bundle.store import BundleStore
from glideinwms_bosco.cli.main import main
from glideinwms_bosco.entry.state_file import locked, save_states
from glideinwms_bosco.errors import EXIT_OK
from glideinwms_bosco.remote.history import Event, History
from glideinwms_bosco.remote.throttle_state import HostFolder
from glideinwms_bosco.state_folder import give_to_owner, make_folder, write_hint
from tests.packages import NOBODY, open_place
from tests.unit.bundle_fake import make_root
from tests.unit.pilot_world import make_scripts
from tests.unit.site_text import VALID, use_host_folders

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away and becomes another user")
NATIVE = "runtime: {cvmfs: {repositories: [cms.cern.ch], rungs: [native]}}\n"
OTHER = 12345


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folders of a factory whose account is nobody, who has used none of them yet."""
    with open_place() as folder:
        use_host_folders(folder, monkeypatch)
        monkeypatch.setenv("GWMS_BOSCO_SCRIPTS", str(make_scripts(folder / "scripts")))
        monkeypatch.chdir(folder)
        # That account may have no way into the checkout.
        packaged = resources.files
        shutil.copytree(Path(bundle.__file__).parent, folder / "package")
        copies = {bundle.__name__: folder / "package"}
        monkeypatch.setattr(resources, "files", lambda name: copies[name] if name in copies else packaged(name))
        (folder / "state").mkdir(exist_ok=True)
        for name in ("state", "config.d"):
            os.chown(folder / name, NOBODY, NOBODY)
        yield folder


@contextmanager
def nobody() -> Iterator[None]:
    """Be the factory's account."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def write_site(host: Path, cpus: int = 8) -> None:
    text = VALID.replace("entries:\n", NATIVE + "entries:\n").replace("cpus: 8", f"cpus: {cpus}")
    source = "install:\n  htcondor: [{root: " + str(host / "condor") + "}]\n"
    (host / "sites.d" / "test.yaml").write_text(text + source)


def change_state(folder: Path, word: str) -> None:
    History(folder).record("site", "account", Event("deploy", 1.0, True, word))
    History(folder).set_failed("deploy", [word])
    with locked(folder, word):
        save_states(folder, {})
    with HostFolder(folder / "connections" / "login_22").changing(1.0) as state:
        state.refusals = len(word)


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


@ROOT_ONLY
@pytest.mark.parametrize("words", [("entry", "render"), ("remote", "ssh-config"), ("bundle", "build", "test")])
def test_what_root_does_the_factorys_account_does_after_it(host: Path, words: tuple[str, ...]) -> None:
    make_root(host / "condor")
    write_site(host)
    assert main([*words]) == EXIT_OK
    assert owners(host / "state") == {NOBODY}
    with nobody():
        assert main([*words]) == EXIT_OK
    # Other files are written than before.
    write_site(host, 4)
    with nobody():
        assert main([*words]) == EXIT_OK


@ROOT_ONLY
def test_state_that_root_wrote_the_factorys_account_changes(host: Path) -> None:
    state = host / "state"
    change_state(state, "as-root")
    assert owners(state) == {NOBODY}
    with nobody():
        change_state(state, "as-nobody")
        last = History(state).last("site", "account", "deploy")
    assert last is not None
    assert last.headline == "as-nobody"


@ROOT_ONLY
def test_folders_of_an_earlier_command_by_root_are_given_too(host: Path) -> None:
    built = host / "state" / "bundles" / "built"
    built.mkdir(parents=True)
    make_folder(built, host / "state")
    assert owners(host / "state") == {NOBODY}
    assert BundleStore(built, host / "state")


def a_link(target: Path, place: Path) -> None:
    place.symlink_to(target)


def a_link_to_its_folder(target: Path, place: Path) -> None:
    place.parent.rmdir()
    place.parent.symlink_to(target.parent)


def a_second_name(target: Path, place: Path) -> None:
    os.link(target, place)


@ROOT_ONLY
@pytest.mark.parametrize("lay", [a_link, a_link_to_its_folder, a_second_name])
def test_roots_own_file_is_not_given_through_a_name_in_there(host: Path, lay: Callable[[Path, Path], None]) -> None:
    """Attack: the factory's account lays a name of root's file where a command is going to write."""
    target = host / "etc" / "config"
    target.parent.mkdir()
    target.touch()
    place = host / "state" / "ssh" / "config"
    place.parent.mkdir()
    lay(target, place)
    give_to_owner(place, host / "state")
    assert owners(host / "etc") == {0}


@ROOT_ONLY
def test_what_a_third_user_has_there_stays_his(host: Path) -> None:
    path = host / "state" / "file"
    path.touch()
    os.chown(path, OTHER, OTHER)
    give_to_owner(path, host / "state")
    assert path.stat().st_uid == OTHER


def test_who_is_not_root_gives_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    make_folder(tmp_path / "state" / "a" / "b", tmp_path / "state")
    assert (tmp_path / "state" / "a" / "b").is_dir()


@ROOT_ONLY
@pytest.mark.parametrize("words", [("entry", "render"), ("remote", "ssh-config"), ("bundle", "build", "test")])
def test_who_may_not_write_is_told_who_may(
    host: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    make_root(host / "condor")
    write_site(host)
    os.chown(host / "state", OTHER, OTHER)
    with nobody():
        assert main([*words]) != EXIT_OK
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"Permission denied; run this as uid {OTHER}, who owns {host}/state")


@ROOT_ONLY
@pytest.mark.parametrize(
    ("words", "folder"),
    [(("entry", "render"), "pilot"), (("remote", "ssh-config"), "ssh"), (("bundle", "build", "test"), "bundles")],
)
def test_owner_who_is_locked_out_is_told_the_cure(
    host: Path, words: tuple[str, ...], folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_root(host / "condor")
    write_site(host)
    (host / "state" / folder).mkdir()
    with nobody():
        assert main([*words]) != EXIT_OK
        name = (host / "state").owner()
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"as root: chown -R {name}: {host}/state")
    shutil.chown(host / "state" / folder, NOBODY)
    with nobody():
        assert main([*words]) == EXIT_OK


def test_full_disk_has_its_own_hint(tmp_path: Path) -> None:
    assert write_hint(OSError(errno.ENOSPC, "full"), tmp_path, "make room") == "make room"
    assert write_hint(PermissionError(errno.EACCES, "no"), tmp_path / "no", "make it") == "make it"
