# SPDX-License-Identifier: Apache-2.0
"""Payloads in an apptainer image file: real apptainer of Debian on a node of its own root file system."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.pilot.scripts import default_scripts_dir, pack_script, read_sources
from tests.lab.settings import APPTAINER_RECIPE, NODE_RECIPE, Recipe
from tests.pilot import certificates, debian_node
from tests.pilot.harness import GLIDEINWMS_SRC, Pilot
from tests.pilot.job_wrapper import compose
from tests.pilot.node import Node
from tests.pilot.test_payload import HELLO, HOSTILE, Job, check_codes_and_streams, check_term, environment

MAKE_IMAGE = "/srv/gwms-bosco/tests/pilot/make_image.sh"
BUILD_S = 120.0
MakePilot = Callable[..., Pilot]
MakeNode = Callable[..., Node]
# What apptainer itself sets inside; the image's own program and library folders are its business.
OF_THE_TOOL = ("APPTAINER_", "SINGULARITY_", "PROMPT_COMMAND", "PS1", "USER_PATH", "PATH", "LD_LIBRARY_PATH")


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image file, made once."""
    if os.geteuid() != 0:
        pytest.skip("a test node needs root")
    folder = tmp_path_factory.mktemp("image")
    with debian_node.running(APPTAINER_RECIPE, folder) as node:
        node.run(["bash", MAKE_IMAGE, str(folder / "site.sif")], user=0, deadline_s=BUILD_S).check_returncode()
    for path in (folder, folder.parent):
        path.chmod(0o755)
    return folder / "site.sif"


@pytest.fixture
def debian(tmp_path: Path, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeNode]:
    """Bring up Debian 13 nodes that see the folders of all tests."""
    with ExitStack() as stack:

        def make(recipe: Recipe = APPTAINER_RECIPE, fuse: bool = True) -> Node:
            os.link(image, tmp_path / "site.sif")
            return stack.enter_context(debian_node.running(recipe, tmp_path_factory.getbasetemp(), fuse))

        yield make


def configured(tmp_path: Path, **config: str) -> dict[str, str]:
    image = tmp_path / "site.sif"
    sha256 = hashlib.sha256(image.read_bytes()).hexdigest()
    return {
        "GWMS_BOSCO_CONTAINER": "payload",
        "GWMS_BOSCO_IMAGE": str(image),
        "GWMS_BOSCO_IMAGE_SHA256": sha256,
        "GWMS_BOSCO_NESTED": "False",
        **config,
    }


@pytest.fixture
def contained(debian: MakeNode, make_pilot: MakePilot, tmp_path: Path) -> Callable[..., Pilot]:
    """A pilot whose container_setup has run, and payload_setup after it."""

    def make(distribution: Optional[Path] = None, fuse: bool = True, **config: str) -> Pilot:
        node = debian(fuse=fuse)
        if distribution is not None:
            config["GWMS_BOSCO_CVMFSEXEC_DIR"] = str(distribution)
        pilot = make_pilot(node, **configured(tmp_path, **config))
        if distribution is not None:
            outcome = pilot.run("cvmfs_setup")
            assert outcome.metrics.get("mode") == config.get("GWMS_BOSCO_CVMFS_RUNGS", "userns"), outcome.detail
        outcome = pilot.run("container_setup")
        assert (outcome.rc, outcome.status) == (0, "OK"), outcome
        assert pilot.run("payload_setup").metrics["wrapped"] == "True"
        return pilot

    return make


def test_payload_runs_in_the_image_and_keeps_the_rest(contained: Callable[..., Pilot]) -> None:
    pilot = contained()
    job = Job(pilot, compose(pilot))
    assert job.run("cat", "/etc/standin-image").stdout == b"stand-in image\n"
    assert job.run("pwd").stdout.decode() == f"{job.scratch}\n"
    assert job.run("sh", "-c", "echo x >here").returncode == 0
    assert (job.scratch / "here").exists()
    check_codes_and_streams(job)
    odd = {"ODD": "a 'b' \"c\" $(id)\nd", "EMPTY": "", "HOME": str(job.scratch)}
    inside = {k: v for k, v in environment(job, **odd).items() if not k.startswith(OF_THE_TOOL)}
    plain = environment(Job(pilot, Path("/usr/bin/env")), **odd)
    assert inside == {k: v for k, v in plain.items() if not k.startswith(OF_THE_TOOL)}
    assert pilot.published()["GWMS_BOSCO_IN_CONTAINER"] == '"payload"'
    assert pilot.published()["GWMS_BOSCO_NESTED_CONTAINERS"] == "False"


@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
def test_term_reaches_a_contained_payload(contained: Callable[..., Pilot], group: bool) -> None:
    pilot = contained()
    check_term(Job(pilot, compose(pilot)), group)


