# SPDX-License-Identifier: Apache-2.0
"""What all verbs of gwms-ssh-broker share: where things are, one line per error, and telling a running broker."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Optional

from glideinwms_bosco.broker.backends.make import known_public_key
from glideinwms_bosco.broker.paths import BrokerPaths, broker_paths
from glideinwms_bosco.broker.policy import KeyedPolicy, Policy, load_policy
from glideinwms_bosco.broker.process import tell_to_reload
from glideinwms_bosco.cli import output
from glideinwms_bosco.errors import EXIT_OK, EXIT_REFUSED, BoscoError, UsageError
from glideinwms_bosco.link.tls import Identity, load_identity
from glideinwms_bosco.sshwire.keys import PublicKey

PROGRAM = "gwms-ssh-broker"
DEBUG_VARIABLE = "GWMS_BOSCO_DEBUG"
EXIT_INTERRUPTED = 130

Run = Callable[[argparse.Namespace], int]


def run_verb(parser: argparse.ArgumentParser, argv: Optional[Sequence[str]]) -> int:
    """Run one command; every error becomes one line and an exit status."""
    args = parser.parse_args(argv)
    try:
        status = int(args.run(args))
        sys.stdout.flush()
        return status
    except BoscoError as error:
        _print_error(error)
        return error.exit_status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        _print_error(BoscoError(f"{what}{error.strerror or error}"))
        return EXIT_REFUSED
    except Exception as error:
        # Our mistake, whatever it is; the administrator gets one line all the same.
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        hint = f"please report it, with the output under {DEBUG_VARIABLE}=1"
        _print_error(BoscoError(f"internal error: {type(error).__name__}: {error}", hint))
        return EXIT_REFUSED


def _print_error(error: BoscoError) -> None:
    if error.problems:
        output.print_problems(error.problems)
    else:
        print(f"{PROGRAM}: error: {output.printable(str(error))}", file=sys.stderr)


def add_verb(
    verbs: Any, name: str, run: Run, text: str, example: str, as_json: bool = False
) -> argparse.ArgumentParser:
    """Add a verb with its line of help and its example."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text, epilog=f"example: {example}")
    parser.set_defaults(run=run)
    if as_json:
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def read_policy() -> tuple[BrokerPaths, Policy]:
    """The policy as it stands in the file.

    Raises:
        PolicyFileError: it has problems.
    """
    paths = broker_paths()
    if not paths.policy.exists():
        raise UsageError(f"{paths.policy}: there is no policy yet", f"{PROGRAM} init")
    return paths, load_policy(paths.policy)


def read_identity(paths: BrokerPaths) -> Identity:
    """The broker's TLS identity.

    Raises:
        UsageError: there is none yet.
        LinkError: it cannot be read.
    """
    if not paths.certificate.exists():
        raise UsageError(f"{paths.certificate}: this broker has no identity yet", f"{PROGRAM} init")
    return load_identity(paths.certificate, paths.key)


def keyed_by_files(paths: BrokerPaths, policy: Policy) -> KeyedPolicy:
    """The policy with the handles of all entries whose public key stands in a file or in the policy."""
    keys: dict[str, PublicKey] = {}
    for name, entry in policy.entries.items():
        key = known_public_key(entry.key)
        if key is not None:
            keys[name] = key
    return policy.keyed(read_identity(paths).spki_der, keys)


def policy_changed(paths: BrokerPaths, said: str) -> int:
    """Say what was done, and have a running broker use it."""
    running = tell_to_reload(paths.pid)
    print(output.printable(f"{said}; {'the running broker uses it' if running else 'no broker runs'}"))
    return EXIT_OK
