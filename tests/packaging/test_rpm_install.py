# SPDX-License-Identifier: Apache-2.0
"""What is where, whose and with which mode, after rpm has installed the packages into an empty root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packages import CHECKOUT, PARTS, package, query, run, version_of
from tests.packaging.rpm_root import ACCOUNTS, RpmRoot

# path -> owner, group, mode. Source: the table in packaging/README.md.
PLACES = {
    "/etc/gwms-bosco": ("root", "root", 0o755),
    "/etc/gwms-bosco/sites.d": ("root", "root", 0o755),
    "/etc/gwms-bosco/overrides": ("root", "root", 0o755),
    "/etc/gwms-bosco/gwms-bosco.yaml": ("root", "root", 0o644),
    "/etc/gwms-factory/config.d": ("gfactory", "gfactory", 0o755),
    "/var/lib/gwms-bosco": ("gfactory", "gfactory", 0o750),
    "/etc/gwms-ssh-relay": ("root", "root", 0o755),
    "/etc/gwms-ssh-relay/relay.conf": ("root", "root", 0o644),
    "/etc/condor/config.d/50-gwms-ssh-relay.conf": ("root", "root", 0o644),
    "/etc/gwms-ssh-broker": ("root", "gwms-ssh-broker", 0o750),
    "/var/lib/gwms-ssh-broker": ("gwms-ssh-broker", "gwms-ssh-broker", 0o750),
    "/var/log/gwms-ssh-broker": ("gwms-ssh-broker", "gwms-ssh-broker", 0o750),
    "/etc/gwms-frontend/ssh": ("frontend", "frontend", 0o700),
    "/etc/logrotate.d/glideinwms-bosco-frontend": ("root", "root", 0o644),
    "/usr/bin/gwms-bosco": ("root", "root", 0o755),
    "/usr/bin/gwms-ssh-broker": ("root", "root", 0o755),
    "/usr/bin/gwms-ssh-relay": ("root", "root", 0o755),
    "/usr/bin/gwms-ssh-tap": ("root", "root", 0o755),
    "/usr/libexec/gwms-bosco/gwms_remote_gahp": ("root", "root", 0o755),
    "/usr/libexec/gwms-bosco/shim/ssh": ("root", "root", 0o755),
    "/usr/libexec/gwms-bosco/reconfig-hook": ("root", "root", 0o755),
    "/usr/share/gwms-bosco/validation_scripts/job_wrapper": ("root", "root", 0o755),
    "/usr/share/gwms-bosco/examples/sites/demo.yaml": ("root", "root", 0o644),
    "/usr/share/gwms-bosco/examples/sites/nersc-like.yaml": ("root", "root", 0o644),
}
EDITABLE = {
    "factory": {
        "/etc/gwms-bosco/gwms-bosco.yaml",
        "/etc/gwms-ssh-relay/relay.conf",
        "/etc/condor/config.d/50-gwms-ssh-relay.conf",
    },
    "frontend": {"/etc/logrotate.d/glideinwms-bosco-frontend"},
}
PROGRAMS = {"gwms-bosco": 1, "gwms-ssh-relay": 8, "gwms-ssh-broker": 8}
"""Name -> section of its manual page."""
WORST_EXPOSURE = 1.8
"""Of `systemd-analyze security`, 0 to 10: what the units were when this was written, or better."""
_DAY_S = 86400


def site_packages(root: RpmRoot) -> Path:
    (found,) = root.path("/usr/lib").glob("python3.*/site-packages")
    return found


def run_code(root: RpmRoot, folder: Path, code: str, *words: object) -> str:
    """Run Python with the installed package; from a file, as -c would look into the checkout first."""
    (folder / "code.py").write_text(code)
    return run(["/usr/bin/python3", "-B", folder / "code.py", *words], PYTHONPATH=str(site_packages(root)))


def test_places_have_owner_and_mode(installed: RpmRoot) -> None:
    assert {path: installed.described(path) for path in PLACES} == PLACES


def test_daemons_get_users_of_their_own_and_no_other_account_changes(installed: RpmRoot) -> None:
    accounts = installed.accounts()
    assert set(accounts) - set(ACCOUNTS) == {"gwms-ssh-relay", "gwms-ssh-broker"}
    assert {name: accounts[name] for name in ACCOUNTS} == ACCOUNTS
    shells = [line for line in installed.path("/etc/passwd").read_text().splitlines() if line.startswith("gwms-")]
    assert all(line.endswith("/nologin") for line in shells)
    # The relay reads no file of the factory's group; its unit gives it that group for the sockets alone.
    assert all(not line.split(":")[3] for line in installed.path("/etc/group").read_text().splitlines())


def test_installing_starts_nothing(changeable: RpmRoot) -> None:
    units = ("gwms-ssh-broker.service", "gwms-ssh-relay.service")
    assert sorted(changeable.systemctl_calls()) == [f"--no-reload preset {unit}" for unit in units]


@pytest.mark.parametrize("part", PARTS)
def test_configuration_is_what_an_administrator_edits(rpms: Path, part: str) -> None:
    lines = query(package(rpms, part), "--queryformat", "[%{FILEFLAGS:fflags} %{FILENAMES}\n]")
    flags = {name: flag for flag, _, name in (line.partition(" ") for line in lines) if flag}
    assert {name for name, flag in flags.items() if "c" in flag} == EDITABLE.get(part, set())
    assert all("n" in flags[name] for name in EDITABLE.get(part, set())), "each is noreplace"
    assert not [name for name, flag in flags.items() if "g" in flag], "rpm removes ghosts"
    in_etc = {line.partition(" ")[2] for line in lines if " /etc/" in line} - EDITABLE.get(part, set())
    hook = "/etc/gwms-factory/hooks.reconfig.pre/50-gwms-bosco"
    assert {name for name in in_etc if name not in PLACES} == ({hook} if part == "factory" else set())


def test_the_hook_is_a_program_that_glideinwms_finds(installed: RpmRoot) -> None:
    hook = installed.path("/etc/gwms-factory/hooks.reconfig.pre/50-gwms-bosco")
    assert hook.is_symlink()
    assert hook.resolve() == installed.path("/usr/libexec/gwms-bosco/reconfig-hook")


def test_files_are_those_of_the_release_byte_for_byte(installed: RpmRoot, checkout: Path) -> None:
    """A build must not touch shebangs: what is sent to other machines needs theirs."""
    pairs = [
        (checkout / "glideinwms_bosco", site_packages(installed) / "glideinwms_bosco"),
        (checkout / "validation_scripts", installed.path("/usr/share/gwms-bosco/validation_scripts")),
    ]
    for source, target in pairs:
        expected = {str(path.relative_to(source)): path.read_bytes() for path in source.rglob("*") if path.is_file()}
        found = {
            str(path.relative_to(target)): path.read_bytes()
            for path in target.rglob("*")
            if path.is_file() and path.parent.name != "__pycache__"
        }
        assert sorted(found) == sorted(expected)
        assert found == expected


def test_compiled_files_are_fresh(installed: RpmRoot, tmp_path: Path) -> None:
    """Else Python compiles everything at each start, and cannot keep it."""
    folder = site_packages(installed)
    argv = ["/usr/bin/python3", "-v", "-B", "-c", "import glideinwms_bosco.relay.launcher"]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)}
    told = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=env, cwd=tmp_path, check=True).stderr
    loaded = re.findall(rf"^# code object from '?({re.escape(str(folder))}/[^\s']+)", told, re.MULTILINE)
    assert any(name.endswith(".pyc") and "/launcher." in name for name in loaded)
    assert [name for name in loaded if not name.endswith(".pyc")] == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_starts_from_the_packages_alone(installed: RpmRoot, program: str, checkout: Path) -> None:
    path = installed.path(f"/usr/bin/{program}")
    interpreter, flags = path.read_text().splitlines()[0].removeprefix("#!").split()
    assert interpreter == "/usr/bin/python3"
    said = run([interpreter, flags, "-B", path, "--version"], PYTHONPATH=str(site_packages(installed)))
    assert said.split() == [program, version_of(checkout)]


def test_pilot_scripts_are_found_where_they_are_installed(installed: RpmRoot, tmp_path: Path) -> None:
    code = "from glideinwms_bosco.pilot.scripts import default_scripts_dir; print(default_scripts_dir())"
    assert Path(run_code(installed, tmp_path, code).strip()) == installed.path(
        "/usr/share/gwms-bosco/validation_scripts"
    )


def test_the_gahp_launcher_hands_over_to_remote_gahp(installed: RpmRoot, tmp_path: Path) -> None:
    """With relay.conf as it is shipped; only the path of remote_gahp is this test's."""
    gahp = tmp_path / "remote_gahp"
    gahp.write_text('#!/bin/sh\necho "gahp $*"\n')
    gahp.chmod(0o755)
    conf = installed.path("/etc/gwms-ssh-relay/relay.conf").read_text()
    assert conf.count("/usr/sbin/remote_gahp") == 1
    (tmp_path / "relay.conf").write_text(conf.replace("/usr/sbin/remote_gahp", str(gahp)))
    launcher = installed.path("/usr/libexec/gwms-bosco/gwms_remote_gahp")
    argv = ["/usr/bin/python3", "-B", launcher, "pilot@login", "--rgahp-key", "/dev/null", "blahpd"]
    env = {"PYTHONPATH": str(site_packages(installed)), "GWMS_SSH_RELAY_CONF": str(tmp_path / "relay.conf")}
    assert run(argv, **env) == "gahp pilot@login --rgahp-key /dev/null blahpd\n"


