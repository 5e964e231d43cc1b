# SPDX-License-Identifier: Apache-2.0
"""The job wrapper in bundles: its files, the line of blah.config, and the batch script that blahp makes of it.

GWMS_TEST_CONDOR_ROOT names a root directory that has the `condor` package, for blahp's own scripts.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from glideinwms_bosco.bundle import Bundle, BundleRequest, HTCondorSource, build_bundle, site_request
from glideinwms_bosco.bundle.extra import ExtraFile
from glideinwms_bosco.bundle.store import BundleStore
from glideinwms_bosco.cli.main import main
from glideinwms_bosco.egress.conf import egress_conf
from glideinwms_bosco.errors import BundleError
from tests.unit.bundle_fake import make_release_like_tarball, make_root
from tests.unit.network_text import PILOT_IMAGE, closed, closed_site
from tests.unit.pilot_world import make_scripts
from tests.unit.site_text import changed_site, use_host_folders

ROOT = os.environ.get("GWMS_TEST_CONDOR_ROOT", "")
LINE = "blah_job_wrapper=${BLAHPD_LOCATION}/egress/job_wrapper"
WRAPPER = b"#!/bin/bash\n# the wrapper\n"
OK, REFUSED = 0, 1


def settings_of(bundle: Bundle) -> list[str]:
    return bundle.files["etc/blah.config"].content.decode().splitlines()


def built(root: Path, request: BundleRequest) -> Bundle:
    return build_bundle(HTCondorSource(root=str(root)), request)


def test_bundle_of_a_closed_site_starts_pilots_by_the_wrapper(tmp_path: Path) -> None:
    site = closed_site(tmp_path)
    bundle = built(make_root(tmp_path / "root"), site_request(site, job_wrapper=WRAPPER))
    assert bundle.files["egress/job_wrapper"].content == WRAPPER
    assert bundle.files["egress/job_wrapper"].mode == 0o755
    assert bundle.files["egress/egress.conf"].content.decode() == egress_conf(site)
    assert "egress/known_hosts" in bundle.files
    assert settings_of(bundle).count(LINE) == 1
    # They are ours: an operator has neither laid a file over nor set a key.
    assert bundle.manifest.overrides == ()
    assert bundle.manifest.settings == ()


def test_bundle_of_any_other_site_is_as_before(tmp_path: Path) -> None:
    root, site = make_root(tmp_path / "root"), changed_site(tmp_path)
    request = site_request(site, job_wrapper=WRAPPER)
    assert request == site_request(site) == BundleRequest("slurm")
    bundle = built(root, request)
    assert not [path for path in bundle.files if path.startswith("egress/")]
    assert not [line for line in settings_of(bundle) if line.startswith("blah_job_wrapper=")]


def test_whole_pilot_in_a_container_has_the_wrapper_without_a_tunnel(tmp_path: Path) -> None:
    site = changed_site(tmp_path, "entries:\n", f"runtime: {{{PILOT_IMAGE}}}\nentries:\n")
    bundle = built(make_root(tmp_path / "root"), site_request(site, job_wrapper=WRAPPER))
    assert bundle.files["egress/egress.conf"].content.startswith(b"KIND=none\n")
    assert LINE in settings_of(bundle)


def test_request_of_a_closed_site_without_the_wrapper_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="needs the job wrapper"):
        site_request(closed_site(tmp_path))


@pytest.mark.parametrize("where", ["host", "site"])
def test_another_job_wrapper_is_refused(tmp_path: Path, where: str) -> None:
    settings = {"blah_job_wrapper": "/opt/start"}
    site = closed_site(tmp_path)
    with pytest.raises(BundleError, match="set by the bundle itself; remove it"):
        if where == "host":
            site_request(site, settings, job_wrapper=WRAPPER)
        else:
            own = site_request(site, job_wrapper=WRAPPER)
            BundleRequest("slurm", blah_settings=settings, own_settings=own.own_settings)
    assert site_request(changed_site(tmp_path), settings).settings[0].value == "/opt/start"


def test_file_laid_over_wins_and_is_recorded(tmp_path: Path) -> None:
    over = ExtraFile("egress/known_hosts", b"login ssh-ed25519 AAAA\n", "site.yaml")
    bundle = built(make_root(tmp_path / "root"), site_request(closed_site(tmp_path), (), (over,), WRAPPER))
    assert bundle.files["egress/known_hosts"].content == over.content
    assert [override.path for override in bundle.manifest.overrides] == ["egress/known_hosts"]


def test_changed_wrapper_makes_another_bundle_also_in_the_store(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    sha256 = make_release_like_tarball(tmp_path / "condor.tar.gz", root)
    source = HTCondorSource(tarball=str(tmp_path / "condor.tar.gz"), sha256=sha256)
    store, site = BundleStore(tmp_path / "store"), closed_site(tmp_path)
    first = store.get(source, site_request(site, job_wrapper=WRAPPER))
    assert store.get(source, site_request(site, job_wrapper=WRAPPER)) == first
    second = store.get(source, site_request(site, job_wrapper=WRAPPER + b"# newer\n"))
    assert second.files["egress/job_wrapper"].content == WRAPPER + b"# newer\n"
    assert second.digest != first.digest


# The command


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_host_folders(tmp_path, monkeypatch)
    monkeypatch.setenv("GWMS_BOSCO_SCRIPTS", str(make_scripts(tmp_path / "scripts")))
    return tmp_path


def write(host: Path, text: str) -> None:
    root = make_root(host / "root") if not (host / "root").exists() else host / "root"
    text = text.replace("entries:\n", f"install: {{htcondor: {{root: {root}}}}}\nentries:\n", 1)
    (host / "sites.d" / "test.yaml").write_text(text, encoding="utf-8")


def test_site_check_and_bundle_take_the_packed_script(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(host, closed())
    assert main(["site", "check", "test"]) == OK
    assert main(["bundle", "show", "test", "--json"]) == OK
    shown = capsys.readouterr().out
    assert all(f"egress/{name}" in shown for name in ("job_wrapper", "egress.conf", "known_hosts"))


def test_site_check_names_what_is_missing(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(host, closed())
    (host / "scripts" / "job_wrapper").unlink()
    assert main(["site", "check", "test"]) == REFUSED
    assert "there is no pilot script job_wrapper" in capsys.readouterr().err


# blahp's own submit script


class Login:
    """A login node with bundles in ~/bosco/versions, the launcher, and an `sbatch` that keeps what it is given."""

    def __init__(self, folder: Path) -> None:
        self.home, self.kept = folder / "home", folder / "batch_script"
        self._bin = folder / "bin"
        for place in (self.home / "bosco" / "log", self.home / "bosco" / "leases", self.home / "work", self._bin):
            place.mkdir(parents=True)
        sbatch = self._bin / "sbatch"
        sbatch.write_text(f'#!/bin/sh\ncp "$1" "{self.kept}"\necho "Submitted batch job 7"\n', encoding="utf-8")
        sbatch.chmod(0o755)

    def install(self, bundle: Bundle) -> Path:
        """Lay it out and move the link; in the place of blahpd the script it would start for a job."""
        version = self.home / "bosco" / "versions" / bundle.digest
        for path, file in bundle.files.items():
            place = version / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.content)
            place.chmod(file.mode)
        for path, target in bundle.links.items():
            (version / path).symlink_to(target)
        instead = '#!/bin/sh\nexec "$BLAHPD_LOCATION/libexec/slurm_submit.sh" "$@"\n'
        (version / "libexec" / "blahpd.bin").write_text(instead, encoding="utf-8")
        link = self.home / "bosco" / "glite"
        link.unlink(missing_ok=True)
        link.symlink_to(f"versions/{bundle.digest}")
        return version

    def submit(self, command: Path, *arguments: str) -> str:
        """Submit as blahpd does for a job whose files lie on a shared disk; return the batch script.

        Each argument comes with double quotes of blahpd's. Source: tried with HTCondor 23.9, new-style arguments.
        """
        path = f"{self._bin}:{os.environ['PATH']}"
        done = subprocess.run(
            [
                str(self.home / "bosco" / "glite" / "bin" / "blahpd"),
                *(
                    "-c",
                    str(command),
                    "-s",
                    "no",
                    "-w",
                    str(self.home / "work"),
                    "--",
                    *(f'"{word}"' for word in arguments),
                ),
            ],
            env={"HOME": str(self.home), "PATH": path, "GLITE_LOCATION": "/elsewhere"},
            cwd=self.home / "work",
            capture_output=True,
            timeout=60,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return self.kept.read_text(encoding="utf-8")

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run the batch script as a worker does, which knows nothing of the login node's environment."""
        return subprocess.run(
            ["bash", str(self.kept)],
            env={"HOME": str(self.home), "PATH": os.environ["PATH"]},
            cwd=self.home / "work",
            capture_output=True,
            timeout=60,
            check=False,
            text=True,
        )


