# SPDX-License-Identifier: Apache-2.0
"""The life of an entry beside its site file: disabled, draining, removed in two steps. Pure.

| state | what the rendered XML says |
|---|---|
| active | what the site file says |
| disabled | `enabled="False"`: the factory neither submits nor looks after its pilots |
| draining | no new pilots are submitted (limits of 0); those at the batch system are looked after |
| removing | `enabled="False"`, until a reconfig has seen it |
| removed | the entry is left out |

An entry may not vanish while it is enabled: reconfig then stops for the whole factory (glideinWMS 3.10
creation/reconfig_glidein, entries that are no longer in the configuration).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from lxml import etree

from glideinwms_bosco.errors import EntryError


class State(Enum):
    """Where an entry stands."""

    ACTIVE = "active"
    DISABLED = "disabled"
    DRAINING = "draining"
    REMOVING = "removing"
    REMOVED = "removed"


@dataclass(frozen=True)
class Record:
    """What is remembered of an entry: its state, since when (ISO 8601, UTC) and who asked for it."""

    state: State
    since: str
    by: str


# verb -> state before -> state after; a pair that is not here is refused with the reason below.
_TRANSITIONS: dict[str, dict[State, State]] = {
    "enable": dict.fromkeys(State, State.ACTIVE),
    "disable": {State.ACTIVE: State.DISABLED, State.DRAINING: State.DISABLED, State.DISABLED: State.DISABLED},
    "drain": {State.ACTIVE: State.DRAINING, State.DRAINING: State.DRAINING},
    "remove": {
        State.ACTIVE: State.REMOVING,
        State.DISABLED: State.REMOVING,
        State.DRAINING: State.REMOVING,
        State.REMOVING: State.REMOVING,
        State.REMOVED: State.REMOVED,
    },
}
VERBS = tuple(_TRANSITIONS)


def next_state(name: str, verb: str, now: State, *, reconfigured: bool, disabled: bool) -> State:
    """Say where an entry goes.

    Args:
        reconfigured: the operator says that a reconfig has run since the first step of `remove`.
        disabled: the live configuration has the entry as `enabled="False"`, or not at all.

    Raises:
        EntryError: this verb makes no sense in this state.
    """
    if verb == "remove" and reconfigured:
        if not disabled:
            # Also after a first step that was cut off before it had written config.d.
            raise EntryError(
                f"entry {name} is still enabled in config.d, and reconfig stops when it vanishes",
                "run `gwms-bosco entry remove` without --reconfigured, and reconfigure the factory",
            )
        return State.REMOVED
    try:
        return _TRANSITIONS[verb][now]
    except KeyError:
        raise EntryError(
            f"entry {name} is {now.value} and cannot {verb}", "run `gwms-bosco entry enable` first"
        ) from None


def apply_states(xml: bytes, states: Mapping[str, State]) -> bytes:
    """Put the states into rendered XML; without any state other than active the bytes stay as they are."""
    root = etree.fromstring(xml)
    concerned = False
    for entry in root.findall("./entries/entry"):
        state = states.get(str(entry.get("name")), State.ACTIVE)
        if state is State.ACTIVE:
            continue
        concerned = True
        if state is State.REMOVED:
            parent = entry.getparent()
            if parent is not None:
                parent.remove(entry)
        elif state is State.DRAINING:
            _forbid_new_pilots(entry)
        else:
            entry.set("enabled", "False")
    if not concerned:
        return xml
    etree.indent(root)
    text: bytes = etree.tostring(root, pretty_print=True, xml_declaration=True, encoding="UTF-8")
    return text


def _forbid_new_pilots(entry: etree._Element) -> None:
    """Set every limit of pilots and of waiting pilots to 0; held ones are still released or removed."""
    for limits in entry.findall("./config/max_jobs//*"):
        if limits.tag in ("per_entry", "default_per_frontend", "per_frontend"):
            limits.set("glideins", "0")
            limits.set("idle", "0")