def test_every_place_that_relay_conf_names_is_installed(installed: RpmRoot) -> None:
    conf = installed.path("/etc/gwms-ssh-relay/relay.conf").read_text()
    for name in ("/usr/libexec/gwms-bosco/shim", "/usr/bin/gwms-ssh-tap"):
        assert f'"{name}"' in conf
        assert installed.path(name).exists()
    snippet = installed.path("/etc/condor/config.d/50-gwms-ssh-relay.conf").read_text()
    (gahp,) = [line.split(" = ")[1] for line in snippet.splitlines() if line.startswith("REMOTE_GAHP")]
    assert os.access(installed.path(gahp), os.X_OK)


@pytest.mark.parametrize(("program", "section"), PROGRAMS.items())
def test_program_has_manual_page_and_completion(installed: RpmRoot, program: str, section: int) -> None:
    assert installed.path(f"/usr/share/man/man{section}/{program}.{section}.gz").stat().st_size
    run(["bash", "-n", installed.path(f"/usr/share/bash-completion/completions/{program}")])


def test_settings_as_shipped_are_the_defaults(installed: RpmRoot, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom glideinwms_bosco.cli.settings import load_settings\n"
        "assert load_settings({'GWMS_BOSCO_CONFIG': sys.argv[1]}) == load_settings({})"
    )
    run_code(installed, tmp_path, code, installed.path("/etc/gwms-bosco/gwms-bosco.yaml"))


