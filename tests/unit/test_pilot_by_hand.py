# SPDX-License-Identifier: Apache-2.0
"""The script that starts a pilot by hand: run as it is printed, in a home of its own."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.cli.main import main
from glideinwms_bosco.errors import PilotError
from glideinwms_bosco.pilot.by_hand import MAX_STARTUP_BYTES, ByHand, hand_script
from glideinwms_bosco.pilot.factory_dir import choose_request, pilot_arguments, read_requests
from tests.unit.site_text import use_host_folders, write_site
from tests.unit.test_remote_ssh import wait_until

OK, REFUSED, USAGE = 0, 1, 2
SECRET = "eyJ-the-pool's-token"
# Says what it was started with; ends by the file `end` or by TERM.
STARTUP = b"""\
#!/bin/bash
{
    printf 'arg %s\\n' "$@"
    echo "how ${GWMS_BOSCO_PILOT_HOW-none}"
    echo "proxy ${X509_USER_PROXY-none}"
    echo "marker $(cd "$HOME/site/bosco/pilots" 2>/dev/null && ls)"
    echo "tokens $(ls *.idtoken 2>/dev/null)"
    cat -- *.idtoken 2>/dev/null && echo
    echo "stdin $(cat)"
} >"$HOME/said"
trap 'echo TERM >>"$HOME/said"; exit 9' TERM
while [[ -e $HOME/wait ]]; do read -r -t 0.05 <> <(:) || :; done
exit 7
"""
WRAPPER = """\
#!/bin/bash
echo "wrapper $0" >"$HOME/wrapped"
exec "$@"
"""


def what(*arguments: str, needs_wrapper: bool = False, startup: bytes = STARTUP) -> ByHand:
    return ByHand("JSC_Juwels", "site/bosco", needs_wrapper, startup, arguments)


class Site:
    """A home at the site with a script in it."""

    def __init__(self, folder: Path, script: str) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.script = self.home / "pilot.sh"
        self.script.write_text(script)
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.env = {"HOME": str(self.home), "PATH": os.environ["PATH"], "TMPDIR": str(self.scratch)}

    def token(self, mode: int = 0o600, name: str = "token") -> Path:
        path = self.home / name
        path.write_text(SECRET)
        path.chmod(mode)
        return path

    def argv(self, *options: str) -> list[str]:
        return ["bash", str(self.script), *options]

    def run(self, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*options), env={**self.env, **env}, capture_output=True, text=True, timeout=60, check=False
        )

    def said(self) -> list[str]:
        return (self.home / "said").read_text().splitlines()

    def install_wrapper(self) -> Path:
        wrapper = self.home / "site/bosco/versions/x/egress/job_wrapper"
        wrapper.parent.mkdir(parents=True)
        wrapper.write_text(WRAPPER)
        wrapper.chmod(0o755)
        (self.home / "site/bosco/glite").symlink_to("versions/x")
        return wrapper

    def check_nothing_left(self) -> None:
        assert list(self.scratch.iterdir()) == []
        pilots = self.home / "site/bosco/pilots"
        assert not pilots.exists() or list(pilots.iterdir()) == []


ODD = ["plain", "two words", "it's", '"$HOME"', "`id`", "$(touch pwned)", "*", "!x", "-param_X", "a\\b", "", "@ENTRY@"]


def test_starts_the_pilot_with_its_arguments_and_keeps_its_exit_code(tmp_path: Path) -> None:
    site = Site(tmp_path, hand_script(what(*ODD)))
    done = site.run("--token", str(site.token()))
    assert done.returncode == 7, done.stderr
    said = site.said()
    assert said[: len(ODD)] == [f"arg {word}" for word in ODD]
    assert "tokens credential_by-hand.idtoken" in said
    assert SECRET in said
    assert said[-1] == "stdin "
    (marker,) = [line.split()[1] for line in said if line.startswith("marker ")]
    assert re.fullmatch(r"[A-Za-z0-9._-]+\.[0-9]+\.[0-9]+\.hand", marker)
    site.check_nothing_left()


def test_places_become_paths_of_private_copies(tmp_path: Path) -> None:
    site = Site(tmp_path, hand_script(what("@TOKEN@", "@PROXY@", "@FOLDER@", "x@TOKEN@")))
    (site.home / "proxy").write_text("proxy")
    (site.home / "proxy").chmod(0o400)
    done = site.run("--token", str(site.token()), "--proxy", str(site.home / "proxy"))
    assert done.returncode == 7, done.stderr
    token, proxy, folder, literal = (line.partition(" ")[2] for line in site.said()[:4])
    assert token == f"{folder}/credential_by-hand.idtoken"
    assert proxy == f"{folder}/by-hand.proxy"
    assert Path(folder).parent == site.scratch
    assert literal == "x@TOKEN@"
    assert f"proxy {proxy}" in site.said()
    site.check_nothing_left()


def test_runs_behind_the_installed_job_wrapper(tmp_path: Path) -> None:
    site = Site(tmp_path, hand_script(what(needs_wrapper=True)))
    wrapper = site.install_wrapper()
    done = site.run("--token", str(site.token()))
    assert done.returncode == 7, done.stderr
    # Of one version, so that a switch meanwhile does not matter.
    assert (site.home / "wrapped").read_text() == f"wrapper {wrapper}\n"
    assert "how hand" in site.said()
    assert "marker " in site.said()


def test_site_that_needs_the_wrapper_is_refused_without_it(tmp_path: Path) -> None:
    site = Site(tmp_path, hand_script(what(needs_wrapper=True)))
    done = site.run("--token", str(site.token()))
    assert done.returncode == REFUSED
    assert "remote deploy" in done.stderr
    assert not (site.home / "said").exists()
    site.check_nothing_left()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700, 0o4600])
@pytest.mark.parametrize("option", ["--token", "--proxy"])
def test_credential_that_others_may_read_is_refused(tmp_path: Path, option: str, mode: int) -> None:
    site = Site(tmp_path, hand_script(what()))
    done = site.run(option, str(site.token(mode)))
    assert done.returncode == REFUSED
    assert f"has mode {mode:o}" in done.stderr
    assert "chmod 600" in done.stderr
    assert not (site.home / "said").exists()
    site.check_nothing_left()


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ((), REFUSED, "name a token or a proxy"),
        (("--token",), USAGE, "usage"),
        (("--tokens", "x"), USAGE, "usage"),
        (("--token", "/nonexistent"), REFUSED, "no file of yours"),
        (("--token", "/"), REFUSED, "no file of yours"),
    ],
)
def test_call_without_a_usable_credential_is_refused(
    tmp_path: Path, options: Sequence[str], status: int, words: str
) -> None:
    site = Site(tmp_path, hand_script(what()))
    done = site.run(*options)
    assert (done.returncode, words in done.stderr) == (status, True), done.stderr
    assert not (site.home / "said").exists()


def test_pasted_into_a_shell_it_takes_the_credential_from_the_environment_and_leaves_the_shell(tmp_path: Path) -> None:
    site = Site(tmp_path, hand_script(what("a")))
    pasted = f"{site.script.read_text()}echo still here\n"
    env = {**site.env, "GWMS_BOSCO_TOKEN": str(site.token())}
    done = subprocess.run(
        ["bash", "--norc", "-i"], input=pasted, env=env, capture_output=True, text=True, timeout=60, check=False,
        start_new_session=True,
    )  # fmt: skip
    assert "still here" in done.stdout, done.stderr
    assert "event not found" not in done.stderr
    assert site.said()[0] == "arg a"
    assert site.said()[-1] == "stdin "
    site.check_nothing_left()


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_signal_ends_the_pilot_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    site = Site(tmp_path, hand_script(what()))
    (site.home / "wait").touch()
    process = subprocess.Popen(
        site.argv("--token", str(site.token())), env=site.env, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: (site.home / "said").exists() and "stdin " in site.said())
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), getattr(signal, f"SIG{name}"))
        assert process.wait(30) == 9
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
    assert site.said()[-1] == "TERM"
    site.check_nothing_left()


def is_free(lock: Path) -> bool:
    with lock.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_next_start_removes_the_credentials_of_a_killed_one_and_of_no_other(tmp_path: Path) -> None:
    site = Site(tmp_path, hand_script(what()))
    (site.home / "wait").touch()
    token = str(site.token())
    process = subprocess.Popen(
        site.argv("--token", token), env=site.env, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(lambda: (site.home / "said").exists() and "stdin " in site.said())
        (left,) = site.scratch.iterdir()
        os.utime(left / "by-hand.lock", (1, 1))
        os.killpg(process.pid, signal.SIGSTOP)
        (site.home / "wait").unlink()
        site.run("--token", token)
        assert (left / "credential_by-hand.idtoken").exists(), "it lives"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    wait_until(lambda: is_free(left / "by-hand.lock"))
    assert list(site.scratch.iterdir()) == [left]
    site.run("--token", token)
    assert list(site.scratch.iterdir()) == []


def test_damaged_copy_is_refused(tmp_path: Path) -> None:
    text = hand_script(what(startup=STARTUP + b"# more\n" * 500))
    lines = text.splitlines(keepends=True)
    (at,) = [number for number, line in enumerate(lines) if line.startswith("STARTUP")]
    lines[at - 1] = lines[at - 1].swapcase()
    site = Site(tmp_path, "".join(lines))
    done = site.run("--token", str(site.token()))
    assert done.returncode == REFUSED
    assert "damaged" in done.stderr
    site.check_nothing_left()


def test_script_is_the_same_for_the_same_input_and_clean(tmp_path: Path) -> None:
    text = hand_script(what(*ODD))
    assert text == hand_script(what(*ODD))
    assert not re.search(r"@[A-Z_]+@", text.replace("@ENTRY@", "", 1))
    path = tmp_path / "pilot.sh"
    path.write_text(text)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", "-e", "SC2016", str(path)], capture_output=True, text=True, check=False)
    assert done.stdout == ""


@pytest.mark.parametrize("argument", ["a\nb", "\x1b[2J", "\x00", "ü", "x" * 9000])
def test_argument_that_no_terminal_pastes_is_refused(argument: str) -> None:
    with pytest.raises(PilotError, match="argument"):
        hand_script(what(argument))


@pytest.mark.parametrize(
    ("size", "good"), [(0, False), (1, True), (MAX_STARTUP_BYTES, True), (MAX_STARTUP_BYTES + 1, False)]
)
def test_start_up_program_has_a_size_limit(size: int, good: bool) -> None:
    if good:
        hand_script(what(startup=b"x" * size))
        return
    with pytest.raises(PilotError, match="bytes"):
        hand_script(what(startup=b"x" * size))


REQUEST = """\
MyType = "glideclient"
Name = "Test_Entry@g@f@frontend.main"
ReqName = "Test_Entry@g@f"
ClientName = "frontend.main"
FrontendName = "frontend"
AuthenticatedIdentity = "cms@factory.example.org"
GroupName = "main"
WebURL = "http://frontend.example.org/stage"
WebSignType = "sha1"
WebDescriptFile = "description.x.cfg"
WebDescriptSign = "aaaa"
WebGroupURL = "http://frontend.example.org/stage/group_main"
WebGroupDescriptFile = "description.y.cfg"
WebGroupDescriptSign = "bbbb"
GlideinParamGLIDEIN_Collector = "pool.example.org:9618,pool2.example.org:9618"
GlideinParamUSE_MATCH_AUTH = true
GlideinParamEmpty = ""
GlideinParamQuoted = "a \\"b\\" c"
GlideinEncParamSubmitProxy = "5ec2e7"
ReqEncKeyCode = "0ec2e7"
"""


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    """A factory's work folder as reconfig leaves it."""
    folder = tmp_path / "work-dir"
    (folder / "entry_Test_Entry").mkdir(parents=True)
    files = {
        "glidein.descript": "# File: glidein.descript\nGlideinName \tg\nFactoryName \tf\nWebURL \thttp://f.example.org/s\n",
        "signatures.sha1": "# x\n1111 description.m.cfg main\n2222 description.e.cfg entry_Test_Entry\n",
        "params.cfg": "# x\n",
        "entry_Test_Entry/params.cfg": "GLIDEIN_Verbose \t'std'\nUSE_MATCH_AUTH \t'False'\nNUMBER \t5\n",
        "entry_Test_Entry/job.descript": (
            "Schedd schedd@f\nVerbosity std\nStartupDir .\nSubmitSlotsLayout partitionable\nGridType batch slurm\n"
        ),
        "glidein_startup.sh": STARTUP.decode(),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def options_of(words: Sequence[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2]))


