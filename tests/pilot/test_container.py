# SPDX-License-Identifier: Apache-2.0
"""Payloads in an apptainer image file: real apptainer of Debian on a node of its own root file system."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.pilot.scripts import default_scripts_dir, pack_script, read_sources
from tests.lab.settings import APPTAINER_RECIPE, NODE_RECIPE, Recipe
from tests.pilot import certificates, debian_node
from tests.pilot.conftest import REPOSITORY
from tests.pilot.harness import GLIDEINWMS_SRC, Pilot
from tests.pilot.job_wrapper import compose
from tests.pilot.node import Node, machine_lacks
from tests.pilot.test_cvmfs_parrot import check_term_of_a_pilot
from tests.pilot.test_cvmfs_traps import wait_until
from tests.pilot.test_payload import (
    DEADLINE_S,
    HELLO,
    HOSTILE,
    Job,
    check_codes_and_streams,
    check_surroundings,
    check_term,
    environment,
    payload_pid,
)

MAKE_IMAGE = "/srv/gwms-bosco/tests/pilot/make_image.sh"
BUILD_S = 120.0
MakePilot = Callable[..., Pilot]
MakeNode = Callable[..., Node]
# What apptainer itself sets inside; the image's own program and library folders are its business.
OF_THE_TOOL = ("APPTAINER_", "SINGULARITY_", "PROMPT_COMMAND", "PS1", "USER_PATH", "PATH", "LD_LIBRARY_PATH")


@pytest.fixture(scope="session")
def image(session_path: Path) -> Path:
    """A small image file, made once."""
    lacking = machine_lacks()
    if lacking:
        pytest.skip(f"this machine has no {lacking}")
    # More than one file of tests has this fixture.
    folder = Path(tempfile.mkdtemp(prefix="image-", dir=session_path))
    folder.chmod(0o755)
    with debian_node.running(APPTAINER_RECIPE, folder) as node:
        node.run(["bash", MAKE_IMAGE, str(folder / "site.sif")], user=0, deadline_s=BUILD_S).check_returncode()
    return folder / "site.sif"


@pytest.fixture
def debian(tmp_path: Path, image: Path, session_path: Path) -> Iterator[MakeNode]:
    """Bring up Debian 13 nodes that see the folders of all tests."""
    with ExitStack() as stack:

        def make(recipe: Recipe = APPTAINER_RECIPE, fuse: bool = True) -> Node:
            os.link(image, tmp_path / "site.sif")
            return stack.enter_context(debian_node.running(recipe, session_path, fuse))

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
    """A pilot whose scripts have run in the order of the plan, up to payload_setup."""

    def make(distribution: Optional[Path] = None, fuse: bool = True, **config: str) -> Pilot:
        node = debian(fuse=fuse)
        if distribution is not None:
            config["GWMS_BOSCO_CVMFSEXEC_DIR"] = str(distribution)
        pilot = make_pilot(node, **configured(tmp_path, **config))
        if distribution is not None:
            outcome = pilot.run("cvmfs_setup")
            assert outcome.metrics.get("mode") == config.get("GWMS_BOSCO_CVMFS_RUNGS", "userns"), outcome.detail
        if "GWMS_BOSCO_CA" in config:
            assert pilot.run("credentials_setup").rc == 0
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
    check_surroundings(job)
    odd = {"ODD": "a 'b' \"c\" $(id)\nd", "EMPTY": "", "HOME": str(job.scratch)}
    inside = {k: v for k, v in environment(job, **odd).items() if not k.startswith(OF_THE_TOOL)}
    plain = environment(Job(pilot, Path("/usr/bin/env")), **odd)
    assert inside == {k: v for k, v in plain.items() if not k.startswith(OF_THE_TOOL)}
    assert pilot.published()["GWMS_BOSCO_IN_CONTAINER"] == '"payload"'
    assert pilot.published()["GWMS_BOSCO_NESTED_CONTAINERS"] == "False"


def test_exported_functions_and_names_with_dots_reach_a_contained_payload(contained: Callable[..., Pilot]) -> None:
    """Where the node's sh is bash, as on EL, and the image's is not."""
    pilot = contained()
    pilot.node.run(["ln", "-sf", "bash", "/usr/bin/sh"], user=0).check_returncode()
    odd = {"a.b": "1", "BASH_FUNC_ok%%": "() {  echo hello\n}", "HOME": "/no/where"}
    found = environment(Job(pilot, compose(pilot)), **odd)
    assert {name: found.get(name) for name in odd} == odd


def test_relative_names_of_credentials_are_no_matter(contained: Callable[..., Pilot]) -> None:
    pilot = contained()
    job = Job(pilot, compose(pilot))
    (job.scratch / "proxy").write_text("mine\n")
    done = job.run("cat", "proxy", X509_USER_PROXY="proxy", BEARER_TOKEN_FILE="proxy", TMPDIR="/a:b")
    assert (done.returncode, done.stdout) == (0, b"mine\n"), done


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


@pytest.mark.parametrize("policy", ["never", "on-request"])
def test_cvmfs_of_mountrepo_is_for_payloads_that_are_given_it(
    contained: Callable[..., Pilot], distribution: Path, policy: str
) -> None:
    pilot = contained(distribution, GWMS_BOSCO_CVMFS_RUNGS="mountrepo", GWMS_BOSCO_PAYLOAD_CVMFS=policy)
    script = f"cat /etc/standin-image; cat {HELLO}"
    done = Job(pilot, compose(pilot)).run("sh", "-c", script)
    assert (done.returncode, done.stdout) == (1, b"stand-in image\n"), done
    done = Job(pilot, compose(pilot), "RequiresCVMFS = true\n").run("sh", "-c", script)
    assert (done.returncode == 0) is (policy == "on-request"), done


def located_tool(pilot: Pilot, image: str) -> str:
    """What glideinWMS's singularity_setup.sh takes for apptainer, after it has run `image` with it."""
    script = (
        ". ./add_config_line.source && . main/singularity_lib.sh && glidein_config=$PWD/glidein_config && "
        'singularity_locate_bin "" "$1" >&2 && echo "$HAS_SINGULARITY $GWMS_SINGULARITY_PATH"'
    )
    done = pilot.node.run(["bash", "-c", script, "setup", image], cwd=pilot.folder)
    words = done.stdout.decode().split()
    assert words[:1] == ["True"], done
    return words[1]