def test_shipped_settings_show_each_with_its_default(installed: RpmRoot, tmp_path: Path) -> None:
    text = installed.path("/etc/gwms-bosco/gwms-bosco.yaml").read_text()
    shown = dict(re.findall(r"^# (\w+):(.*)$", text, re.MULTILINE))
    code = (
        "import sys\nfrom glideinwms_bosco.cli.settings import load_settings, settings_schema\n"
        "assert sorted(settings_schema()['properties']) == sorted(sys.argv[2:]), sys.argv[2:]\n"
        "assert load_settings({'GWMS_BOSCO_CONFIG': sys.argv[1]}) == load_settings({})"
    )
    examples = {"htcondor", "batch_settings", "pool"}
    assert shown.pop("scripts_dir").strip() == "/usr/share/gwms-bosco/validation_scripts"
    defaults = tmp_path / "defaults.yaml"
    defaults.write_text("".join(f"{name}:{value}\n" for name, value in shown.items() if name not in examples))
    run_code(installed, tmp_path, code, defaults, *shown, "scripts_dir")


@pytest.mark.parametrize("unit", ["gwms-ssh-broker.service", "gwms-ssh-relay.service"])
def test_unit_is_verified_and_stays_closed(changeable: RpmRoot, unit: str) -> None:
    """With systemd's own targets beside it, verify says nothing at all: no unknown line, no program that lacks."""
    for target in Path("/usr/lib/systemd/system").glob("*.target"):
        shutil.copy(target, changeable.path("/usr/lib/systemd/system"))
    analyze = ["systemd-analyze", "--man=no", f"--root={changeable.top}"]
    done = subprocess.run([*analyze, "verify", unit], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    threshold = f"--threshold={WORST_EXPOSURE * 10:.0f}"
    run(["systemd-analyze", "security", "--offline=true", threshold, CHECKOUT / "packaging" / "systemd" / unit])


@pytest.mark.parametrize("name", ["gwms-ssh-broker", "gwms-ssh-relay"])
def test_daemon_runs_as_its_own_user_in_folders_of_the_packages_modes(installed: RpmRoot, name: str) -> None:
    lines = installed.path(f"/usr/lib/systemd/system/{name}.service").read_text().splitlines()
    unit = dict(line.partition("=")[::2] for line in lines if "=" in line and not line.startswith("#"))
    assert unit["User"] == name
    assert name in installed.accounts()
    assert unit["Group"] in installed.group_names().values()
    for what, above in (("State", "/var/lib"), ("Logs", "/var/log"), ("Configuration", "/etc")):
        if f"{what}Directory" in unit:
            path = f"{above}/{unit[f'{what}Directory']}"
            assert int(unit[f"{what}DirectoryMode"], 8) == PLACES[path][2]


def test_tmpfiles_bring_folders_back_with_owner_and_mode(changeable: RpmRoot) -> None:
    gone = [path for path in PLACES if path.startswith("/var/")]
    for path in gone:
        changeable.path(path).rmdir()
    run(["systemd-tmpfiles", f"--root={changeable.top}", "--create"])
    assert {path: changeable.described(path) for path in gone} == {path: PLACES[path] for path in gone}


def test_logrotate_packs_old_audit_files_and_leaves_the_chain(changeable: RpmRoot) -> None:
    folder = "/var/log/gwms-ssh-broker"
    ages = {"audit-000000000001.jsonl": 500, "audit-000000000900.jsonl": 300, "audit.jsonl": 0}
    state = "logrotate state -- version 2\n"
    for name, age in ages.items():
        changeable.write(f"{folder}/{name}", f"{name}\n", 0o640, "gwms-ssh-broker")
        path = changeable.path(f"{folder}/{name}")
        times = path.stat().st_mtime - age * _DAY_S
        os.utime(path, (times, times))
        state += f'"{folder}/{name}" 2020-1-1-0:0:0\n'
    changeable.write("/tmp/state", state, 0o600)
    run(
        [
            "chroot",
            changeable.top,
            "/usr/sbin/logrotate",
            "-s",
            "/tmp/state",
            "/etc/logrotate.d/glideinwms-bosco-frontend",
        ]
    )
    left = {path.name for path in changeable.path(folder).iterdir()}
    assert left == {"audit-000000000001.jsonl.1.gz", "audit-000000000900.jsonl", "audit.jsonl"}
    assert (
        run(["gzip", "-dc", changeable.path(folder) / "audit-000000000001.jsonl.1.gz"]) == "audit-000000000001.jsonl\n"
    )
