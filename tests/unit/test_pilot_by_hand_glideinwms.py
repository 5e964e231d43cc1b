# SPDX-License-Identifier: Apache-2.0
"""A pilot by hand gets the arguments that glideinWMS's own factory gives. GLIDEINWMS_SRC names a checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glideinwms_bosco.cli.main import main
from glideinwms_bosco.pilot.factory_dir import pilot_arguments, read_requests
from tests.unit.glideinwms_source import factory_for_commands, is_checkout
from tests.unit.site_text import write_site
from tests.unit.test_pilot_by_hand import REQUEST, options_of

SOURCE = os.environ.get("GLIDEINWMS_SRC", "")
pytestmark = pytest.mark.skipif(not is_checkout(SOURCE), reason="GLIDEINWMS_SRC names no glideinWMS checkout")

ENTRY, OK = "Test_Entry", 0
# What a schedd and a credential would give, and where the pilot says that there is none.
BY_HAND = {"-schedd": "local", "-submitcredid": "by-hand", "-cluster": "0", "-subcluster": "0"}


def test_arguments_are_those_of_the_factory_after_reconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    factory = factory_for_commands(tmp_path, SOURCE, monkeypatch)
    write_site(tmp_path / "sites.d")
    assert main(["entry", "render"]) == OK
    done = factory.reconfig()
    assert done.returncode == 0, done.stdout + done.stderr
    (request,) = read_requests(REQUEST)
    theirs = options_of(factory.pilot_arguments(ENTRY, request))
    ours = options_of(pilot_arguments(factory.work, ENTRY, request))
    assert {**theirs, **BY_HAND} == ours
    assert theirs.keys() == ours.keys()