def test_cvmfs_of_user_name_spaces_is_bound(contained: Callable[..., Pilot], distribution: Path) -> None:
    pilot = contained(distribution)
    job = Job(pilot, compose(pilot))
    done = job.run("sh", "-c", f"cat {HELLO} /etc/standin-image")
    assert done.stdout.startswith(b"hello") and done.stdout.endswith(b"stand-in image\n"), done
    check_codes_and_streams(job)
    check_term(job, group=False)


def test_cvmfs_of_mountrepo_is_bound(contained: Callable[..., Pilot], distribution: Path) -> None:
    pilot = contained(distribution, GWMS_BOSCO_CVMFS_RUNGS="mountrepo")
    done = Job(pilot, compose(pilot)).run("cat", HELLO, "/etc/standin-image")
    assert done.stdout.startswith(b"hello") and done.stdout.endswith(b"stand-in image\n"), done


@pytest.mark.skipif(not GLIDEINWMS_SRC, reason="GLIDEINWMS_SRC names no checkout of glideinWMS")
def test_real_singularity_wrapper_around_ours_runs_the_payload_bare(
    debian: MakeNode, make_pilot: MakePilot, tmp_path: Path, distribution: Path
) -> None:
    """A frontend's container: its fragment starts apptainer, which runs the composed wrapper again inside."""
    node = debian()
    pilot = make_pilot(node, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution))
    assert pilot.run("cvmfs_setup").metrics.get("mode") == "userns"
    assert pilot.run("payload_setup").metrics["wrapped"] == "True"
    web_base = Path(GLIDEINWMS_SRC) / "creation" / "web_base"
    (pilot.folder / "main").mkdir()
    (pilot.folder / "main" / "singularity_lib.sh").write_bytes((web_base / "singularity_lib.sh").read_bytes())
    (pilot.folder / ".gwms.d" / "bin").mkdir(parents=True)
    theirs = (web_base / "frontend" / "default_singularity_wrapper.sh").read_text()
    # It would wait ten minutes before it says why it has failed.
    theirs = theirs.replace("EXITSLEEP=10m", "EXITSLEEP=0")
    job = Job(pilot, compose(pilot, after=[theirs]), f'SingularityImage = "{tmp_path / "site.sif"}"\n')
    machine = job.scratch / ".machine.ad"
    machine.write_text('HAS_SINGULARITY = true\nSINGULARITY_PATH = "/usr/bin/apptainer"\n')
    os.chown(job.scratch, 2001, 2001)
    script = "cat /etc/standin-image; pwd; exit 42"
    done = job.run("/bin/sh", "-c", script, _CONDOR_MACHINE_AD=str(machine))
    assert (done.returncode, done.stdout) == (42, b"stand-in image\n/srv\n"), done
    assert not job.error_file.exists()


def test_siteconf_is_bound_at_its_path_and_where_containers_look(
    contained: Callable[..., Pilot], tmp_path: Path
) -> None:
    siteconf = tmp_path / "SITECONF"
    siteconf.mkdir()
    (siteconf / "here").write_text("mine\n")
    pilot = contained(GWMS_BOSCO_SITECONF=str(siteconf))
    done = Job(pilot, compose(pilot)).run("cat", str(siteconf / "here"), "/etc/cvmfs/SITECONF/here")
    assert done.stdout == b"mine\nmine\n", done


def test_without_fuse_the_image_still_runs(contained: Callable[..., Pilot]) -> None:
    pilot = contained(fuse=False)
    assert Job(pilot, compose(pilot)).run("cat", "/etc/standin-image").stdout == b"stand-in image\n"


def test_digest_is_read_once(contained: Callable[..., Pilot], tmp_path: Path) -> None:
    pilot = contained()
    conf = pilot.folder / "gwms_bosco" / "image.conf"
    # Were the file read again, its digest would be right again.
    conf.write_text(conf.read_text().replace("SHA256=", "SHA256=0")[:-2] + "\n")
    assert "and the site says" in pilot.run("container_setup").detail
    os.utime(tmp_path / "site.sif", (1, 1))
    assert pilot.run("container_setup").rc == 0


def test_image_that_changed_under_the_pilot_starts_no_payload(contained: Callable[..., Pilot], tmp_path: Path) -> None:
    pilot = contained()
    job = Job(pilot, compose(pilot))
    image = tmp_path / "site.sif"
    content = image.read_bytes()
    image.unlink()
    image.write_bytes(content)
    assert job.run("true").returncode == 0
    image.write_bytes(content[:-1])
    done = job.run("true")
    assert done.returncode == 125 and b"BOSCO-CONTAINER-07" in done.stderr, done
    assert "BOSCO-PAYLOAD-02" in job.error_file.read_text()


def test_refuses_another_digest(debian: MakeNode, make_pilot: MakePilot, tmp_path: Path) -> None:
    node = debian()
    pilot = make_pilot(node, **configured(tmp_path, GWMS_BOSCO_IMAGE_SHA256="0" * 64))
    outcome = pilot.run("container_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR")
    assert "BOSCO-CONTAINER-05" in outcome.detail and "the site says 0000" in outcome.detail


