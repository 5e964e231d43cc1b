# SPDX-License-Identifier: Apache-2.0
"""Where private keys are and who signs with them: every backend ends at an ssh agent, none holds a key itself."""
