# SPDX-License-Identifier: Apache-2.0
"""What glideinWMS puts where an entry says nothing.

Source: glideinWMS 3.10 creation/lib/factory_defaults.xml (entry) and xmlConfig.py (merge_defaults: lists get defaults
for their elements, not elements).
"""

from __future__ import annotations

import re

from glideinwms_bosco.entry.meaning import Meaning

_LIMITS = {"glideins": "5000", "held": "50", "idle": "100"}
_ENTRY = {
    "@auth_method": "grid_proxy",
    "@enabled": "True",
    "@gridtype": "condor",
    "@trust_domain": "grid",
    "@verbosity": "std",
    "@work_dir": ".",
    "config/max_jobs/per_entry/@glideins": "10000",
    "config/max_jobs/per_entry/@held": "1000",
    "config/max_jobs/per_entry/@idle": "2000",
    **{f"config/max_jobs/default_per_frontend/@{name}": value for name, value in _LIMITS.items()},
    "config/stale_age/@idle": "604800",
    "config/stale_age/@running": "2678400",
    "config/stale_age/@unclaimed": "7200",
    "config/release/@max_per_cycle": "20",
    "config/release/@sleep": "0.2",
    "config/remove/@max_per_cycle": "5",
    "config/remove/@sleep": "0.2",
    "config/restrictions/@require_voms_proxy": "False",
    "config/submit/@cluster_size": "10",
    "config/submit/@max_per_cycle": "100",
    "config/submit/@sleep": "0.2",
    "config/submit/@slots_layout": "fixed",
}
# path of a list -> what each of its elements gets
_ITEMS = {
    "attrs": {
        "const": "True",
        "glidein_publish": "False",
        "job_publish": "False",
        "parameter": "True",
        "publish": "True",
        "type": "string",
    },
    "allow_frontends": {"security_class": "All"},
    "config/max_jobs/per_frontends": _LIMITS,
    "config/submit/submit_attrs": {"value": "All"},
    "files": {
        "const": "True",
        "executable": "False",
        "period": "0",
        "prefix": "GLIDEIN_PS_",
        "wrapper": "False",
        "untar": "False",
        "type": "regular",
        "time": "setup",
    },
}
_ITEM = re.compile(r"(?P<list>.*)/\[[^\]]*\]/@[^@]*")


def with_defaults(meaning: Meaning) -> tuple[Meaning, frozenset[str]]:
    """Fill in the defaults of an entry.

    Returns:
        The complete meaning, and the paths that come from the defaults.
    """
    found = dict(meaning)
    for path, value in _ENTRY.items():
        found.setdefault(path, value)
    for path in meaning:
        item = _ITEM.fullmatch(path)
        if item:
            for name, value in _ITEMS.get(item["list"], {}).items():
                found.setdefault(f"{path.rpartition('@')[0]}@{name}", value)
    return found, frozenset(found.keys() - meaning.keys())
