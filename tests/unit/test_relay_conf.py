# SPDX-License-Identifier: Apache-2.0
"""relay.conf: every finding names file and line, and no two brokers can share a credential file."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.errors import RelayFileError
from glideinwms_bosco.relay.conf import MAX_SOCKET_DIR_BYTES, load_conf, read_conf
from glideinwms_bosco.relay.credential_path import covered, overlap

PIN = "sha256:" + "0" * 64
OTHER_PIN = "sha256:" + "1" * 64
EXAMPLE = Path(__file__).parents[2] / "factory_configs" / "relay.conf"


def broker(**other: Any) -> dict[str, Any]:
    return {"name": "cms", "frontend": "CMS", "spki": [PIN], "credential_paths": ["/proxies/user_cms"], **other}


def conf(tmp_path: Path, **other: Any) -> Path:
    data = {"version": 1, "identity": "/etc/x/relay", "allowed_uids": [0], "brokers": [broker()], **other}
    path = tmp_path / "relay.conf"
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not ...}, indent=1))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(RelayFileError) as caught:
        load_conf(path)
    return str(caught.value)


def test_shipped_example_is_right_but_for_this_hosts_users(tmp_path: Path) -> None:
    path = tmp_path / "relay.conf"
    path.write_text(EXAMPLE.read_text().replace('"gfactory"', f'"{getpass.getuser()}"'))
    loaded = load_conf(path)
    assert loaded.brokers[0].frontend == "CMS Global Pool"
    defaults = read_conf(conf(tmp_path))
    for name in ("listen", "port", "socket_dir", "sign_deadline_s", "remote_gahp", "ssh", "shim_dir", "tap"):
        assert getattr(loaded, name) == getattr(defaults, name)


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        ({"prot": 1}, 0, "unknown field; did you mean 'port'?"),
        ({"version": 2}, 2, "version: 2 is not known; one of: 1"),
        ({"brokers": ...}, 1, "brokers: missing"),
        ({"port": 0}, 0, "port: is 0, must be at least 1"),
        ({"port": 65536}, 0, "port: is 65536, must be at most 65535"),
        ({"port": "8620"}, 0, "port: must be a whole number"),
        ({"allowed_uids": []}, 4, "allowed_uids: is empty"),
        ({"allowed_uids": ["no-such-user-here"]}, 4, "no user no-such-user-here on this host"),
        ({"socket_group": "no-such-group-here"}, 0, "no group no-such-group-here on this host"),
        ({"socket_dir": "run"}, 0, "socket_dir: 'run' is not allowed here"),
        ({"socket_dir": "/a/../b"}, 0, "is not allowed here"),
        ({"socket_dir": "/a b"}, 0, "is not allowed here"),
        ({"socket_dir": "/a%h"}, 0, "is not allowed here"),
        ({"socket_dir": "/" + "x" * MAX_SOCKET_DIR_BYTES}, 0, "bytes long, a socket's path allows"),
        ({"sign_deadline_s": 61}, 0, "sign_deadline_s: is 61, must be at most 60"),
        ({"tap": "maybe"}, 0, "tap:"),
        ({"brokers": [broker(spki=["sha256:" + "A" * 64])]}, 0, "brokers[0].spki[0]:"),
        ({"brokers": [broker(frontend="a\u00e9")]}, 0, "brokers[0].frontend:"),
        ({"brokers": [broker(credential_paths=["/"])]}, 0, "brokers[0].credential_paths[0]:"),
        ({"brokers": [broker(credential_paths=["/proxies"])]}, 0, "brokers[0].credential_paths[0]:"),
        ({"brokers": [broker(credential_paths=["/proxies/[a]"])]}, 0, "brokers[0].credential_paths[0]:"),
        ({"brokers": [broker(), broker(spki=[OTHER_PIN], credential_paths=["/p/b"])]}, 0,
         "brokers[1].name: stands already"),
        ({"brokers": [broker(), broker(name="b", credential_paths=["/p/b"])]}, 0, "brokers[1].spki[0]: stands already"),
        ({"brokers": [broker(), broker(name="b", spki=[OTHER_PIN], credential_paths=["/proxies/user_*"])]}, 0,
         "files may also lie under /proxies/user_cms of cms"),
    ],
)  # fmt: skip
def test_refuses(tmp_path: Path, change: dict[str, Any], line: int, words: str) -> None:
    said = refusal(conf(tmp_path, **change))
    assert words in said
    assert f"relay.conf:{line or ''}" in said


def test_takes_longest_socket_dir(tmp_path: Path) -> None:
    assert load_conf(conf(tmp_path, socket_dir="/" + "x" * (MAX_SOCKET_DIR_BYTES - 1)))


def test_names_all_findings_in_the_order_of_the_file(tmp_path: Path) -> None:
    said = refusal(conf(tmp_path, version=2, port=0, tap="x")).splitlines()
    assert [line.split(" ")[2] for line in said] == ["version:", "port:", "tap:"]


def test_quick_reading_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{"brokers": ...}, {"brokers": 1}, {"identity": 1}, {"brokers": [{}]}]
    for change in changes:
        with pytest.raises(RelayFileError, match=r"run: gwms-ssh-relay --conf .* check"):
            read_conf(conf(tmp_path, **change))


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/p/user_a", "/p/user_a/x/credential_1", True),
        ("/p/user_a", "/p/user_ab/x", False),
        ("/p/user_a", "/p/user_a", True),
        ("/p/user_*/x", "/p/user_a/x/c", True),
        ("/p/user_*/x", "/p/user_a/b/x/c", False),
        ("/p/credential_?_*", "/p/credential_1_ab", True),
        ("/p/credential_?_*", "/p/credential_12_ab", False),
        ("/p/user_a", "p/user_a/x", False),
        ("/p/user_a", "/p/user_b/../user_a/x", False),
        ("/p/user_a", "/p//user_a/x", False),
        ("/p/user_a", "//p/user_a/x", False),
        ("/p/user_a", "/p/user_a/./x", False),
    ],
)
def test_path_is_covered(pattern: str, path: str, expected: bool) -> None:
    assert covered(path, [pattern]) is expected


def test_folder_that_is_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "data" / "user_a").mkdir(parents=True)
    (tmp_path / "proxies").symlink_to("data")
    (tmp_path / "data" / "user_a" / "c").touch()
    assert covered(str(tmp_path / "proxies/user_a/c"), [f"{tmp_path}/proxies/user_*"])
    assert not covered(str(tmp_path / "data/user_a/c"), [f"{tmp_path}/proxies/user_*"])


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("/p/a", "/p/b", False), ("/p/a", "/p/a/b", True), ("/p/*", "/p/b", True), ("/p/a*", "/p/*b", True),
        ("/p/a*", "/p/b*", False), ("/p/a?", "/p/a", False), ("/p/a?", "/p/?b", True), ("/p/*x*", "/p/aya", False),
        ("/p/a*b*c", "/p/a?c", True), ("/p/a*b*c", "/p/a?d", False),
        ("/p/a*b*c", "/p/a??c", True), ("/p/**", "/p/x", True), ("/q/*", "/p/*", False),
    ],
)  # fmt: skip
def test_overlap_of_patterns(first: str, second: str, expected: bool) -> None:
    assert overlap(first, second) is expected
    assert overlap(second, first) is expected


def test_refuses_a_file_that_everybody_may_write(tmp_path: Path) -> None:
    """Whoever writes it says whose credentials a broker may sign for."""
    path = conf(tmp_path)
    path.chmod(0o646)
    for read in (load_conf, read_conf):
        with pytest.raises(RelayFileError, match="may be written by others"):
            read(path)
    path.chmod(0o664)
    read_conf(path)