def test_arguments_are_those_of_the_factory(work_dir: Path) -> None:
    (request,) = read_requests(REQUEST)
    options = options_of(pilot_arguments(work_dir, "Test_Entry", request))
    assert options["-web"] == "http://f.example.org/s"
    assert (options["-sign"], options["-descript"]) == ("1111", "description.m.cfg")
    assert (options["-signentry"], options["-descriptentry"]) == ("2222", "description.e.cfg")
    assert (options["-proxy"], options["-clientgroup"], options["-clientsigngroup"]) == ("None", "main", "bbbb")
    collectors = "pool.dot,example.dot,org.colon,9618.comma,pool2.dot,example.dot,org.colon,9618"
    assert options["-param_GLIDEIN_Collector"] == collectors
    # The frontend's own over the entry's; an empty one is none.
    assert (options["-param_USE_MATCH_AUTH"], options["-param_NUMBER"]) == ("True", "5")
    assert options["-param_Quoted"] == "a.nbsp,.quot,b.quot,.nbsp,c"
    assert "-param_Empty" not in options
    assert not [word for word in options.values() if "5ec2e7" in word or "0ec2e7" in word]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('WebURL = "http://frontend', 'WebURL = "two words', "-clientweb"),
        ('WebDescriptSign = "aaaa"', 'WebDescriptSign = ""', "-clientsign"),
        ('GroupName = "main"', "Other = 1", "has no GroupName"),
        ("GlideinParamEmpty", "GlideinParamA.B", "has no name"),
    ],
)
def test_request_that_would_shift_arguments_is_refused(work_dir: Path, old: str, new: str, words: str) -> None:
    (request,) = read_requests(REQUEST.replace(old, new, 1))
    with pytest.raises(PilotError, match=words):
        pilot_arguments(work_dir, "Test_Entry", request)


