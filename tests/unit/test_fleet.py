# SPDX-License-Identifier: Apache-2.0
"""One command over many accounts: which are meant, none stops the others, what is said and what exit status it has."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.fleet_bundles import SharedBundles
from glideinwms_bosco.cli.remote_verb import Outcome, Target, Work, add_target_options, run_targets
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.errors import BundleError, RemoteError, SiteFileError, UsageError
from glideinwms_bosco.remote.history import History
from glideinwms_bosco.remote.program import load_program
from tests.unit.site_text import VALID, use_host_folders
from tests.unit.sshd_fixture import LoopbackSshd, children_of, loopback_sshd, make_key
from tests.unit.test_remote_deploy import make_bundle

__all__ = ["loopback_sshd"]

OK, REMOTE = 0, 3
ROOT = Path(__file__).parents[2]
ECHO = load_program("begin.sh") + 'bosco_remote_param\nbosco_remote_say VALUE "$BOSCO_PARAM"\nbosco_remote_end 0\n'


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of an installed host, below a temporary one."""
    folder = tmp_path / "host"
    folder.mkdir()
    return use_host_folders(folder, monkeypatch)


def run(work: Work, *words: str, verb: str = "try") -> int:
    parser = argparse.ArgumentParser()
    add_target_options(parser)
    parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args(words)
    args.verb = verb
    return run_targets(args, load_settings(), "sending", work)


def fine(target: Target, _advance: output.Advance) -> Outcome:
    return Outcome(f"fine {target.account.user}", ("more",), {"user": target.account.user})


def failing(*labels: str) -> Work:
    def work(target: Target, advance: output.Advance) -> Outcome:
        if target.label in labels:
            raise RemoteError(f"{target.label} is down", "wait")
        return fine(target, advance)

    return work


def add_site(host: Path, name: str, *users: str, text: str = VALID) -> Path:
    """A site with these accounts; names of entries are unique over all sites."""
    accounts = "".join(f"  - {{user: {user}, credential: broker}}\n" for user in users)
    text = text.replace("  - user: pilot\n    credential: broker\n", accounts).replace("Test_Entry", f"Test_{name}")
    path = host / "sites.d" / f"{name}.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def three(host: Path) -> Path:
    add_site(host, "alpha", "a1", "a2")
    add_site(host, "beta", "b1")
    add_site(host, "gamma", "g1")
    return host


def labels_of(text: str) -> list[str]:
    """Labels of the plain lines of a run, sorted."""
    return sorted(line.split(": ")[1] for line in text.splitlines() if line.startswith(("ok: ", "FAILED: ")))


@pytest.mark.parametrize(
    ("words", "labels"),
    [
        (["--all"], ["alpha:a1", "alpha:a2", "beta:b1", "gamma:g1"]),
        (["*a"], ["alpha:a1", "alpha:a2", "beta:b1", "gamma:g1"]),
        (["[bg]*"], ["beta:b1", "gamma:g1"]),
        (["alpha:*"], ["alpha:a1", "alpha:a2"]),
        (["*:?1"], ["alpha:a1", "beta:b1", "gamma:g1"]),
        (["beta", "alpha:a2"], ["alpha:a2", "beta:b1"]),
        (["beta", "b*"], ["beta:b1"]),
    ],
)
@pytest.mark.usefixtures("three")
def test_names_and_patterns_choose(words: list[str], labels: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fine, *words) == OK
    assert labels_of(capsys.readouterr().out) == labels


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no account is named"),
        (["beta", "--all"], "exclude each other"),
        (["--all", "--retry-failed"], "exclude each other"),
        (["delta*"], "no site matches 'delta\\*'"),
        (["beta:x*"], "no account matches 'beta:x\\*'"),
        (["beta", "alpha"], "site alpha has several accounts"),
        (["beta", "alpha:zz"], "has no account 'zz'"),
        (["beta", "delta"], "no site 'delta'"),
        (["--all", "--jobs", "0"], "--jobs 0 is out of range"),
        (["--all", "--jobs", "65"], "--jobs 65 is out of range"),
        (["--all", "--key", "/k/{host}"], "{host} stands for nothing"),
        (["--all", "--key", "/nonexistent"], "no such file"),
    ],
)
@pytest.mark.usefixtures("three")
def test_call_that_names_nothing_usable_does_nothing(words: list[str], message: str) -> None:
    worked: list[str] = []

    def work(target: Target, advance: output.Advance) -> Outcome:
        worked.append(target.label)
        return fine(target, advance)

    with pytest.raises(UsageError, match=message):
        run(work, *words)
    assert worked == []