PRINTING = b'#!/bin/bash\nprintf "wrapper %s\\n" "$0"\nprintf "<%s>" "${@:2}"\nexec "$@"\n'


@pytest.mark.skipif(not ROOT, reason="GWMS_TEST_CONDOR_ROOT names no HTCondor root")
def test_job_starts_by_the_wrapper_of_the_version_it_was_submitted_with(tmp_path: Path) -> None:
    """Also when the link has moved since, and with arguments as glideinWMS gives them."""
    login, site = Login(tmp_path / "login"), closed_site(tmp_path)
    version = login.install(built(Path(ROOT), site_request(site, job_wrapper=PRINTING)))
    command = login.home / "work" / "glidein_startup.sh"
    command.write_text('#!/bin/bash\nprintf "[%s]" "$@"\nexit 3\n', encoding="utf-8")
    command.chmod(0o755)
    arguments = ("-v", "std", "-param_X", "two words", "a*b", "it's", "-clientweb", "http://f.example.org/x?y=1&z")
    script = login.submit(command, *arguments)
    assert f"{version}/egress/job_wrapper {command} " in script
    newer = login.install(built(Path(ROOT), site_request(site, job_wrapper=PRINTING + b"# newer\n")))
    assert newer != version
    done = login.run()
    assert done.stdout.splitlines()[0] == f"wrapper {version}/egress/job_wrapper", done.stderr
    assert done.stdout.splitlines()[1] == "".join(
        [*(f"<{argument}>" for argument in arguments), *(f"[{argument}]" for argument in arguments)]
    )
    assert "user_retcode=$?" in script
    assert done.returncode == 3


@pytest.mark.skipif(not ROOT, reason="GWMS_TEST_CONDOR_ROOT names no HTCondor root")
def test_job_of_an_open_site_starts_by_itself(tmp_path: Path) -> None:
    login = Login(tmp_path / "login")
    login.install(built(Path(ROOT), site_request(changed_site(tmp_path))))
    command = login.home / "work" / "glidein_startup.sh"
    command.write_text("#!/bin/bash\n", encoding="utf-8")
    command.chmod(0o755)
    assert f"\n {command} " in login.submit(command)