@pytest.mark.skipif(not GLIDEINWMS_SRC, reason="GLIDEINWMS_SRC names no checkout of glideinWMS")
@pytest.mark.parametrize("on_cvmfs", [False, True], ids=["image-file", "image-on-cvmfs"])
@pytest.mark.parametrize("rung", ["userns", "fusermount"])
def test_real_singularity_wrapper_around_ours_runs_the_payload_bare(
    debian: MakeNode,
    make_pilot: MakePilot,
    distribution: Path,
    image: Path,
    repositories: Path,
    rung: str,
    on_cvmfs: bool,
) -> None:
    """A frontend's container: its fragment starts apptainer, which runs the composed wrapper again inside."""
    node, images = debian(), "images.example.org"
    if not (repositories / f"{images}.squashfs").exists():
        subprocess.run(["mksquashfs", image, repositories / f"{images}.squashfs", "-quiet", "-no-progress"], check=True)
    names = f"{REPOSITORY},{images}"
    config = {"GWMS_BOSCO_CVMFS_REPOS": names, "GWMS_BOSCO_CVMFS_RUNGS": rung}
    pilot = make_pilot(node, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), **config)
    assert pilot.run("cvmfs_setup").metrics.get("mode") == rung
    outcome = pilot.run("payload_setup")
    assert (outcome.metrics["wrapped"], outcome.metrics["why"]) == ("True", "")
    assert pilot.published()["GWMS_BOSCO_CVMFS_IN_CONTAINERS"] == "True"
    web_base = Path(GLIDEINWMS_SRC) / "creation" / "web_base"
    (pilot.folder / "main").mkdir()
    (pilot.folder / "main" / "singularity_lib.sh").write_bytes((web_base / "singularity_lib.sh").read_bytes())
    (pilot.folder / ".gwms.d" / "bin").mkdir(parents=True)
    place = f"/cvmfs/{images}/{image.name}" if on_cvmfs else str(image)
    tool = located_tool(pilot, place)
    assert tool == str(pilot.folder / "gwms_bosco" / "container-with-cvmfs")
    theirs = (web_base / "frontend" / "default_singularity_wrapper.sh").read_text()
    # It would wait ten minutes before it says why it has failed.
    theirs = theirs.replace("EXITSLEEP=10m", "EXITSLEEP=0")
    job = Job(pilot, compose(pilot, after=[theirs]), f'SingularityImage = "{place}"\n')
    machine = job.scratch / ".machine.ad"
    machine.write_text(f'HAS_SINGULARITY = true\nSINGULARITY_PATH = "{tool}"\n')
    os.chown(job.scratch, 2001, 2001)
    script = f"cat /etc/standin-image; pwd; cat {HELLO}; exit 42"
    done = job.run("/bin/sh", "-c", script, _CONDOR_MACHINE_AD=str(machine))
    assert (done.returncode, done.stdout[:20]) == (42, b"stand-in image\n/srv\n"), done
    assert done.stdout[20:].startswith(b"hello from"), done
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