@pytest.mark.usefixtures("three")
def test_single_account_keeps_its_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fine, "beta") == OK
    assert capsys.readouterr().out == "fine b1\nmore\n"
    assert run(fine, "beta", "--json") == OK
    assert json.loads(capsys.readouterr().out) == {"user": "b1"}


@pytest.mark.usefixtures("three")
def test_failing_account_stops_no_other_and_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(failing("alpha:a1"), "--all") == REMOTE
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert "FAILED: alpha:a1: alpha:a1 is down; wait" in lines
    assert len([line for line in lines if line.startswith("ok: ")]) == 3
    assert lines[-1].startswith("4 targets: 3 ok, 1 failed (")
    assert captured.err == "gwms-bosco: 1 of 4 failed; to try them again: gwms-bosco remote try --retry-failed\n"


@pytest.mark.usefixtures("three")
def test_unforeseen_error_stops_no_other_either(capsys: pytest.CaptureFixture[str]) -> None:
    def work(target: Target, advance: output.Advance) -> Outcome:
        if target.label == "beta:b1":
            raise KeyError("x")
        return fine(target, advance)

    assert run(work, "--all") == REMOTE
    assert "FAILED: beta:b1: internal error: KeyError: 'x'" in capsys.readouterr().out


@pytest.mark.usefixtures("three")
def test_finding_that_fails_the_command_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    def work(target: Target, _advance: output.Advance) -> Outcome:
        return Outcome("drift", (), {}, ok=target.label != "beta:b1")

    assert run(work, "--all") == REMOTE
    assert "FAILED: beta:b1: drift" in capsys.readouterr().out


@pytest.mark.usefixtures("three")
def test_json_is_a_line_for_each_and_the_count_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(failing("gamma:g1"), "--all", "--json") == REMOTE
    *accounts, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(row["site"], row["account"], row["ok"]) for row in accounts} == {
        ("alpha", "a1", True), ("alpha", "a2", True), ("beta", "b1", True), ("gamma", "g1", False),
    }  # fmt: skip
    (bad,) = [row for row in accounts if not row["ok"]]
    assert bad["error"] == {"kind": "RemoteError", "message": "gamma:g1 is down", "hint": "wait", "problems": []}
    assert (last["type"], last["verb"], last["total"], last["ok"], last["failed"]) == ("summary", "try", 4, 3, 1)
    assert last["failed_targets"] == ["gamma:g1"]


