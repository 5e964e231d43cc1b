# SPDX-License-Identifier: Apache-2.0
"""Mutated input for every parser of outside bytes: it parses or raises WireError or LinkError, soon, in little space.

Run it as `python -m tests.fuzz --cases 1000000 --jobs 2`.
"""
