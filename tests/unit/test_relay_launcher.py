# SPDX-License-Identifier: Apache-2.0
"""gwms_remote_gahp as a program: through remote_gahp, shim and ssh to a real sshd, and each refusal in one line.

GWMS_TEST_CONDOR_ROOT names a root directory with HTCondor's own remote_gahp; without it a stand-in is used that calls
ssh the same way.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.link.deny import DenyCode
from glideinwms_bosco.link.messages import Answer, Deny, Sign
from glideinwms_bosco.relay.launcher import _arguments, read_call
from glideinwms_bosco.relay.status_query import status_file
from glideinwms_bosco.sshwire.handle import MAINTAIN
from tests.unit.relay_fixture import FakeBroker, RelayHost, fake_broker, relay_host
from tests.unit.ssh_version import needs_session_bind
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd, make_key

__all__ = ["loopback_sshd"]

PACKAGE_DIR = Path(__file__).parents[2]
CONDOR_ROOT = os.environ.get("GWMS_TEST_CONDOR_ROOT", "")
REAL_GAHP = Path(CONDOR_ROOT, "usr/sbin/remote_gahp") if CONDOR_ROOT else Path("/usr/sbin/remote_gahp")

STAND_IN = """#!/bin/sh
# Stands in for HTCondor's remote_gahp: finds the destination as it does, then calls ssh by name.
while [ $# -gt 0 ]; do
    case $1 in
    --rgahp-key) echo "key $2" >&2; shift 2;;
    --rgahp-glite) glite=$2; shift 2;;
    --rgahp-user) user=$2@; shift 2;;
    -*) shift;;
    *) break;;
    esac
