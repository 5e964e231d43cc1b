# SPDX-License-Identifier: Apache-2.0
"""The pages: examples pass `site check`, steps can be followed, links and mentions lead somewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from glideinwms_bosco.broker.policy import load_policy
from glideinwms_bosco.cli.main import main
from glideinwms_bosco.entry import lint_codes
from glideinwms_bosco.link.deny import DenyCode
from glideinwms_bosco.relay.conf import load_conf
from glideinwms_bosco.remote import probe_codes
from glideinwms_bosco.siteconf import codes as siteconf_codes
from tests.pages import DOCS, PLACEHOLDER, Step, steps_of
from tests.unit.pilot_world import make_ca, make_distribution
from tests.unit.site_text import HOST_KEY, use_host_folders

ROOT = DOCS.parent
SITES = ROOT / "factory_configs" / "sites"
FOLLOWED = ("start.md", "operator.md", "frontend.md")
# The administrators of both sides tell each other, or know it themselves.
TOLD = {"FACTORY_ADDRESS", "LOGIN_FINGERPRINT", "PASSPHRASE"}
CE_ENTRY = """\
<glidein><entries><entry name="CMSHTPC_T2_XX_Example_ce1" auth_method="grid_proxy" gatekeeper="ce.example.org:9619"
 gridtype="condor" trust_domain="grid" enabled="True"/></entries></glidein>
