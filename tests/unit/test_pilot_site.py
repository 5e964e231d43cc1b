# SPDX-License-Identifier: Apache-2.0
"""The runtime block of a site file: what it says, its defaults, and what is refused with file and line."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.errors import SiteError
from glideinwms_bosco.pilot.attrs import runtime_attrs
from glideinwms_bosco.site.crosscheck import MAX_ATTR_CHARS
from glideinwms_bosco.site.load import load_site
from glideinwms_bosco.site.model import Attr, Batch, SiteDescription
from glideinwms_bosco.site.runtime import MAX_VALUE_CHARS, RUNGS, Runtime, check_node_value
from tests.unit.pilot_world import ALL
from tests.unit.site_text import VALID, changed_site, problems_of

SHA256 = "0" * 64
EXTERNAL = "site: T3_XX_Test\nsubmission: external\nentries: [{name: CE_Entry}]\n"
CVMFS = "runtime: {cvmfs: {repositories: [cms.cern.ch]}}\n"


def site_with(folder: Path, runtime: str) -> SiteDescription:
    return changed_site(folder, "entries:\n", runtime + "entries:\n")


def runtime_with(folder: Path, runtime: str) -> Runtime:
    found = site_with(folder, runtime).runtime
    assert found is not None
    return found


def messages(folder: Path, text: str) -> list[str]:
    path = folder / "test.yaml"
    path.write_text(text, encoding="utf-8")
    return [str(problem).replace(f"{path}:", "") for problem in problems_of(path)]


def with_runtime(runtime: str) -> str:
    return VALID.replace("entries:\n", runtime + "entries:\n")


def attrs_of(runtime: Runtime) -> dict[str, str]:
    return {attr.name: attr.value for attr in attrs_list(runtime)}


def attrs_list(runtime: Runtime) -> tuple[Attr, ...]:
    return runtime_attrs(SiteDescription("T", "T", "t", None, (), Batch("slurm"), (), runtime=runtime))


def test_site_without_runtime_block_has_none(tmp_path: Path) -> None:
    assert changed_site(tmp_path).runtime is None


def test_every_field_reaches_its_attribute(tmp_path: Path) -> None:
    runtime = runtime_with(tmp_path, ALL.replace("DIST", "/srv/dist").replace("CA,", "/srv/ca,"))
    assert attrs_of(runtime) == {
        "GLIDEIN_SINGULARITY_REQUIRE": "NEVER",
        "GWMS_BOSCO_CA": "cvmfs,shipped",
        "GWMS_BOSCO_CONTAINER": "payload",
        "GWMS_BOSCO_CVMFS_CACHE": "local:/scratch/cvmfs",
        "GWMS_BOSCO_CVMFS_PROXY": "http://squid.example.org:3128|http://squid2.example.org:3128;DIRECT",
        "GWMS_BOSCO_CVMFS_QUOTA_MB": "10000",
        "GWMS_BOSCO_CVMFS_REPOS": "cms.cern.ch,grid.cern.ch",
        "GWMS_BOSCO_CVMFS_REQUIRED": "False",
        "GWMS_BOSCO_CVMFS_RUNGS": "native,userns,fusermount,mountrepo,container,parrot",
        "GWMS_BOSCO_IMAGE": "/project/images/cmssw.sif",
        "GWMS_BOSCO_IMAGE_SHA256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "GWMS_BOSCO_NESTED": "False",
        "GWMS_BOSCO_PARROT": "/opt/cctools/bin/parrot_run",
        "GWMS_BOSCO_PAYLOAD_CVMFS": "on-request",
        "GWMS_BOSCO_X509_REQUIRED": "True",
    }


def test_no_frontend_may_change_an_attribute_and_reconfig_takes_its_flags(tmp_path: Path) -> None:
    """glideinWMS refuses `publish=False` without `const` and `parameter`."""
    attrs = attrs_list(runtime_with(tmp_path, ALL.replace("DIST", "/srv/dist").replace("CA,", "/srv/ca,")))
    assert all(attr.const and attr.parameter for attr in attrs)
    assert not any(attr.glidein_publish or attr.job_publish for attr in attrs)
    published = {attr.name for attr in attrs if attr.publish}
    assert "GLIDEIN_SINGULARITY_REQUIRE" in published
    assert "GWMS_BOSCO_CVMFS_PROXY" not in published


def test_defaults(tmp_path: Path) -> None:
    runtime = runtime_with(tmp_path, "runtime: {cvmfs: {repositories: [cms.cern.ch], rungs: [native]}}\n")
    assert attrs_of(runtime) == {
        "GWMS_BOSCO_CVMFS_REPOS": "cms.cern.ch",
        "GWMS_BOSCO_CVMFS_REQUIRED": "True",
        "GWMS_BOSCO_CVMFS_RUNGS": "native",
        "GWMS_BOSCO_PAYLOAD_CVMFS": "always",
    }
    runtime = runtime_with(tmp_path, "runtime: {credentials: {}}\n")
    assert attrs_of(runtime) == {"GWMS_BOSCO_CA": "node,cvmfs", "GWMS_BOSCO_X509_REQUIRED": "False"}
    runtime = runtime_with(tmp_path, "runtime: {credentials: {ca_dir: /srv/ca}}\n")
    assert attrs_of(runtime)["GWMS_BOSCO_CA"] == "node,cvmfs,shipped"
    runtime = runtime_with(tmp_path, "runtime: {container: {nested: false}}\n")
    assert attrs_of(runtime) == {
        "GLIDEIN_SINGULARITY_REQUIRE": "NEVER",
        "GWMS_BOSCO_CONTAINER": "never",
        "GWMS_BOSCO_NESTED": "False",
    }


@pytest.mark.parametrize(
    ("more", "rungs"),
    [
        ("", ("native",)),
        (", parrot: /p", ("native", "parrot")),
        (", cvmfsexec: {path: /d}", ("native", "userns", "fusermount")),
        (", cvmfsexec: {path: /d}, parrot: /p", ("native", "userns", "fusermount", "mountrepo", "parrot")),
        (", cvmfsexec: {path: /d}, rungs: [fusermount, native]", ("fusermount", "native")),
    ],
)
def test_rungs_are_those_that_have_what_they_need_in_order(tmp_path: Path, more: str, rungs: tuple[str, ...]) -> None:
    runtime = runtime_with(tmp_path, f"runtime: {{cvmfs: {{repositories: [cms.cern.ch]{more}}}}}\n")
    assert runtime.rungs() == rungs


@pytest.mark.parametrize("rung", RUNGS[1:])
def test_refuses_a_rung_without_what_it_needs(tmp_path: Path, rung: str) -> None:
    text = with_runtime(f"runtime:\n  cvmfs:\n    repositories: [cms.cern.ch]\n    rungs:\n      - {rung}\n")
    line = text[: text.index(f"- {rung}")].count("\n") + 1
    (found,) = [message for message in messages(tmp_path, text) if "error" in message]
    assert found.startswith(f"{line}: error: runtime.cvmfs.rungs[0]: {rung} needs runtime.")


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        ("}", True),
        (", parrot: /p}", False),
        (f"}}, container: {{image: /a.sif, sha256: {SHA256}}}", False),
        (f"}}, container: {{image: /a.sif, sha256: {SHA256}, mode: pilot}}", True),
        (f"}}, container: {{image: /a.sif, sha256: {SHA256}, mode: never}}", True),
    ],
)
def test_mountrepo_needs_what_shows_it_at_cvmfs(tmp_path: Path, more: str, refused: bool) -> None:
    block = f"runtime: {{cvmfs: {{repositories: [a.b], rungs: [mountrepo], cvmfsexec: {{path: /d}}{more}}}\n"
    found = [message for message in messages(tmp_path, with_runtime(block)) if "error" in message]
    assert any("mountrepo needs runtime.cvmfs.parrot, or a container" in message for message in found) is refused
    assert refused or found == []


def test_image_for_cvmfs_alone_needs_its_digest_too(tmp_path: Path) -> None:
    block = "runtime: {cvmfs: {repositories: [a.b], cvmfsexec: {path: /d}}, container: {image: /a.sif, mode: never}}\n"
    assert any(
        "container.sha256: missing, and it is a rung" in found for found in messages(tmp_path, with_runtime(block))
    )


@pytest.mark.parametrize("submission", ["slurm", "condor", "external"])
def test_whole_pilot_in_a_container_says_what_is_left_to_do(tmp_path: Path, submission: str) -> None:
    block = f"runtime: {{container: {{image: /a.sif, sha256: {SHA256}, mode: pilot}}}}\n"
    text = EXTERNAL + block
    if submission != "external":
        text = with_runtime(block).replace("system: slurm", f"system: {submission}")
    found = [message for message in messages(tmp_path, text) if "container.mode" in message]
    # Of others the bundle brings what starts the batch job.
    assert len(found) == (0 if submission == "slurm" else 1)
    assert all("warning" in message and "pilot pack pilot_container --site test`" in message for message in found)


@pytest.mark.parametrize(
    ("block", "field", "message"),
    [
        ("{}", "runtime", "is empty"),
        ("{cvfms: {}}", "runtime.cvfms", "did you mean 'cvmfs'"),
        ("{cvmfs: {}}", "runtime.cvmfs.repositories", "missing"),
        ("{cvmfs: {repositories: []}}", "runtime.cvmfs.repositories", "is empty"),
        ("{cvmfs: {repositories: [a.b, a.b]}}", "runtime.cvmfs.repositories", "twice"),
        ("{cvmfs: {repositories: [CMS.cern.ch]}}", "runtime.cvmfs.repositories[0]", "not allowed"),
        ("{cvmfs: {repositories: [cms]}}", "runtime.cvmfs.repositories[0]", "not allowed"),
        ("{cvmfs: {repositories: [a.b], rungs: [mode3]}}", "runtime.cvmfs.rungs[0]", "not known"),
        ("{cvmfs: {repositories: [a.b], required: yes}}", "runtime.cvmfs.required", "true or false"),
        ("{cvmfs: {repositories: [a.b], cache: /scratch}}", "runtime.cvmfs.cache", "not allowed"),
        ("{cvmfs: {repositories: [a.b], cache: 'local:/a/../b'}}", "runtime.cvmfs.cache", "not allowed"),
        ("{cvmfs: {repositories: [a.b], quota_mb: 10}}", "runtime.cvmfs.quota_mb", "at least 500"),
        ("{cvmfs: {repositories: [a.b], proxy: ''}}", "runtime.cvmfs.proxy", "not allowed"),
        ("{cvmfs: {repositories: [a.b], proxy: 'squid:3128'}}", "runtime.cvmfs.proxy", "not allowed"),
        ("{cvmfs: {repositories: [a.b], cvmfsexec: {path: dist}}}", "runtime.cvmfs.cvmfsexec.path", "not allowed"),
        ("{payload: {cvmfs: lenient}}", "runtime.payload.cvmfs", "not known"),
        ("{container: {mode: payload}}", "runtime.container.image", "missing"),
        ("{container: {image: /a.sif}}", "runtime.container.sha256", "missing"),
        ("{credentials: {ca: [shipped]}}", "runtime.credentials.ca", "needs runtime.credentials.ca_dir"),
        ("{credentials: {ca: [cvmfs]}}", "runtime.credentials.ca", "needs runtime.cvmfs"),
        (
            "{cvmfs: {repositories: [cms.cern.ch], cache: 'image:/scratch'}}",
            "runtime.cvmfs.cache",
            "no way to /cvmfs of this site can have its cache in an image",
        ),
        ("{credentials: {ca: [/etc]}}", "runtime.credentials.ca[0]", "not known"),
        (
            "{cvmfs: {repositories: [a.b], rungs: [userns], cvmfsexec: {path: /srv/x}}, payload: {cvmfs: never},"
            " credentials: {ca: [cvmfs]}}",
            "runtime.credentials.ca",
            "payload.cvmfs is never",
        ),
    ],
)
def test_refuses(tmp_path: Path, block: str, field: str, message: str) -> None:
    text = with_runtime(f"runtime: {block}\n")
    line = text[: text.index("runtime:")].count("\n") + 1
    errors = [found for found in messages(tmp_path, text) if "error" in found]
    assert any(f"error: {field}: " in found and message in found for found in errors), errors
    assert all(found.startswith(f"{line}: ") for found in errors)


@pytest.mark.parametrize(
    ("rungs", "policy", "ca", "severity"),
    [
        ("[native, parrot]", "never", "[cvmfs]", "warning"),
        ("[native, parrot]", "on-request", "[cvmfs]", "warning"),
        ("[parrot]", "on-request", "[cvmfs]", "error"),
        ("[parrot]", "always", "[cvmfs]", None),
        ("[native]", "never", "[cvmfs]", None),
        ("[parrot]", "never", "[cvmfs, node]", None),
    ],
)
def test_ca_folder_on_cvmfs_alone_is_for_payloads_that_all_get_it(
    tmp_path: Path, rungs: str, policy: str, ca: str, severity: Optional[str]
) -> None:
    cvmfs = f"{{repositories: [a.b], parrot: /srv/parrot_run, rungs: {rungs}}}"
    block = f"runtime: {{cvmfs: {cvmfs}, payload: {{cvmfs: {policy}}}, credentials: {{ca: {ca}}}}}\n"
    found = [message for message in messages(tmp_path, with_runtime(block)) if "credentials.ca" in message]
    assert len(found) == (0 if severity is None else 1), found
    assert all(f"{severity}: runtime.credentials.ca: payload.cvmfs is {policy}" in message for message in found)


HOSTILE = ["a'b", 'a"b', "$(id)", "`id`", "a b", "a&b", "a<b", "a>b", "a\\b", "a\nb", "a\tb", "ü", "x" * 65536]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value[:8]))
@pytest.mark.parametrize(
    "block",
    [
        "{cvmfs: {repositories: [VALUE]}}",
        "{cvmfs: {repositories: [a.b], cache: 'local:/VALUE'}}",
        "{cvmfs: {repositories: [a.b], proxy: 'http://VALUE'}}",
        "{cvmfs: {repositories: [a.b], parrot: '/VALUE'}}",
        "{cvmfs: {repositories: [a.b], cvmfsexec: {path: '/VALUE'}}}",
        "{container: {image: '/VALUE', mode: never}}",
        "{credentials: {ca_dir: '/VALUE'}}",
    ],
)
def test_refuses_hostile_values_in_every_text(tmp_path: Path, block: str, value: str) -> None:
    """Quotes, blanks, substitutions, line breaks, markup and 64 KiB: none reaches XML, a shell or a ClassAd."""
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
    for form in (f"'{prefix}VALUE'" for prefix in ("local:/", "http://", "/")):
        block = block.replace(form, quoted[0] + form[1:-6] + quoted[1:])
    text = with_runtime(f"runtime: {block.replace('VALUE', quoted)}\n")
    assert any("error: runtime." in found for found in messages(tmp_path, text))


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value[:8]))
def test_model_itself_refuses_hostile_values(value: str) -> None:
    with pytest.raises(SiteError):
        check_node_value("x", value)


def test_longest_value_of_an_attribute(tmp_path: Path) -> None:
    check_node_value("x", "x" * MAX_VALUE_CHARS)
    with pytest.raises(SiteError):
        check_node_value("x", "x" * (MAX_VALUE_CHARS + 1))
    site = changed_site(tmp_path, "cpus: 8\n", f"cpus: 8\n    attrs: {{A: {'x' * MAX_ATTR_CHARS}}}\n")
    assert len(site.entries[0].attrs[0].value) == MAX_ATTR_CHARS
    text = VALID.replace("cpus: 8\n", f"cpus: 8\n    attrs: {{A: {'x' * (MAX_ATTR_CHARS + 1)}}}\n")
    assert any("is longer than" in found for found in messages(tmp_path, text))


@pytest.mark.parametrize(
    ("attr", "refused"),
    [
        ("GWMS_BOSCO_CVMFS_REPOS: a", True),
        ("GLIDEIN_WRAPPER_EXEC: /opt/run", True),
        ("GLIDEIN_USE_CVMFSEXEC: 1", True),
        ("GLIDEIN_USE_CVMFSEXEC: 0", False),
        ("GLIDEIN_SINGULARITY_REQUIRE: REQUIRED", True),
        ("GLIDEIN_SINGULARITY_REQUIRE: NEVER", False),
        ("GLIDEIN_Own: a", False),
    ],
)
def test_attributes_that_work_against_the_runtime_block(tmp_path: Path, attr: str, refused: bool) -> None:
    block = "runtime: {cvmfs: {repositories: [a.b], rungs: [native]}, container: {nested: false}}\n"
    name = attr.partition(":")[0]
    for text in (
        VALID.replace("cpus: 8\n", f"cpus: 8\n    attrs: {{{attr}}}\n"),
        VALID.replace(
            "cpus: 8\n", f"cpus: 8\n    raw: {{attrs: {{{name}: {{value: '{attr.partition(': ')[2]}'}}}}}}\n"
        ),
    ):
        found = messages(tmp_path, text.replace("entries:\n", block + "entries:\n"))
        assert any(f"attrs.{name}: " in message and "error" in message for message in found) is refused
        assert not any("error" in message for message in messages(tmp_path, text))


@pytest.mark.parametrize("rung", ["userns", "fusermount"])
def test_takes_a_cache_image_where_a_rung_can_use_one(tmp_path: Path, rung: str) -> None:
    cvmfs = f"{{repositories: [a.b], cvmfsexec: {{path: /d}}, rungs: [native, {rung}], cache: 'image:/shared'}}"
    assert [text for text in messages(tmp_path, with_runtime(f"runtime:\n  cvmfs: {cvmfs}\n")) if "cache" in text] == []


def test_external_site_needs_no_login_block(tmp_path: Path) -> None:
    assert not any("error" in found for found in messages(tmp_path, EXTERNAL + CVMFS))


def test_examples_of_the_documentation_are_right(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "runtime.md").read_text(encoding="utf-8")
    blocks = re.findall(r"\n\n((?:    .*\n)+)", text)
    examples = [textwrap.dedent(block) for block in blocks if "runtime:" in block]
    assert len(examples) == 3
    for example in examples:
        whole = example if "site:" in example else with_runtime(example)
        assert not any("error" in found for found in messages(tmp_path, whole))


def test_external_site_needs_a_runtime_block(tmp_path: Path) -> None:
    (found,) = messages(tmp_path, EXTERNAL)
    assert "error: runtime: missing" in found


def test_other_sites_still_need_theirs(tmp_path: Path) -> None:
    found = messages(tmp_path, "site: a\nentries: [{name: b}]\n")
    assert {message.split(": ")[2] for message in found} == {"trust_domain", "batch", "login", "accounts"}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (VALID.replace("site:", "submission: external\nsite:") + CVMFS, "login"),
        (EXTERNAL.replace("{name: CE_Entry}", "{name: CE_Entry, cpus: 8}") + CVMFS, "entries[0].cpus"),
        (EXTERNAL + CVMFS + "install: {bosco_dir: a}\n", "install"),
        (VALID.replace("cpus: 8\n", "file: /etc/a.xml\n    cpus: 8\n"), "entries[0].file"),
    ],
)
def test_refuses_fields_that_have_no_place(tmp_path: Path, text: str, field: str) -> None:
    assert any(f"error: {field}: " in found for found in messages(tmp_path, text))


def test_command_that_connects_says_why_an_external_site_has_no_host(tmp_path: Path) -> None:
    path = tmp_path / "test.yaml"
    path.write_text(EXTERNAL + CVMFS, encoding="utf-8")
    with pytest.raises(SiteError, match="submission: external"):
        load_site(path)[0].required_login()