def test_refuses_an_image_that_is_none(debian: MakeNode, make_pilot: MakePilot, tmp_path: Path) -> None:
    node = debian()
    (tmp_path / "site.sif").unlink()
    (tmp_path / "site.sif").write_text("no image")
    outcome = make_pilot(node, **configured(tmp_path)).run("container_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert "BOSCO-CONTAINER-06" in outcome.detail and "mounted:" in outcome.detail and "unpacked:" in outcome.detail


def test_refuses_a_node_without_apptainer(debian: MakeNode, make_pilot: MakePilot, tmp_path: Path) -> None:
    node = debian(NODE_RECIPE)
    outcome = make_pilot(node, **configured(tmp_path)).run("container_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR")
    assert "neither apptainer nor singularity" in outcome.detail


def test_whole_pilot_runs_in_the_image(debian: MakeNode, make_pilot: MakePilot, tmp_path: Path) -> None:
    node = debian()
    config = configured(tmp_path, GWMS_BOSCO_CONTAINER="pilot")
    pilot = make_pilot(node, **config)
    outcome = pilot.run("container_setup")
    assert "BOSCO-CONTAINER-03" in outcome.detail and "pilot_container" in outcome.detail
    starter = pilot.folder / "pilot_container"
    starter.write_bytes(pack_script("pilot_container", read_sources(default_scripts_dir())))
    starter.chmod(0o755)
    words = [str(starter), config["GWMS_BOSCO_IMAGE"], config["GWMS_BOSCO_IMAGE_SHA256"]]
    inside = [*words, "sh", "-c", "cat /etc/standin-image; exit 42"]
    done = node.run(inside, cwd=pilot.folder)
    assert (done.returncode, done.stdout) == (42, b"stand-in image\n"), done
    again = node.run(inside, cwd=pilot.folder, env={"APPTAINER_CONTAINER": words[1]})
    assert again.stdout == b"", "it starts no second container in the first"
    wrong = node.run([*words[:2], "0" * 64, "true"], cwd=pilot.folder)
    assert wrong.returncode == 125 and b"the site says" in wrong.stderr


def test_https_with_a_client_certificate_from_inside(contained: Callable[..., Pilot], tmp_path: Path) -> None:
    authority = certificates.Authority(tmp_path / "authority")
    shipped = tmp_path / "shipped"
    authority.write_ca_folder(shipped)
    pilot = contained(
        ENTRY_GWMS_BOSCO_CA_DIR=str(shipped), GWMS_BOSCO_CA="node,shipped", GWMS_BOSCO_X509_REQUIRED="True"
    )
    outcome = pilot.run("credentials_setup")
    assert (outcome.rc, outcome.metrics["ca"]) == (0, "shipped"), outcome
    job = Job(pilot, compose(pilot))
    proxy = job.scratch / "proxy.pem"
    authority.write_credential(proxy, "payload")
    os.chown(proxy, 2001, 2001)
    with certificates.server(pilot.node, authority, tmp_path) as url:
        # As grid tools look: by the variables, and by the folder that needs none.
        for folder in (str(shipped), "/etc/grid-security/certificates"):
            fetch = ["curl", "-sS", "--capath", folder, "--cert", str(proxy), "--key", str(proxy), url]
            done = job.run(*fetch, X509_CERT_DIR=str(shipped), X509_USER_PROXY=str(proxy))
            assert done.stdout == b"hello CN=payload\n", done
        refused = job.run("curl", "-sS", "--capath", "/nowhere", "--cert", str(proxy), url)
        assert refused.returncode != 0
        anonymous = job.run("curl", "-sS", "--capath", str(shipped), url)
        assert anonymous.returncode != 0


def test_refuses_when_x509_is_needed_and_there_is_no_ca(contained: Callable[..., Pilot]) -> None:
    pilot = contained(GWMS_BOSCO_X509_REQUIRED="True")
    outcome = pilot.run("credentials_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert "BOSCO-CREDENTIALS-03" in outcome.detail
    assert "/etc/grid-security/certificates" in outcome.detail


@pytest.mark.parametrize(
    "key",
    ["GWMS_BOSCO_IMAGE", "GWMS_BOSCO_IMAGE_SHA256", "GWMS_BOSCO_SITECONF", "GWMS_BOSCO_NESTED", "GWMS_BOSCO_CONTAINER"],
)
def test_refuses_hostile_values(make_node: MakeNode, make_pilot: MakePilot, key: str) -> None:
    node = make_node()
    for number, value in enumerate(HOSTILE):
        config = {"GWMS_BOSCO_CONTAINER": "payload", "GWMS_BOSCO_IMAGE": "/tmp/none", key: value}
        outcome = make_pilot(node, f"pilot{number}", **config).run("container_setup")
        assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
        assert key in outcome.detail and len(outcome.detail) < 300
    assert node.run(["test", "-e", "/tmp/injected"]).returncode == 1