def test_image_rewritten_in_place_with_its_old_date_starts_no_payload(
    contained: Callable[..., Pilot], tmp_path: Path
) -> None:
    pilot = contained()
    # The image of all tests is a link to one file.
    image = tmp_path / "site.sif"
    content = image.read_bytes()
    image.unlink()
    image.write_bytes(content)
    assert pilot.run("container_setup").rc == 0
    before = image.stat()
    with image.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([content[-1] ^ 1]))
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = Job(pilot, compose(pilot)).run("true")
    assert done.returncode == 125 and b"BOSCO-CONTAINER-07" in done.stderr, done


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
    left = node.run(["sh", "-c", "echo /tmp/gwms_bosco.*"]).stdout
    assert left == b"/tmp/gwms_bosco.*\n", "it removes its folder"
    for name in ("TERM", "INT"):
        trapping = f"trap 'echo trapped; exit 42' {name}; echo ready; while :; do sleep 0.05; done"
        with node.start([*words, "bash", "-c", trapping], cwd=pilot.folder) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            os.kill(payload_pid(process), getattr(signal, f"SIG{name}"))
            assert (process.communicate(timeout=DEADLINE_S)[0], process.returncode) == (b"trapped\n", 42)
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
    assert pilot.published()["GWMS_BOSCO_CA_FROM"] == '"shipped"'
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
    [
        *("GWMS_BOSCO_IMAGE", "GWMS_BOSCO_IMAGE_SHA256", "GWMS_BOSCO_SITECONF", "GWMS_BOSCO_NESTED"),
        *("GWMS_BOSCO_CONTAINER", "GWMS_BOSCO_PAYLOAD_CVMFS"),
    ],
)
def test_refuses_hostile_values(make_node: MakeNode, make_pilot: MakePilot, key: str) -> None:
    node = make_node()
    for number, value in enumerate(HOSTILE):
        config = {"GWMS_BOSCO_CONTAINER": "payload", "GWMS_BOSCO_IMAGE": "/tmp/none", key: value}
        outcome = make_pilot(node, f"pilot{number}", **config).run("container_setup")
        assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
        assert key in outcome.detail and len(outcome.detail) < 300
    assert node.run(["test", "-e", "/tmp/injected"]).returncode == 1


@pytest.fixture
def mode_4(
    debian: MakeNode, make_pilot: MakePilot, tmp_path: Path, distribution: Path
) -> Iterator[Callable[..., Pilot]]:
    """A pilot whose CVMFS is mounted by the container tool, in the site's image."""
    if "cvmfs2-wrapper" in (distribution / "singcvmfs").read_text():
        pytest.skip("the real singcvmfs needs a client that runs in the image")
    pilots = []

    def make(env: Optional[dict[str, str]] = None, **config: str) -> Pilot:
        config = {"GWMS_BOSCO_IMAGE": str(tmp_path / "site.sif"), "GWMS_BOSCO_CVMFS_RUNGS": "container", **config}
        pilots.append(make_pilot(debian(), env=env, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), **config))
        return pilots[-1]

    yield make
    for pilot in pilots:
        pilot.end()


