# SPDX-License-Identifier: Apache-2.0
"""The command line: one module per noun, each turning arguments into calls of the other rooms."""