@pytest.mark.parametrize("literal", ["__import__('os').system('id')", "'open", "[", ""])
def test_parameter_file_is_read_and_not_run(work_dir: Path, literal: str) -> None:
    (work_dir / "entry_Test_Entry/params.cfg").write_text(f"EVIL \t{literal}\n")
    (request,) = read_requests(REQUEST)
    with pytest.raises(PilotError, match="EVIL is not written as reconfig writes it"):
        pilot_arguments(work_dir, "Test_Entry", request)


def test_request_is_chosen_by_frontend_and_group() -> None:
    second = REQUEST.replace("main", "other").replace('"frontend"', '"second"')
    third = REQUEST.replace("Test_Entry@", "Else@")
    ads = read_requests(f"\n\n{REQUEST}\n{second}\n{third}\nnoise\n")
    assert len(ads) == 3
    with pytest.raises(PilotError, match="several frontends") as several:
        choose_request(ads, "Test_Entry", "", "")
    assert "frontend.main, frontend.other" in several.value.hint
    assert choose_request(ads, "Test_Entry", "second", "")["GroupName"] == "other"
    assert choose_request(ads, "Test_Entry", "", "main")["GroupName"] == "main"
    with pytest.raises(PilotError, match="no such request"):
        choose_request(ads, "Test_Entry", "second", "main")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "host"
    folder.mkdir()
    use_host_folders(folder, monkeypatch)
    write_site(folder / "sites.d", "batch:", "install: {bosco_dir: site/bosco}\nbatch:")
    return folder


