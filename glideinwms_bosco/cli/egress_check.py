# SPDX-License-Identifier: Apache-2.0
"""Carry the questions of `egress check` to the egress proxy, from the login node or from here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from glideinwms_bosco.cli.target import Target
from glideinwms_bosco.egress.check import (
    ERROR,
    OK,
    WARNING,
    Answer,
    Line,
    Question,
    judge_ssh,
    questions,
    unlisted,
)
from glideinwms_bosco.egress.conf import key_path, known_hosts
from glideinwms_bosco.errors import EgressError
from glideinwms_bosco.remote.reach import (
    HEAD,
    LINE,
    Call,
    Reached,
    SshCall,
    call_from_here,
    call_from_login,
    ssh_from_login,
)
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.network import HTTP_CONNECT, SSH, Network

_Dial = Callable[[Sequence[Call]], Sequence[Reached]]


def check_from_login(target: Target) -> tuple[Line, ...]:
    """Ask from the login node.

    Raises:
        EgressError: the site has no network block.
        RemoteError: the login node cannot be asked.
    """
    network = _network(target.site)
    with target.session() as session:
        lines = _ask(network, lambda calls: call_from_login(session, calls))
        if network.egress.kind == SSH and lines[0].severity == OK:
            lines += _ssh_lines(session, target.site, network)
    return lines


def check_from_here(site: SiteDescription) -> tuple[Line, ...]:
    """Ask from this host; of kind ssh only the banner, as the tunnel's key is on the site.

    Raises:
        EgressError: the site has no network block.
    """
    network = _network(site)
    lines = _ask(network, call_from_here)
    if network.egress.kind == SSH and lines[0].severity == OK:
        text = "forwards are not asked for: the tunnel's key is on the site"
        lines += (Line("forwards", WARNING, text, "leave --direct out"),)
    return lines


def _network(site: SiteDescription) -> Network:
    if site.network is None:
        raise EgressError(f"{site.file or site.name}: has no network block", "add one, see docs/closed-sites.md")
    return site.network


def _ask(network: Network, dial: _Dial) -> tuple[Line, ...]:
    """Ask whether the proxy is there; only when it is, the rest."""
    first, *others = questions(network)
    lines = _lines(network, [first], dial)
    return lines + _lines(network, others, dial) if others and lines[0].severity == OK else lines


def _lines(network: Network, asked: Sequence[Question], dial: _Dial) -> tuple[Line, ...]:
    calls = [Call(network.egress.host, network.egress.port, question.data, _amount(question)) for question in asked]
    answers = [Answer(found.connected, found.data, found.reason) for found in dial(calls)]
    return tuple(question.judge(answer) for question, answer in zip(asked, answers))


def _amount(question: Question) -> str:
    if question.kind == SSH:
        return LINE
    return HEAD if question.kind == HTTP_CONNECT else str(question.enough_bytes)


def _ssh_lines(session: SshSession, site: SiteDescription, network: Network) -> tuple[Line, ...]:
    key, user = key_path(site, network), network.egress.user
    if key is None or user is None:
        return (Line("forwards", ERROR, "no key or user is named for the egress proxy", "run `site check`"),)
    targets = [(forward, True) for forward in network.forwards] + [(place, False) for place in unlisted(network)]
    call = SshCall(
        network.egress.host,
        network.egress.port,
        user,
        key,
        tuple(known_hosts(site).splitlines()),
        tuple(target.target for target, _ in targets),
    )
    said = ssh_from_login(session, call)
    return tuple(judge_ssh(target, allowed, log) for (target, allowed), log in zip(targets, said))