def test_cvmfs_of_mode_4_is_read_in_the_image(mode_4: Callable[..., Pilot]) -> None:
    pilot = mode_4()
    outcome = pilot.run("cvmfs_setup")
    assert outcome.metrics.get("mode") == "container", outcome
    assert pilot.run("payload_setup").metrics["wrapped"] == "True"
    job = Job(pilot, compose(pilot))
    done = job.run("cat", HELLO, "/etc/standin-image")
    assert done.stdout.startswith(b"hello") and done.stdout.endswith(b"stand-in image\n"), done
    assert job.run("sh", "-c", "pwd; echo x >here").stdout.decode() == f"{job.scratch}\n"
    assert (job.scratch / "here").exists()
    # What singcvmfs binds must not hide the image's own.
    assert job.run("/usr/bin/env", "true").returncode == 0
    check_codes_and_streams(job)
    for group in (False, True):
        check_term(job, group)
    assert "GWMS_BOSCO_CVMFS_OK = True\n" in pilot.run("cvmfs_check", periodic=True).stdout
    pilot.end()
    wait_until(lambda: pilot.node.run(["pgrep", "-u", "2001", "-f", "cvmfs|squashfuse|apptainer"]).stdout == b"")
    assert not (pilot.folder / "gwms_bosco" / "cvmfs").exists()


@pytest.mark.parametrize("policy", ["never", "on-request"])
def test_mode_4_is_for_payloads_that_are_given_cvmfs_and_the_image_for_all(
    mode_4: Callable[..., Pilot], policy: str
) -> None:
    pilot = mode_4(GWMS_BOSCO_CONTAINER="payload", GWMS_BOSCO_PAYLOAD_CVMFS=policy)
    assert pilot.run("cvmfs_setup").metrics.get("mode") == "container"
    assert pilot.run("container_setup").rc == 0
    assert pilot.run("payload_setup").metrics["wrapped"] == "True"
    script = f"cat /etc/standin-image; cat {HELLO}"
    done = Job(pilot, compose(pilot)).run("sh", "-c", script)
    assert (done.returncode, done.stdout) == (1, b"stand-in image\n"), done
    done = Job(pilot, compose(pilot), "RequiresCVMFS = true\n").run("sh", "-c", script)
    assert done.stdout.startswith(b"stand-in image\n"), done
    assert (done.returncode == 0) is (policy == "on-request"), done