done
place=$1; command=$2
host=${place%:*}; port=${place##*:}
ssh -p "$port" -o "BatchMode yes" "$user$host" /bin/bash -l -c "'$glite/bin/$command'"
exit $?
"""


class Factory:
    """A factory host whose relay serves one submit handle for the loopback sshd."""

    def __init__(self, host: RelayHost, broker: FakeBroker, sshd: LoopbackSshd) -> None:
        self.host, self.broker, self.sshd = host, broker, sshd
        place = f"127.0.0.1:{sshd.port}"
        self.known = f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n"
        self.handle = broker.add(self.known, place, sshd.user)
        self.credential = broker.handle_file(host.credentials("cms") / "glidein_x" / "credential_fe_ab12", self.handle)
        self.destination = f"{sshd.user}@{place}"
        shim = host.directory / "shim" / "ssh"
        shim.parent.mkdir()
        shim.write_text(f"#!{sys.executable}\nfrom glideinwms_bosco.relay.ssh_shim import main\nmain()\n")
        shim.chmod(0o755)
        glite = sshd.home / "glite" / "bin"
        glite.mkdir(parents=True)
        (glite / "blahpd").write_text("#!/bin/sh\necho '$GahpVersion: stand-in $'\n")
        (glite / "blahpd").chmod(0o755)

    def start(self, connect: bool = True) -> None:
        gahp = REAL_GAHP
        if not gahp.exists():
            gahp = self.host.directory / "stand_in_remote_gahp"
            gahp.write_text(STAND_IN)
            gahp.chmod(0o755)
        self.host.write_conf({"cms": self.broker}, remote_gahp=str(gahp))
        self.host.start()
        if connect:
            self.host.connect(self.broker)
            public = (self.host.sockets / f"{self.handle}.pub").read_text()
            (self.sshd.directory / "authorized_keys").write_text(public)

    def arguments(self, key: Optional[Path] = None, destination: Optional[str] = None) -> list[str]:
        key_options = ["--rgahp-key", str(key or self.credential), "--rgahp-nopass"]
        glite = ["--rgahp-glite", str(self.sshd.home / "glite")]
        return [*key_options, *glite, destination or self.destination, "blahpd"]

    def gahp(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "GWMS_SSH_RELAY_CONF": str(self.host.conf_file),
            "PYTHONPATH": str(PACKAGE_DIR),
            "SSH_AUTH_SOCK": "/nonexistent",
        }
        argv = [sys.executable, "-m", "glideinwms_bosco.relay.launcher", *(arguments or self.arguments())]
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False, env=environment
        )

    def refused(self, *arguments: str) -> str:
        """The one line of a refusal."""
        done = self.gahp(*arguments)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert done.stderr.startswith("GWMS-SSH-BROKER: ")
        assert done.stderr.count("\n") == 1
        assert not self.broker.asked
        return done.stderr


@pytest.fixture
def factory(tmp_path: Path, loopback_sshd: LoopbackSshd) -> Iterator[Factory]:
    (tmp_path / "factory").mkdir()
    with relay_host(tmp_path / "factory") as host:
        yield Factory(host, fake_broker(tmp_path / "frontend", "cms"), loopback_sshd)


@needs_session_bind
def test_handle_reaches_the_far_blahpd(factory: Factory) -> None:
    factory.start()
    done = factory.gahp()
    assert (done.returncode, done.stdout) == (0, "$GahpVersion: stand-in $\n"), done.stderr
    assert len(factory.broker.asked) == 1
    assert len(factory.broker.asked[0].binds) == 1


def test_real_key_goes_to_stock_remote_gahp_unchanged(factory: Factory, tmp_path: Path) -> None:
    recorder = tmp_path / "recorder"
    recorder.write_text('#!/bin/sh\nprintf "%s\\n" "$SSH_AUTH_SOCK" "$@"\n')
    recorder.chmod(0o755)
    make_key(tmp_path / "key")
    factory.host.write_conf({"cms": factory.broker}, remote_gahp=str(recorder))
    arguments = factory.arguments(tmp_path / "key")
    assert factory.gahp(*arguments).stdout.splitlines() == ["/nonexistent", *arguments]
    arguments = ["--rgahp-nokey", "user@host", "blahpd", "--rgahp-key", "kept as it is"]
    assert factory.gahp(*arguments).stdout.splitlines() == ["/nonexistent", *arguments]


@needs_session_bind
def test_broker_refusal_is_the_last_line(factory: Factory) -> None:
    async def deny(_request: Sign) -> Answer:
        return Deny(DenyCode.RATE, "more than 60 signatures an hour", 60)

    factory.start()
    factory.broker.answer = deny
    done = factory.gahp()
    assert done.returncode == 255
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last == (
        "GWMS-SSH-BROKER: DENY 15: more than 60 signatures an hour "
        f"(broker of frontend of cms, handle {factory.handle})"
    )


def test_earlier_refusal_does_not_explain_another_failure(factory: Factory) -> None:
    async def deny(_request: Sign) -> Answer:
        return Deny(DenyCode.RATE, "too many", 60)

    factory.start()
    factory.broker.answer = deny
    factory.gahp()
    factory.sshd.stop()
    done = factory.gahp()
    assert done.returncode == 255
    assert "GWMS-SSH-BROKER" not in done.stderr


def test_broker_away_is_said_at_once(factory: Factory) -> None:
    factory.start()
    factory.host.run(factory.broker.leave())
    factory.host.wait_for(lambda: factory.host.status()["brokers"][0]["state"] == "down")
    line = factory.refused()
    assert line.startswith("GWMS-SSH-BROKER: broker of frontend of cms not connected since 20")
    assert f"(handle {factory.handle}); the frontend's administrator" in line


def test_broker_never_seen_is_said_as_away(factory: Factory) -> None:
    factory.start(connect=False)
    assert "broker of frontend of cms not connected since" in factory.refused()


def test_relay_that_does_not_run_is_named(factory: Factory) -> None:
    factory.start()
    factory.host.stop()
    assert "no relay is running on this host" in factory.refused()


def test_handle_not_offered_is_named(factory: Factory) -> None:
    factory.start()
    factory.broker.items.clear()
    factory.host.run(factory.broker.offer())
    factory.host.wait_for(lambda: (status_file(factory.host.sockets) or {})["brokers"][0]["state"] == "up")
    assert "DENY 1: the broker of frontend of cms does not offer the handle" in factory.refused()


def test_credential_of_another_frontend_is_refused(factory: Factory) -> None:
    """Attack: VO B's frontend sends VO A's handle file; it arrives under VO B's user."""
    factory.start()
    stolen = factory.broker.handle_file(factory.host.credentials("osg") / "credential_x", factory.handle)
    assert "DENY 19" in factory.refused(*factory.arguments(stolen))


def test_link_to_another_frontends_credential_is_refused(factory: Factory) -> None:
    factory.start()
    link = factory.host.credentials("osg") / "credential_x"
    link.parent.mkdir(parents=True)
    link.symlink_to(factory.credential)
    assert "DENY 19" in factory.refused(*factory.arguments(link))
    folder = factory.host.credentials("osg") / "glidein_x"
    folder.symlink_to(factory.credential.parent)
    assert "DENY 19" in factory.refused(*factory.arguments(folder / factory.credential.name))
    climbing = folder.parent / ".." / "user_cms" / "glidein_x" / factory.credential.name
    assert "DENY 19" in factory.refused(*factory.arguments(climbing))


def test_handle_under_another_brokers_pin_is_refused(factory: Factory, tmp_path: Path) -> None:
    """Attack: VO B's frontend names VO A's handle and its own broker, in its own folder."""
    other = fake_broker(tmp_path / "osg", "osg")
    factory.start()
    factory.host.write_conf({"cms": factory.broker, "osg": other}, remote_gahp="/bin/false")
    mixed = other.handle_file(factory.host.credentials("osg") / "credential_x", factory.handle)
    assert "DENY 19" in factory.refused(*factory.arguments(mixed))


def test_unknown_broker_is_refused(factory: Factory, tmp_path: Path) -> None:
    other = fake_broker(tmp_path / "osg", "osg")
    factory.start()
    file = other.handle_file(factory.host.credentials("cms") / "credential_x", factory.handle)
    assert "DENY 19: no broker with pin" in factory.refused(*factory.arguments(file))


def test_maintain_handle_is_not_for_jobs(factory: Factory) -> None:
    factory.start()
    sshd = factory.sshd
    handle = factory.broker.add(factory.known, f"127.0.0.1:{sshd.port}", sshd.user, purpose=MAINTAIN)
    factory.host.run(factory.broker.offer())
    file = factory.broker.handle_file(factory.host.credentials("cms") / "credential_m", handle)
    assert "is for maintain, not for jobs" in factory.refused(*factory.arguments(file))


@pytest.mark.parametrize(
    "wrong",
    ["other@127.0.0.1:{port}", "{user}@localhost:{port}", "{user}@127.0.0.1:1", "127.0.0.1:{port}", "{user}@[::1]"]
)  # fmt: skip
def test_destination_that_is_not_offered_is_refused(factory: Factory, wrong: str) -> None:
    factory.start()
    destination = wrong.format(user=factory.sshd.user, port=factory.sshd.port)
    line = factory.refused(*factory.arguments(destination=destination))
    assert "compare gatekeeper and user of the entry with the broker's policy" in line


def test_second_key_option_beside_a_handle_is_refused(factory: Factory, tmp_path: Path) -> None:
    """Attack: a frontend hides `--rgahp-key OTHER` in its remote user name."""
    factory.start()
    make_key(tmp_path / "key")
    more: tuple[tuple[str, ...], ...] = (("--rgahp-key", str(tmp_path / "key")), ("--rgahp-nokey",))
    for extra in more:
        assert "one more key option" in factory.refused(*extra, *factory.arguments())
        assert "one more key option" in factory.refused(*factory.arguments()[:3], *extra, *factory.arguments()[3:])


@pytest.mark.parametrize(
    "argv",
    [
        ["--rgahp-key", "K", "--rgahp-nopass", "a.b@host:2222", "blahpd"],
        ["a.b@host:2222", "--rgahp-key", "K", "blahpd", "other@elsewhere"],
    ],
)
def test_remote_gahp_is_given_the_destination_that_was_checked(argv: list[str], tmp_path: Path) -> None:
    """23.9's pattern for a destination has no dot in the user name: it would go on to the next word that fits."""
    given = _arguments(argv, read_call(argv))
    at = given.index("--rgahp-user")
    assert given[at : at + 3] == ["--rgahp-user", "a.b", "host:2222"]
    assert "--rgahp-nokey" in given and "K" not in given and "--rgahp-key" not in given
    if not REAL_GAHP.exists():
        pytest.skip("no remote_gahp on this host")
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\necho "$*"\n')
    ssh.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([str(REAL_GAHP), *given], env=environment, capture_output=True, text=True, check=False)
    assert "-p 2222 -o BatchMode yes a.b@host /bin/bash" in done.stdout


def test_broken_relay_conf_stops_handles_and_not_keys(factory: Factory, tmp_path: Path) -> None:
    factory.host.conf_file.write_text('{"version": 1,\n}')
    assert "relay.conf:2: error: a key in double quotes must stand here" in factory.refused()
    make_key(tmp_path / "key")
    done = factory.gahp(*factory.arguments(tmp_path / "key"))
    assert "relay.conf" not in done.stderr or "/usr/sbin/remote_gahp" in done.stderr


def test_damaged_handle_is_refused(factory: Factory) -> None:
    factory.start()
    factory.credential.unlink()
    comment = "gwms-ssh-handle:9:of-the-future"
    argv = ["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-C", comment, "-f", str(factory.credential)]
    subprocess.run(argv, check=True)
    assert "another form" in factory.refused()


def test_launcher_loads_no_slow_library() -> None:
    code = "import sys, glideinwms_bosco.relay.launcher as l; print(*sys.modules)"
    argv = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(PACKAGE_DIR)!r}); {code}"]
    loaded = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    slow = {"cryptography", "yaml", "jsonschema", "asyncio", "ssl", "lxml", "subprocess", "argparse"}
    assert not slow & set(loaded)


