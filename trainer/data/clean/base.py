"""What every cleaning step is: settings that say what to do with one document, and the verdict that drops it.

`trainer.data.prepare` applies the steps of a pipeline in their order, in any process, and counts drops by rule. A step
is pure: what becomes of a document depends on its text, the step's settings and what `method` names, on nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from trainer.settings import Settings


@dataclass(frozen=True, slots=True)
class Drop:
    """The document is left out; `rule` is one of the names that the step's `rules` lists: `c4.curly-bracket`."""

    rule: str


class Step(Settings, ABC):
    """One step of cleaning. A subclass has a field `type` with the one name that picks it."""

    @abstractmethod
    def rules(self) -> tuple[str, ...]:
        """Names of all rules that can drop a document, switched-off ones left out, in the order they are tried."""

    @abstractmethod
    def apply(self, text: str) -> str | Drop:
        """The text as it goes on, changed or not, or the rule that drops it."""

    def method(self) -> str:
        """What besides the settings decides the verdicts, such as the version of a model; empty if nothing does."""
        return ""