def test_ca_folder_of_mode_4_is_one_that_payloads_see(mode_4: Callable[..., Pilot], tmp_path: Path) -> None:
    """The node's is not in the image; what is shipped lies in the pilot's folder, which is."""
    pilot = mode_4(GWMS_BOSCO_X509_REQUIRED="True", GWMS_BOSCO_CA="node,shipped")
    authority = certificates.Authority(tmp_path / "authority")
    authority.write_ca_folder(tmp_path / "node-ca")
    folder = "/etc/grid-security/certificates"
    copy = f"mkdir -p /etc/grid-security && cp -r {tmp_path}/node-ca {folder} && chmod -R a+rX {folder}"
    pilot.node.run(["sh", "-c", copy], user=0).check_returncode()
    assert pilot.run("cvmfs_setup").metrics.get("mode") == "container"
    outcome = pilot.run("credentials_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert f"node: {folder}: " in outcome.detail
    shipped = pilot.folder / "shipped"
    authority.write_ca_folder(shipped)
    with (pilot.folder / "glidein_config").open("a") as config:
        config.write(f"ENTRY_GWMS_BOSCO_CA_DIR {shipped}\n")
    outcome = pilot.run("credentials_setup")
    assert (outcome.rc, outcome.metrics.get("ca")) == (0, "shipped"), outcome
    assert pilot.run("payload_setup").rc == 0
    done = Job(pilot, compose(pilot)).run("sh", "-c", f"ls {shipped}/*.0")
    assert done.returncode == 0, done


def test_mode_4_knows_its_instance_whatever_home_is_and_changes_no_environment(
    mode_4: Callable[..., Pilot], tmp_path: Path
) -> None:
    """The tool looks for instances below HOME, and sets it to the account's."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    pilot = mode_4(env={"HOME": str(closed)})
    outcome = pilot.run("cvmfs_setup")
    assert outcome.metrics.get("mode") == "container", outcome
    assert pilot.run("payload_setup").metrics["wrapped"] == "True"
    job, bare = Job(pilot, compose(pilot)), Job(pilot, Path("/usr/bin/env"))
    odd = {"ODD": "a 'b' \"c\" $(id)\nd", "EMPTY": "", "PATH": "/no/where:/usr/bin:/bin"}
    for home in (str(job.scratch), "/no/where", str(closed), ""):
        found, wanted = environment(job, **odd, HOME=home), environment(bare, **odd, HOME=home)
        assert found["PATH"].endswith(odd["PATH"])
        inside = {k: v for k, v in found.items() if not k.startswith(OF_THE_TOOL)}
        assert inside == {k: v for k, v in wanted.items() if not k.startswith(OF_THE_TOOL)}
        assert not any(name.endswith("_CONFIGDIR") for name in found)
    own = environment(job, APPTAINER_CONFIGDIR="/own", SINGULARITY_CONFIGDIR="")
    assert (own["APPTAINER_CONFIGDIR"], own["SINGULARITY_CONFIGDIR"]) == ("/own", "")
    unset = job.run_after('unset HOME; exec "$@"', "sh", "-c", f"echo ${{HOME-none}}; cat {HELLO}")
    assert unset.stdout.startswith(b"none\nhello"), unset


def test_mode_4_refuses_a_folder_that_the_container_does_not_show(mode_4: Callable[..., Pilot]) -> None:
    """The tool would go to another one in silence."""
    pilot = mode_4()
    assert pilot.run("cvmfs_setup").metrics.get("mode") == "container"
    pilot.write("cvmfs_setup")
    # One that the image lacks, and one that is another there.
    for folder in ("/usr/share", "/etc"):
        done = pilot.node.run([pilot.run_with_cvmfs, "pwd"], cwd=Path(folder))
        assert (done.returncode, done.stdout) == (125, b""), done
        assert f"does not show the folder {folder}\n".encode() in done.stderr


def test_mode_4_refuses_another_digest_before_anything_runs_in_the_image(mode_4: Callable[..., Pilot]) -> None:
    pilot = mode_4(GWMS_BOSCO_CONTAINER="never", GWMS_BOSCO_IMAGE_SHA256="0" * 64)
    outcome = pilot.run("cvmfs_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert "site.sif has the sha256" in outcome.detail
    assert not (pilot.folder / "gwms_bosco" / "apptainer").exists(), "an instance was started"


def test_mode_4_reads_the_image_once(mode_4: Callable[..., Pilot], image: Path) -> None:
    pilot = mode_4(GWMS_BOSCO_IMAGE_SHA256=hashlib.sha256(image.read_bytes()).hexdigest())
    assert pilot.run("cvmfs_setup").metrics.get("mode") == "container"
    record = pilot.folder / "gwms_bosco" / "image.conf"
    written = record.stat().st_ino, record.stat().st_mtime_ns
    assert pilot.run("container_setup").rc == 0
    assert (record.stat().st_ino, record.stat().st_mtime_ns) == written


def test_term_to_the_group_of_a_pilot_runs_the_trap_of_a_payload_in_mode_4(mode_4: Callable[..., Pilot]) -> None:
    pilot = mode_4()
    assert pilot.run("cvmfs_setup").metrics.get("mode") == "container"
    check_term_of_a_pilot(pilot)


def test_a_payload_in_mode_4_ends_when_its_starter_is_killed(mode_4: Callable[..., Pilot]) -> None:
    pilot = mode_4()
    assert pilot.run("cvmfs_setup").metrics.get("mode") == "container"
    assert pilot.run("payload_setup").metrics["wrapped"] == "True"
    with Job(pilot, compose(pilot)).start("sh", "-c", "echo ready; while :; do sleep 0.07; done") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        # As a batch system ends a job: the payload is in no group that it knows.
        os.killpg(payload_pid(process), signal.SIGKILL)
        wait_until(lambda: pilot.node.run(["pgrep", "-f", "sleep 0.0[7]"]).stdout == b"")


def test_a_mount_of_mode_4_that_fails_in_silence_is_seen(mode_4: Callable[..., Pilot]) -> None:
    pilot = mode_4(GWMS_BOSCO_CVMFS_REPOS="cms.cern.ch,nosuch.cern.ch")
    outcome = pilot.run("cvmfs_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert "container: nosuch.cern.ch: " in outcome.detail
    wait_until(lambda: pilot.node.run(["pgrep", "-u", "2001", "-f", "cvmfs|squashfuse|apptainer"]).stdout == b"")


def test_mode_4_says_which_image_is_missing(mode_4: Callable[..., Pilot], tmp_path: Path) -> None:
    outcome = mode_4(GWMS_BOSCO_IMAGE=str(tmp_path / "nosuch.sif")).run("cvmfs_setup")
    assert f"container: no image at {tmp_path}/nosuch.sif" in outcome.detail
