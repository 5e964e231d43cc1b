# SPDX-License-Identifier: Apache-2.0
"""What the readers would make of a rule's regular expression, found out without running it.

CMSSW takes it for ECMAScript (`std::regex` of libstdc++, whole text must match), WMCore for Python's (`re`, from the
start on). Both go back and try again, so some expressions would run for years on a text of a hundred characters.
Those are told by their form: no expression that fails here is ever run.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass

from glideinwms_bosco.siteconf.pattern_scan import Endless, Refused, Scan

MAX_PATTERN_CHARS = 500
"""Of one expression; the longest in a production SITECONF have about 150."""

_BY_NUMBER = re.compile(r"\\[uUxN]|[^\x20-\x7e]")


@dataclass(frozen=True)
class PatternFacts:
    """What is known of one expression.

    Attributes:
        cmssw: why CMSSW refuses it; empty: it does not.
        wmcore: why WMCore refuses it.
        differs: what the two read differently.
        endless: why it can run for ever.
        groups: number of its groups.
        droppable: whether a group that is not the last can be empty, which WMCore then does not count.
    """

    cmssw: str = ""
    wmcore: str = ""
    differs: str = ""
    endless: str = ""
    groups: int = 0
    droppable: bool = False


def pattern_facts(pattern: str) -> PatternFacts:
    """Judge an expression; costs at most a few milliseconds, whatever it is."""
    if len(pattern) > MAX_PATTERN_CHARS:
        return PatternFacts(endless=f"it has more than {MAX_PATTERN_CHARS} characters, which nothing here reads")
    if _BY_NUMBER.search(pattern):
        # Python needs milliseconds for each set of Unicode characters.
        return PatternFacts(differs="a character outside of ASCII, or given by its number: CMSSW compares bytes")
    scan, cmssw = Scan(pattern), ""
    try:
        scan.run()
    except Refused as refused:
        cmssw = refused.why
    except Endless as endless:
        return PatternFacts(endless=str(endless))
    wmcore = _python_refuses(pattern)
    differs = "" if cmssw or wmcore else scan.differs
    return PatternFacts(cmssw, wmcore, differs, "", len(scan.groups), any(scan.groups[:-1]))


def _python_refuses(pattern: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as err:
            return str(err)
    return ""