def call(*argv: str, output: Optional[Path] = None) -> int:
    return main(["pilot", "script", "Test_Entry", *(["--output", str(output)] if output else []), *argv])


def test_command_prints_the_script_of_a_factory(host: Path, work_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "ads").write_text(REQUEST)
    argv = ["--factory-dir", str(work_dir), "--request", str(host / "ads")]
    assert call(*argv) == OK
    printed = capsys.readouterr().out
    assert call(*argv, output=host / "pilot.sh") == OK
    assert (host / "pilot.sh").read_text() == printed
    site = Site(host, printed)
    assert site.run("--token", str(site.token())).returncode == 7
    assert "arg -entry" in site.said()


def test_command_takes_another_program_with_its_arguments(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "start.sh").write_bytes(STARTUP)
    assert call("--startup", str(host / "start.sh"), "--arguments", "archive", "@TOKEN@", "--life", "5") == OK
    site = Site(host, capsys.readouterr().out)
    assert site.run("--token", str(site.token())).returncode == 7
    assert [line for line in site.said() if line.startswith("arg ")][2:] == ["arg --life", "arg 5"]


def test_command_says_what_is_missing(host: Path, work_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--factory-dir", str(host / "none"), "--request", "-") == REFUSED
    assert "work folder" in capsys.readouterr().err
    assert call("--factory-dir", str(work_dir)) == USAGE
    assert "--request" in capsys.readouterr().err
    assert main(["pilot", "script", "Unknown"]) == USAGE
    assert "known entries: Test_Entry" in capsys.readouterr().err
