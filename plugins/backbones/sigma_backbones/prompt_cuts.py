"""Warnings of prompts that are longer than a base reads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

MOST_REPORTED = 3
"""Warnings per backbone: a training run would log thousands."""


class PromptCuts:
    """Logs the first cuts, and does not look for others."""

    def __init__(self) -> None:
        self._left = MOST_REPORTED

    def report(self, find: Callable[[], Sequence[tuple[int, str]]], read: int) -> None:
        """Logs what a search finds.

        Args:
            find: gives (tokens, words cut off) of each prompt that is cut.
            read: tokens that the base reads.
        """
        if not self._left:
            return
        for found, lost in find()[: self._left]:
            self._left -= 1
            logger.warning("a prompt has %d tokens, this base reads %d; cut off: %r", found, read, lost)