"""


def _blocks(page: Path, language: str) -> Iterator[str]:
    for found in re.finditer(
        rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        yield found[1]


def _examples() -> list[tuple[str, str]]:
    """Name, and whole site file, of every page and of those that are shipped."""
    found = []
    for page in sorted(DOCS.glob("*.md")):
        for text in _blocks(page, "yaml"):
            if text.startswith("site:"):
                found.append((f"{page.stem}-{yaml.safe_load(text)['site']}", text))
    for file in sorted(SITES.glob("*.yaml")):
        # Nobody can ship the keys of a login node.
        found.append(
            (file.name, file.read_text(encoding="utf-8").replace("host_keys: []", "host_keys: [LOGIN_HOST_KEY]"))
        )
    return found


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return use_host_folders(tmp_path, monkeypatch)


def _near_site(folder: Path) -> Path:
    """The site whose storage another one uses."""
    folder.mkdir()
    xrootd = {"protocol": "XRootD", "access": "global-rw", "prefix": "root://10.77.0.30:8443/"}
    volume = {"site": "T2_XX_Near", "volume": "Near_Store", "type": "DISK", "rse": "T2_XX_Near", "protocols": [xrootd]}
    (folder / "storage.json").write_text(json.dumps([volume]), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("name", "text"), _examples(), ids=lambda value: value if "\n" not in value else "")
def test_example_passes_site_check(host: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "config.d" / "10-ce.xml").write_text(CE_ENTRY, encoding="utf-8")
    filled = text.replace("LOGIN_HOST_KEY", HOST_KEY)
    filled = filled.replace("/srv/cvmfsexec/rhel9-x86_64", str(make_distribution(host / "dist")))
    filled = filled.replace("/etc/grid-security/certificates", str(make_ca(host / "ca")))
    filled = filled.replace("/srv/siteconf/T2_XX_Near", str(_near_site(host / "T2_XX_Near")))
    path = host / "sites.d" / "example.yaml"
    path.write_text(filled, encoding="utf-8")
    status = main(["site", "check", str(path), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert [found for found in report["problems"] if found["severity"] == "error"] == [], name
    assert status == 0
    # And reconfig would take what is rendered.
    assert main(["entry", "render", "example", "--json"]) == 0
    capsys.readouterr()
    assert main(["entry", "lint", str(host / "config.d"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [row for row in found if row["severity"] == "warning" and "50-example" in row["file"]] == [], name


def test_every_recipe_has_an_example_or_a_page() -> None:
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert len(sections) == 6
    for section in sections:
        assert "```yaml" in section or ".yaml`" in section or "```json" in section, section.splitlines()[0]


def test_certificates_of_the_recipe_are_a_policy_that_the_broker_takes(tmp_path: Path) -> None:
    (text,) = _blocks(DOCS / "recipes.md", "json")
    handle = {
        "key": {"backend": "ssh-agent", "file": "/etc/gwms-ssh-broker/example", "passphrase": "credential:example"},
        "user": "cmspilot",
        "hosts": [{"name": "login.example.org", "keys": [HOST_KEY]}],
        "factories": ["example-factory"],
        **json.loads(f"{{{text}}}"),
    }
    relay = {"relay": "factory.example.org:8620", "spki": ["sha256:" + "0" * 64], "source_addresses": ["192.0.2.1/32"]}
    policy = {"version": 1, "factories": {"example-factory": relay}, "handles": {"example": handle}}
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(policy), encoding="utf-8")
    path.chmod(0o600)
    (entry,) = load_policy(path).entries.values()
    assert entry.cert is not None
    assert entry.cert.principals == ("cmspilot",)


def _steps() -> list[Step]:
    return [step for page in FOLLOWED for step in steps_of(page)]


def test_values_of_steps_come_from_other_steps() -> None:
    """Nobody is left with a word in capitals that no step has printed and nobody tells."""
    steps = _steps()
    given = {step.name for step in steps if step.name} | TOLD
    used = {word for step in steps for word in PLACEHOLDER.findall(step.text)}
    used |= {word for step in steps for word in (*step.answers, *step.credential[1:])}
    assert used - given == {"CMSHTPC_T"} & used
    assert len(steps) > 15


@pytest.mark.parametrize("step", [step for step in _steps() if step.kind == "run"], ids=lambda s: f"{s.page}:{s.line}")
def test_commands_of_a_step_are_shell(step: Step) -> None:
    done = subprocess.run(["sh", "-n"], input=step.text, capture_output=True, text=True, check=False, timeout=10)
    assert (done.returncode, done.stderr) == (0, "")


def test_relay_conf_of_the_guide_is_right(tmp_path: Path) -> None:
    (step,) = [step for step in steps_of("operator.md") if step.what.endswith("relay.conf")]
    path = tmp_path / "relay.conf"
    text = step.filled({"BROKER_PIN": "sha256:" + "0" * 64, '"gfactory"': '"root"'})
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    assert [broker.name for broker in load_conf(path).brokers] == ["cms"]


def test_mark_that_is_not_understood_is_no_step(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("<!-- run: factory root; what -->\n```sh\ntrue\n```\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"page\.md:1: not understood"):
        steps_of("page.md", tmp_path)
    (tmp_path / "page.md").write_text("<!-- run: factory root -->\n\n```sh\ntrue\n```\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"page\.md:1: not a mark with a block"):
        steps_of("page.md", tmp_path)


def test_step_takes_values_and_finds_its_own(tmp_path: Path) -> None:
    text = "<!-- run: factory root; THE_PIN = pin: (\\S+) -->\n```sh\nshow OTHER_PIN\n```\n"
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    (step,) = steps_of("page.md", tmp_path)
    assert step.filled({"OTHER_PIN": "x"}) == "show x\n"
    assert step.found_in("a\npin: sha256:1\n") == "sha256:1"
    with pytest.raises(AssertionError, match="is not in the output"):
        step.found_in("nothing")


def test_every_refusal_of_the_broker_has_its_row() -> None:
    """Refusals of the broker; those of lint, probe and siteconf are printed by the commands, their tests compare."""
    text = (DOCS / "key-broker.md").read_text(encoding="utf-8")
    section = text.partition("## When a login is refused")[2].partition("\n## ")[0]
    listed = {
        int(number) for cell in re.findall(r"^\| ([0-9, ]+) \|", section, re.MULTILINE) for number in cell.split(",")
    }
    assert listed == {int(code) for code in DenyCode}


def _rows_of_codes() -> Iterator[tuple[str, str, list[str]]]:
    """Page, code and the other cells of each row, from every page of codes."""
    for page in sorted(DOCS.glob("*-codes.md")):
        head: list[str] = []
        for line in page.read_text(encoding="utf-8").splitlines():
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if line.startswith("| Code "):
                head = cells
            elif line.startswith("| BOSCO-"):
                assert len(cells) == len(head), f"{page.name}: {line}"
                yield page.name, cells[0], [cell for cell, name in zip(cells, head) if name not in ("Code", "Example")]


def test_every_code_has_cause_and_remedy_and_one_meaning() -> None:
    rows = list(_rows_of_codes())
    assert [row for row in rows if not all(row[2])] == []
    # Who has a code looks up its row, and no other one.
    assert [row for row in rows if re.search(r"\bas [A-Z]*-?[0-9]{2}\b", " ".join(row[2]))] == []
    codes = [code for _, code, _ in rows]
    assert sorted(code for code in set(codes) if codes.count(code) > 1) == []
    assert len(codes) > 230
    refusals = re.findall(r"^\| [0-9, ]+ \|.*$", (DOCS / "key-broker.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert all(cell.strip() for row in refusals for cell in row.split("|")[1:-1])


def test_every_code_in_the_source_has_its_row() -> None:
    """Whatever prints it: scripts of both sides, and tables whose pages other tests compare."""
    listed = {code for _, code, _ in _rows_of_codes()}
    named = set(_codes_of_scripts())
    for path in (ROOT / "glideinwms_bosco").rglob("*"):
        if path.is_file() and path.suffix != ".pyc" and not path.name.endswith("codes.py"):
            named |= set(re.findall(r"BOSCO-[A-Z]+-[0-9]{2,3}", path.read_text(encoding="utf-8", errors="replace")))
    # An example in a docstring names one too.
    assert named - listed == set()
    assert {rule.code for table in (lint_codes, probe_codes, siteconf_codes) for rule in table.RULES.values()} <= listed


def _codes_of_scripts() -> set[str]:
    """Codes that scripts of the worker node can print: whole, or as the number given to a script's own function."""
    codes = set()
    for path in (ROOT / "validation_scripts").rglob("*"):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        codes |= set(re.findall(r"BOSCO-[A-Z]+-[0-9]{2}", text))
        for area in re.finditer(r"BOSCO-([A-Z]+)-\$1", text):
            function = re.findall(r"^(\w+)\(\) ", text[: area.start()], re.MULTILINE)[-1]
            codes |= {f"BOSCO-{area[1]}-{number}" for number in re.findall(rf"\b{function} ([0-9]{{2}})\b", text)}
    return codes