def test_broken_site_file_fails_its_site_alone(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = add_site(three, "broken", "x")
    path.write_text(path.read_text().replace("cpus: 8", "cpus: x"))
    assert run(fine, "--all") == REMOTE
    lines = capsys.readouterr().out.splitlines()
    (bad,) = [line for line in lines if line.startswith("FAILED: ")]
    assert bad.startswith(f"FAILED: broken: {path}:13: error: entries[0].cpus: must be a whole number")
    assert lines[-1].startswith("5 targets: 4 ok, 1 failed (")
    # Named alone it is refused with all its problems, as ever.
    with pytest.raises(SiteFileError):
        run(fine, "broken")


def test_sites_that_contradict_each_other_fail_without_the_sound_one(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sites with one entry name: the one that is read second is at fault, and only that."""
    path = add_site(three, "zeta", "z")
    path.write_text(path.read_text().replace("Test_zeta", "Test_beta"))
    assert run(fine, "--all", "--json") == REMOTE
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["site"], row["account"]) for row in rows[:-1] if not row["ok"]] == [("zeta", None)]


def test_site_without_a_login_host_is_left_out(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = VALID[: VALID.index("login:")] + "batch:\n  system: slurm\nentries:\n  - name: Test_Imported\n    raw:\n"
    text += "      attributes: {gatekeeper: 'u@h', gridtype: batch slurm, auth_method: x}\n"
    (three / "sites.d" / "imported.yaml").write_text(text)
    assert run(fine, "--all") == OK
    captured = capsys.readouterr()
    assert "left out: imported: its file names no login host\n" in captured.err
    assert "4 targets: 4 ok" in captured.out


@pytest.mark.usefixtures("three")
def test_retry_takes_the_failed_ones_of_the_same_command(capsys: pytest.CaptureFixture[str]) -> None:
    run(failing("alpha:a2", "gamma:g1"), "--all")
    run(fine, "--all", verb="other")
    capsys.readouterr()
    assert run(failing("gamma:g1"), "--retry-failed") == REMOTE
    assert labels_of(capsys.readouterr().out) == ["alpha:a2", "gamma:g1"]
    assert run(fine, "--retry-failed") == OK
    assert labels_of(capsys.readouterr().out) == ["gamma:g1"]
    assert run(fine, "--retry-failed") == OK
    assert capsys.readouterr().out.startswith("0 targets")


@pytest.mark.usefixtures("three")
def test_retry_follows_what_single_commands_have_done_since(capsys: pytest.CaptureFixture[str]) -> None:
    run(failing("alpha:a2", "gamma:g1"), "--all")
    run(fine, "gamma")
    with pytest.raises(RemoteError):
        run(failing("beta:b1"), "beta")
    capsys.readouterr()
    run(fine, "--retry-failed")
    assert labels_of(capsys.readouterr().out) == ["alpha:a2", "beta:b1"]


def test_retry_without_a_readable_list_is_no_success(three: Path) -> None:
    """Nothing tried again must not look like nothing left to try."""
    run(failing("gamma:g1"), "--all")
    (three / "state" / "failed" / "try.json").write_text("{")
    with pytest.raises(UsageError, match="which accounts try failed for cannot be read"):
        run(fine, "--retry-failed")


@pytest.mark.parametrize(("place", "offered"), [("history", True), ("failed", False)])
def test_history_of_accounts_and_list_to_retry_do_not_depend_on_each_other(
    place: str, offered: bool, three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (three / "state").mkdir(exist_ok=True)
    (three / "state" / place).write_text("in the way")
    assert run(failing("gamma:g1"), "--all") == REMOTE
    err = capsys.readouterr().err
    assert "note: the history is not written: " in err
    assert ("--retry-failed" in err) == offered
    history = History(three / "state")
    assert (history.failed("try"), history.last("beta", "b1", "try") is not None) == (
        (("gamma:g1",), False) if offered else ((), True)
    )


@pytest.mark.usefixtures("three")
def test_retry_does_not_forget_what_a_command_for_other_sites_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    run(failing("alpha:a2", "gamma:g1"), "--all")
    run(failing("beta:b1"), "beta", "gamma")
    capsys.readouterr()
    run(fine, "--retry-failed")
    assert labels_of(capsys.readouterr().out) == ["alpha:a2", "beta:b1"]


def test_retry_leaves_out_what_no_longer_exists(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(failing("alpha:a2", "gamma:g1", "beta:b1"), "--all")
    add_site(three, "alpha", "a1")
    (three / "sites.d" / "gamma.yaml").unlink()
    capsys.readouterr()
    assert run(fine, "--retry-failed") == OK
    captured = capsys.readouterr()
    assert labels_of(captured.out) == ["beta:b1"]
    assert "left out: alpha:a2: there is no such account any more" in captured.err
    assert "left out: gamma:g1: there is no such site any more" in captured.err


def test_dry_run_leaves_nothing_behind(three: Path) -> None:
    run(failing("alpha:a2"), "--all", "--dry-run")
    run(fine, "beta", "--dry-run")
    assert list((three / "state").rglob("*")) == []


def test_history_holds_the_last_event_of_each_account(three: Path) -> None:
    run(failing("beta:b1"), "--all")
    run(fine, "gamma")
    history = History(three / "state")
    bad = history.last("beta", "b1", "try")
    assert bad is not None
    assert (bad.ok, bad.headline) == (False, "beta:b1 is down; wait")
    good = history.last("gamma", "g1", "try")
    assert good is not None
    assert (good.ok, good.headline, good.report) == (True, "fine g1", {"user": "g1"})
    assert history.last("gamma", "g1", "other") is None


def test_state_folder_that_cannot_be_written_costs_a_note(
    three: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (three / "file").write_text("")
    monkeypatch.setenv("GWMS_BOSCO_STATE", str(three / "file" / "state"))
    assert run(fine, "beta") == OK
    captured = capsys.readouterr()
    assert captured.out == "fine b1\nmore\n"
    assert captured.err.startswith("note: the history is not written: ")


@pytest.mark.parametrize("jobs", [1, 3])
def test_no_more_than_jobs_at_once(jobs: int, host: Path) -> None:
    add_site(host, "many", *(f"u{number}" for number in range(12)))
    running, most, lock = 0, 0, threading.Lock()
    full = threading.Barrier(jobs)

    def work(target: Target, advance: output.Advance) -> Outcome:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        full.wait(20)  # none passes before all threads are here
        with lock:
            running -= 1
        return fine(target, advance)

    assert run(work, "--all", "--jobs", str(jobs)) == OK
    assert most == jobs


def test_busy_host_does_not_take_all_threads(host: Path) -> None:
    """With two threads and one account hanging, accounts of other hosts come before more of the same host."""
    add_site(host, "alpha", "a1", "a2", "a3")
    for name in ("beta", "gamma"):
        add_site(host, name, "x", text=VALID.replace("login.example.org", f"{name}.example.org"))
    order: list[str] = []
    others = threading.Event()

    def work(target: Target, advance: output.Advance) -> Outcome:
        order.append(target.site.short_name)
        if target.label == "alpha:a1":
            assert others.wait(20)
        if order.count("beta") and order.count("gamma"):
            others.set()
        return fine(target, advance)

    assert run(work, "--all", "--jobs", "2") == OK
    assert set(order[:3]) == {"alpha", "beta", "gamma"}


def test_key_of_each_account_by_its_names(host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_site(host, "alpha", "a1", "a2")
    (tmp_path / "alpha").mkdir()
    make_key(tmp_path / "alpha" / "a1")
    keys: list[Optional[Path]] = []

    def work(target: Target, advance: output.Advance) -> Outcome:
        keys.append(target.key)
        return fine(target, advance)

    assert run(work, "--all", "--key", f"{tmp_path}/{{site}}/{{user}}") == REMOTE
    assert keys == [tmp_path / "alpha" / "a1"]
    assert f"FAILED: alpha:a2: key file {tmp_path}/alpha/a2: no such file" in capsys.readouterr().out


@pytest.mark.usefixtures("three")
def test_remote_text_does_not_reach_the_terminal_raw(capsys: pytest.CaptureFixture[str]) -> None:
    def work(_target: Target, _advance: output.Advance) -> Outcome:
        return Outcome("\x1b]0;x\x07\ntwo", (), {})

    run(work, "--all")
    assert "\x1b" not in capsys.readouterr().out


def make_builder(calls: list[str], name: str, error: Optional[BundleError] = None) -> Callable[[], Bundle]:
    def build() -> Bundle:
        calls.append(name)
        if error is not None:
            raise error
        return make_bundle({"lib/big": (b"x" * 100_000, 0o644), "etc/blah.config": (name.encode(), 0o644)})

    return build


def test_bundle_is_built_once_and_common_files_are_kept_once() -> None:
    bundles, calls = SharedBundles(), list[str]()
    first = bundles.get("a", make_builder(calls, "a"))
    assert bundles.get("a", make_builder(calls, "a")) is first
    second = bundles.get("b", make_builder(calls, "b"))
    assert calls == ["a", "b"]
    assert second.files["lib/big"].content is first.files["lib/big"].content
    assert second.digest != first.digest


def test_bundle_that_cannot_be_built_is_tried_once() -> None:
    bundles, calls = SharedBundles(), list[str]()
    for _ in range(3):
        with pytest.raises(BundleError, match="no source"):
            bundles.get("a", make_builder(calls, "a", BundleError("no source")))
    assert calls == ["a"]


def loopback_sites(folder: Path, daemon: LoopbackSshd, count: int, prefix: str = "up", **login: Any) -> None:
    """Sites behind the loopback sshd; each has the user of the test as its account, and a folder of its own."""
    for number in range(count):
        name = f"{prefix}{number}"
        site = {
            "site": name,
            "trust_domain": "t",
            "login": {"host": "127.0.0.1", "port": daemon.port, "host_keys": [daemon.host_key], **login},
            "accounts": [{"name": "me", "user": daemon.user, "credential": "broker"}],
            "batch": {"system": "slurm"},
            "install": {"bosco_dir": name},
            "entries": [{"name": f"Entry_{name}", "cpus": 1, "walltime": "1h"}],
        }
        (folder / "sites.d" / f"{name}.yaml").write_text(json.dumps(site))


def ask(target: Target, _advance: output.Advance) -> Outcome:
    with target.session() as session:
        return Outcome(session.run_script(ECHO, [target.label]).only("VALUE"), (), {})


@pytest.fixture(autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for control sockets, empty again at the end."""
    path = tmp_path_factory.mktemp("r")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    yield path
    assert list(path.iterdir()) == []


def test_many_accounts_over_real_ssh_and_one_site_down(
    host: Path, loopback_sshd: LoopbackSshd, capsys: pytest.CaptureFixture[str]
) -> None:
    loopback_sites(host, loopback_sshd, 12)
    loopback_sites(host, loopback_sshd, 1, "down", host="localhost", port=1)
    assert run(ask, "--all", "--json", "--key", str(loopback_sshd.key_file)) == REMOTE
    *rows, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["site"] for row in rows if not row["ok"]] == ["down0"]
    assert last["ok"] == 12
    assert loopback_sshd.log.read_text().count("Accepted publickey") == 12


def test_host_s_limit_of_connections_holds_for_the_fleet(host: Path, loopback_sshd: LoopbackSshd) -> None:
    loopback_sites(host, loopback_sshd, 8, max_connections=2)
    most, lock = [0], threading.Lock()

    def work(target: Target, advance: output.Advance) -> Outcome:
        with target.session() as session:
            assert loopback_sshd.process is not None
            with lock:
                most[0] = max(most[0], len(children_of(loopback_sshd.process.pid)))
            session.run_script(ECHO, ["x"])
        return fine(target, advance)

    assert run(work, "--all", "--key", str(loopback_sshd.key_file)) == OK
    # A session that is just ending may still have its process.
    assert most[0] <= 2 + 2
    assert loopback_sshd.log.read_text().count("Accepted publickey") == 8


def test_wrong_key_for_all_accounts_is_refused_three_times_and_no_more(
    host: Path, loopback_sshd: LoopbackSshd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loopback_sites(host, loopback_sshd, 10)
    make_key(tmp_path / "stranger")
    assert run(ask, "--all", "--json", "--key", str(tmp_path / "stranger")) == REMOTE
    *rows, _ = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [row["error"]["kind"] for row in rows]
    assert (kinds.count("AuthenticationError"), kinds.count("ThrottledError")) == (3, 7)
    # What was not tried goes first next time.
    failed = History(host / "state").failed("try")
    tried = {f"{row['site']}:me" for row in rows if row["error"]["kind"] == "AuthenticationError"}
    assert set(failed[-3:]) == tried


UNREAD = """
import argparse, sys
from glideinwms_bosco.cli.remote_verb import Outcome, add_target_options, run_targets
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.errors import RemoteError

def work(target, _advance):
    if target.site.short_name == "gamma":
        raise RemoteError("down")
    return Outcome("done", (), {"x": "y" * 70000})

parser = argparse.ArgumentParser()
add_target_options(parser)
args = parser.parse_args(sys.argv[1:])
args.verb = "try"
sys.exit(run_targets(args, load_settings(), "x", work))
"""


@pytest.mark.parametrize("words", [["--all"], ["--all", "--json"]])
@pytest.mark.parametrize("place", ["closed pipe", "/dev/full"])
def test_output_that_nobody_takes_ends_no_work(three: Path, words: list[str], place: str) -> None:
    """`| head`, or a log on a full disk: every account is worked on, and the exit status tells the truth."""
    if place == "closed pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(place, os.O_WRONLY)
    done = subprocess.run(
        [sys.executable, "-c", UNREAD, *words], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=60,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == REMOTE, done.stderr
    history = History(three / "state")
    assert history.failed("try") == ("gamma:g1",)
    assert history.last("alpha", "a2", "try") is not None
    assert "Traceback" not in done.stderr
    assert "1 of 4 failed" in done.stderr
    assert ("note: standard output: No space left on device" in done.stderr) == (place == "/dev/full")


INTERRUPTED = """
import argparse, sys
from glideinwms_bosco.cli.remote_verb import Outcome, add_target_options, run_targets
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.remote.program import load_program

def work(target, _advance):
    with target.session() as session:
        if target.site.short_name == "up0":
            return Outcome("done", (), {})
        print("hanging", target.label, file=sys.stderr, flush=True)
        session.run_script(load_program("begin.sh") + "sleep 100\\n")

parser = argparse.ArgumentParser()
add_target_options(parser)
args = parser.parse_args(["--all", "--jobs", "2", "--key", sys.argv[1]])
args.verb = "try"
try:
    run_targets(args, load_settings(), "x", work)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_interrupt_ends_what_runs_and_says_what_was_done(host: Path, loopback_sshd: LoopbackSshd) -> None:
    loopback_sites(host, loopback_sshd, 6)
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(loopback_sshd.key_file)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert child.stderr is not None
        hanging = {child.stderr.readline().split()[-1] for _ in range(2)}
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    finally:
        child.kill()
    assert child.returncode == 130, err
    assert time.monotonic() - began < 15
    lines = out.splitlines()
    assert "ok: up0:me: done" in lines
    ended = {line.split(": ")[1] for line in lines if "ended in the middle" in line}
    assert ended == hanging
    assert lines[-1].startswith("6 targets: 1 ok, 5 failed, 3 of them not begun (")
    failed = History(host / "state").failed("try")
    assert set(failed) == {f"up{number}:me" for number in range(1, 6)}
