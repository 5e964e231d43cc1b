# SPDX-License-Identifier: Apache-2.0
"""Read a wall time as operators write it."""

from __future__ import annotations

import re

from glideinwms_bosco.errors import SiteError

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WITH_UNIT = re.compile(r"([1-9][0-9]{0,6})([smhd])", re.ASCII)
# Source: Slurm's D-HH:MM:SS; its MM:SS and HH:MM are left out because operators read them in both ways.
_CLOCK = re.compile(r"(?:([0-9]{1,3})-)?([0-9]{1,3}):([0-5][0-9]):([0-5][0-9])", re.ASCII)
MAX_WALLTIME_S = 366 * 86400
"""One year and a day: beyond it a figure is a mistake."""


def parse_walltime(text: str) -> int:
    """Turn `48h`, `90m`, `2d`, `48:00:00` or `2-00:00:00` into seconds.

    Raises:
        SiteError: not of that form, zero, or more than MAX_WALLTIME_S.
    """
    with_unit = _WITH_UNIT.fullmatch(text)
    clock = _CLOCK.fullmatch(text)
    if with_unit:
        seconds = int(with_unit[1]) * _UNIT_S[with_unit[2]]
    elif clock:
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    else:
        raise SiteError(f"{text!r} is not a wall time", "write 48h, 90m, 2d, 48:00:00 or 2-00:00:00")
    if not 0 < seconds <= MAX_WALLTIME_S:
        raise SiteError(f"{text!r} is no usable wall time", "between 1 second and 366 days")
    return seconds