def test_every_code_of_the_pilot_scripts_has_its_row() -> None:
    text = (DOCS / "payload-codes.md").read_text(encoding="utf-8")
    codes = _codes_of_scripts()
    assert [code for code in sorted(codes) if f"| {code} |" not in text] == []
    assert len(codes) > 35


def test_pages_that_are_mentioned_exist() -> None:
    """In hints, comments and pages outside docs, which no link checker reads."""
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=True, cwd=ROOT, timeout=30,
    ).stdout.split()  # fmt: skip
    missing = set()
    for name in tracked:
        path = ROOT / name
        if name.startswith("tests/") or not path.is_file() or path.suffix not in (
            ".py", ".md", ".yaml", ".yml", ".conf", ".service", ".json", ".sh", ".spec", "",
        ):  # fmt: skip
            continue
        for page in re.findall(r"\bdocs/[a-z0-9/-]+\.md\b", path.read_text(encoding="utf-8", errors="replace")):
            if not (ROOT / page).is_file():
                missing.add(f"{name}: {page}")
    assert missing == set()


def test_pages_build_without_a_warning(tmp_path: Path) -> None:
    """mkdocs looks up every link and anchor, and every page in the menu."""
    pytest.importorskip("mkdocs")
    # Not --quiet, with which --strict does not count warnings.
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert (tmp_path / "site" / "commands" / "gwms-bosco-site.html").is_file()


def test_tests_that_are_named_exist() -> None:
    named = set()
    for page in DOCS.glob("*.md"):
        for name in re.findall(r"`(tests/[a-z0-9_/]+(?:\.py)?)`", page.read_text(encoding="utf-8")):
            named.add((page.name, name))
    assert [where for where in sorted(named) if not (ROOT / where[1]).exists()] == []
    assert len(named) > 20
