# SPDX-License-Identifier: Apache-2.0
"""Site files: what is read from a good one, and what every bad one is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glideinwms_bosco.errors import SiteError, SiteFileError
from glideinwms_bosco.site.load import load_site, load_sites
from glideinwms_bosco.site.model import Batch, Limits
from glideinwms_bosco.site.yaml_source import MAX_FILE_BYTES
from tests.unit.site_text import HOST_KEY, VALID, changed_site, problems_of, write_site

# what is changed: (old, new) -> line, field, words of message or hint
REFUSED = {
    "unknown field": ("trust_domain:", "trust_domian:", 2, "trust_domian", "did you mean 'trust_domain'"),
    "missing field": ("trust_domain: bosco.test\n", "", 1, "trust_domain", "missing"),
    "wrong type": ("cpus: 8", "cpus: eight", 14, "entries[0].cpus", "must be a whole number, is 'eight'"),
    "walltime in words": ("48h", "48 hrs", 16, "entries[0].walltime", "48h or 2-00:00:00"),
    "walltime without unit": ("48h", "172800", 16, "entries[0].walltime", "must be text, is 172800"),
    "walltime zero": ("48h", "00:00:00", 16, "entries[0].walltime", "between 1 second and 366 days"),
    "walltime too long": ("48h", "999d", 16, "entries[0].walltime", "between 1 second and 366 days"),
    "walltime within its margin": ("48h", "30m", 16, "entries[0].walltime", "walltime_margin"),
    "project with a blank": ("queue: normal", "project: a b", 11, "batch.project", "'a b' is not allowed"),
    "queue with a quote": ("queue: normal", 'queue: "n\'"', 11, "batch.queue", "is not allowed"),
    "queue with a newline": ("queue: normal", 'queue: "n\\nm"', 11, "batch.queue", "control character"),
    "extra option with a semicolon": (
        "queue: normal",
        "extra_args: ['--x=1;id']",
        11,
        "batch.extra_args[0]",
        "allowed",
    ),
    "extra option with a dollar": ("queue: normal", "extra_args: ['--x=$HOME']", 11, "batch.extra_args[0]", "allowed"),
    "bosco_dir outside home": ("entries:", "install: {bosco_dir: ../x}\nentries:", 12, "install.bosco_dir", "allowed"),
    "IPv6 login host": ("login.example.org", '"::1"', 4, "login.host", "no IPv6 literal"),
    "host starting with a dash": ("login.example.org", '"-oProxyCommand=x"', 4, "login.host", "is not allowed"),
    "user with an option": ("user: pilot", 'user: "-l"', 7, "accounts[0].user", "is not allowed"),
    "no pinned host key": (f'"{HOST_KEY}"', "", 5, "login.host_keys", "gwms-bosco site hostkeys login.example.org"),
    "port out of range": ("host: login.example.org", "port: 70000\n  host: h", 4, "login.port", "at most 65535"),
    "unknown batch system": ("system: slurm", "system: cobalt", 10, "batch.system", "one of: slurm, pbs"),
    "unknown account": ("cpus: 8", "accounts: [x]", 14, "entries[0].accounts[0]", "known: pilot"),
    "idle above glideins": (
        "cpus: 8",
        "limits: {per_entry: {glideins: 5, idle: 6}}",
        14,
        "entries[0].limits.per_entry.idle",
        "lower idle",
    ),
    "reserved submit attribute": (
        "cpus: 8",
        "submit_attrs: {Grid_Resource: x}",
        14,
        "entries[0].submit_attrs.Grid_Resource",
        "stops reconfig",
    ),
    "quote in an attribute": ("cpus: 8", 'attrs: {A: "it\'s"}', 14, "entries[0].attrs.A", "break the pilot"),
    "empty attribute": ("cpus: 8", 'attrs: {A: ""}', 14, "entries[0].attrs.A", "is empty"),
    "text as int attribute": ("cpus: 8", "attrs: {A: {value: x, type: int}}", 14, "entries[0].attrs.A", "whole number"),
    "unpublished variable": (
        "cpus: 8",
        "attrs: {A: {value: x, publish: false, const: false}}",
        14,
        "entries[0].attrs.A",
        "reconfig refuses",
    ),
    "attribute block without value": ("cpus: 8", "attrs: {A: {valu: x}}", 14, "entries[0].attrs.A.valu", "'value'"),
    "two HTCondor sources": (
        "entries:",
        "install: {htcondor: {root: /, tarball: /x}}\nentries:",
        12,
        "install.htcondor.tarball",
        "unknown field",
    ),
    "tarball without sha256": (
        "entries:",
        "install: {htcondor: {tarball: /x}}\nentries:",
        12,
        "install.htcondor.sha256",
        "missing",
    ),
    "number with a point for a whole one": ("cpus: 8", "cpus: 8.0", 14, "entries[0].cpus", "whole number, is 8.0"),
    "number with a leading zero": ("cpus: 8", "cpus: 010", 14, "entries[0].cpus", "whole number, is '010'"),
    "character that XML lacks": ("cpus: 8", 'comment: "\\uFFFE"', 14, "entries[0].comment", "control character"),
    "surrogate": ("cpus: 8", 'comment: "\\ud800"', 14, "entries[0].comment", "control character"),
    "queue as a submit attribute": (
        "cpus: 8",
        "submit_attrs: {+remote_queue: '\"x y\"'}",
        14,
        "entries[0].submit_attrs.+remote_queue",
        "use `batch.queue`",
    ),
    "project as a submit attribute": (
        "cpus: 8",
        "submit_attrs: {+BatchProject: a b}",
        14,
        "entries[0].submit_attrs.+BatchProject",
        "use `batch.project`",
    ),
    "entry name with a slash": ("Test_Entry", "a/b", 13, "entries[0].name", "is not allowed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_with_line_field_and_remedy(case: str, tmp_path: Path) -> None:
    old, new, line, field, words = REFUSED[case]
    path = write_site(tmp_path, old, new)
    errors = [problem for problem in problems_of(path) if problem.severity == "error"]
    found = {(problem.line, problem.field): str(problem) for problem in errors}
    assert (line, field) in found, errors
    text = found[line, field]
    assert text.startswith(f"{path}:{line}: error: {field}: ")
    assert words in text
    assert "\n" not in text


def test_valid_file_has_no_findings(tmp_path: Path) -> None:
    assert problems_of(write_site(tmp_path)) == ()


def test_reads_fields_and_defaults(tmp_path: Path) -> None:
    site = changed_site(tmp_path)
    assert (site.name, site.resource, site.short_name) == ("T3_XX_Test", "T3_XX_Test", "test")
    assert site.required_login().port == 22
    assert site.accounts[0].name == "pilot"
    assert site.install.folder == "bosco"
    assert site.entries[0].walltime_s == 48 * 3600
    assert site.line("entries[0].walltime") == 16


def test_reports_all_errors_in_one_run(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(VALID.replace("cpus: 8", "cpus: x").replace("48h", "48 hrs").replace("slurm", "cobalt"))
    assert [problem.field for problem in problems_of(path)] == [
        "batch.system",
        "entries[0].cpus",
        "entries[0].walltime",
    ]


def test_values_follow_yaml_1_2(tmp_path: Path) -> None:
    """PyYAML alone reads `48:00:00` as the number 172800 and `NO` as False."""
    site = changed_site(tmp_path, "walltime: 48h\n", "walltime: 48:00:00\n    comment: NO\n")
    assert site.entries[0].walltime_s == 172800
    assert site.entries[0].comment == "NO"


def test_entry_fields_win_over_defaults_block_by_block(tmp_path: Path) -> None:
    site = changed_site(
        tmp_path,
        "entries:\n  - name: Test_Entry\n",
        "defaults:\n  nodes: 2\n  limits: {per_entry: {idle: 1}}\n  attrs: {A: d, B: d}\n"
        "entries:\n  - name: Test_Entry\n    attrs: {B: own}\n",
    )
    entry = site.entries[0]
    assert entry.nodes == 2
    assert entry.per_entry == Limits(idle=1)
    assert [(attr.name, attr.value) for attr in entry.attrs] == [("A", "d"), ("B", "own")]
    assert site.line("entries[0].nodes") == 13


def test_key_pair_is_warned_about(tmp_path: Path) -> None:
    (warning,) = problems_of(write_site(tmp_path, "credential: broker", "credential: key_pair"))
    assert warning.severity == "warning"
    assert "factory's disk" in warning.message


def test_disabled_site_needs_no_host_key(tmp_path: Path) -> None:
    path = write_site(tmp_path, f'  host_keys: ["{HOST_KEY}"]', "enabled: false")
    assert problems_of(path) == ()


def test_jump_host_needs_a_host_key(tmp_path: Path) -> None:
    path = write_site(tmp_path, "accounts:", "  jump_hosts: [{host: jump.example.org}]\naccounts:")
    (problem,) = problems_of(path)
    assert problem.field == "login.jump_hosts[0].host_keys"


def test_entry_name_is_unique_in_a_file(tmp_path: Path) -> None:
    path = write_site(tmp_path, "    walltime: 48h\n", "    walltime: 48h\n  - name: Test_Entry\n    cpus: 1\n")
    (problem,) = problems_of(path)
    assert "stands twice (first on line 13)" in problem.message


def test_entry_name_is_unique_over_files(tmp_path: Path) -> None:
    one, two = write_site(tmp_path, name="one"), write_site(tmp_path, name="two")
    with pytest.raises(SiteFileError) as caught:
        load_sites([one, two])
    (problem,) = caught.value.problems
    assert problem.file == str(two)
    assert f"also stands at {one}:13" in problem.message


BROKEN_YAML = {
    "syntax": ("site: a\ntrust_domain: [", 2, "; look at this line and at the one above it"),
    "tab": ("site:\n\tx: 1", 2, "; indent with spaces"),
    "key twice": ("site: a\nsite: b", 2, "stands twice (first on line 1)"),
    "python object": ("site: !!python/object/apply:os.system [id]", 1, "tag"),
    "python scalar": ("site: !!python/name:os.system ''", 1, "tag"),
    "second document": ("site: a\n---\nsite: b", 2, "not valid YAML"),
    "deep nesting": ("site: " + "[" * 2000, 0, "too deeply nested"),
    "list": ("- a", 1, "must be a block of fields"),
    "text": ("a", 1, "must be a block of fields"),
    "empty": ("", 1, "describes no site; docs/recipes.md"),
    "comments alone": ("# to do\n", 1, "describes no site; docs/recipes.md"),
}


@pytest.mark.parametrize("case", BROKEN_YAML)
def test_broken_yaml_is_one_clear_line(case: str, tmp_path: Path) -> None:
    text, line, words = BROKEN_YAML[case]
    path = tmp_path / "broken.yaml"
    path.write_text(text, encoding="utf-8")
    (problem,) = problems_of(path)
    assert problem.line == line
    assert words in str(problem)
    assert "\n" not in str(problem)


@pytest.mark.parametrize("key", ['"+Foo\\n"', '"a\\e[31m"'])
def test_key_with_a_control_character_is_refused_and_shown_harmless(key: str, tmp_path: Path) -> None:
    """`$` in a pattern matches before a last line break, so patterns alone let `+Foo\\n` through."""
    path = write_site(tmp_path, "cpus: 8", f"submit_attrs: {{{key}: x}}")
    problem = problems_of(path)[0]
    assert "has a line break or control character" in problem.message
    assert str(problem).isprintable()


def test_pipe_instead_of_a_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "not a regular file" in str(problems_of(tmp_path / "pipe.yaml")[0])


def test_alias_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert "too many values" in str(problems_of(path)[0])


@pytest.mark.parametrize("extra", [0, 1])
def test_file_size_limit(extra: int, tmp_path: Path) -> None:
    path = tmp_path / "test.yaml"
    path.write_text(VALID + "#" * (MAX_FILE_BYTES - len(VALID) + extra), encoding="utf-8")
    assert ("larger than" in "".join(map(str, problems_of(path)))) == bool(extra)


def test_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"site: a\ntrust_domain: \xe9\n")
    assert str(problems_of(path)[0]).startswith(f"{path}:2: error: not UTF-8")


def test_missing_file_is_named(tmp_path: Path) -> None:
    problem = problems_of(tmp_path / "none.yaml")[0]
    assert str(problem).endswith("cannot be read: No such file or directory; check the path")


def test_objects_refuse_what_a_shell_would_interpret() -> None:
    """The model guards itself: a value that passed by the schema cannot reach a command line."""
    for value in ("a b", "a;b", "$(id)", "a'b", "a*", "a\nb"):
        with pytest.raises(SiteError):
            Batch("slurm", project=value)


def test_short_name_with_odd_characters_is_refused(tmp_path: Path) -> None:
    path = write_site(tmp_path, name="my site")
    assert "names the site in commands" in problems_of(path)[0].message


def test_load_site_gives_warnings_with_the_site(tmp_path: Path) -> None:
    site, warnings = load_site(write_site(tmp_path, "    cpus: 8\n", ""))
    assert site.entries[0].cpus is None
    assert "offers one CPU" in warnings[0].message