@pytest.mark.parametrize(
    ("argv", "keys", "user", "destination"),
    [
        (["u@h:1", "--rgahp-key", "K", "--rgahp-nopass", "blahpd"], ((1, "K"),), "u", "u@h:1"),
        (["--rgahp-key", "K", "h", "blahpd"], ((0, "K"),), None, "h"),
        (["h", "--rgahp-user", "u", "blahpd"], (), "u", "h"),
        (["v@h", "--rgahp-user", "u", "blahpd"], (), "u", "v@h"),
        (["--rgahp-user", "u", "v@h", "blahpd"], (), "v", "v@h"),
        (["h", "blahpd", "--", "--rgahp-key", "K"], (), None, "h"),
        (["h", "blahpd", "more", "--rgahp-key", "K"], (), None, "h"),
        (["h", "-x", "--rgahp-key", "K"], (), None, "h"),
        (["h", "blahpd", "condor_ft-gahp", "--rgahp-key", "K"], ((3, "K"),), None, "h"),
        (["--rgahp-script", "s", "h", "blahpd", "--rgahp-key", "K"], (), None, "h"),
        (["--rgahp-key"], ((0, ""),), None, None),
    ],
)  # fmt: skip
def test_reads_arguments_as_remote_gahp_does(
    argv: list[str], keys: tuple[tuple[int, str], ...], user: Optional[str], destination: Optional[str]
) -> None:
    call = read_call(argv)
    assert (call.keys, call.user, call.destination) == (keys, user, destination)
