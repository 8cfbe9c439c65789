"""What a call may lose to windows that turn out not to pay: an exploration budget, in seconds.

    balance  <-  min(balance + ALLOWED (seconds of stepping the chain) - seconds lost to stepping, limit)
    limit     =  CREDIT (seconds of stepping the chain)

So every call may be slower than stepping by ALLOWED of its time, which gains, and calls that did not need it, add to.
A round whose outcome is not known must be affordable; one that was measured is made on credit, down to `floor`.
"""

from __future__ import annotations

from .acceptance import AcceptanceModel
from .profile import ModelProfile

ALLOWED = 0.015  # of the seconds that stepping the chain takes: what the README promises a call may be slower by
CREDIT = 0.2  # of these seconds: what may be saved up, about what the first rounds of a window cost that then pays
FORGIVEN = 0.7  # what a call leaves of what windows lost before: a third of it after three calls


class ExplorationBudget:
    """The budget of one call; the balance is kept with what is known of the model.

    Args:
        known: whose balance it is.
        reach: the chain, whose windows are forgiven what they lost as calls go by.
        skipped: calls before this one that were not asked; what they would have been allowed is added.
    """

    def __init__(self, known: ModelProfile, acceptance: AcceptanceModel, skipped: int) -> None:
        self.known, self.acceptance, self.calls = known, acceptance, 1 + skipped
        self.opened = False  # whether this call's allowance was added
        self.limit = 0.0  # seconds, unknown before a step was timed
        self.loss = 0.0  # seconds that windows lost since they were entered
        self.floor = 0.0  # the balance below which windows are left

    @property
    def balance(self) -> float:
        """Seconds that may be lost."""
        return self.known.balance

    @property
    def full(self) -> bool:
        """Whether nothing more can be saved up, for nothing was tried for long."""
        return self.balance >= self.limit

    def open(self, step: float) -> None:
        """Sets the limit by the seconds of a step, and adds once what this call is allowed."""
        chain = step * self.acceptance.N
        self.limit = CREDIT * chain
        if not self.opened:
            self.opened = True
            self.acceptance.since += self.calls
            balance = self.known.balance + self.calls * ALLOWED * chain
            self.known.balance = max(min(balance, self.limit), -self.limit)
            self.acceptance.loss *= FORGIVEN**self.calls

    def spend(self, seconds: float) -> None:
        """Seconds more than stepping takes, or less."""
        self.known.balance = min(self.known.balance - seconds, self.limit)
        self.loss += seconds

    def exhausted(self, beyond: float) -> bool:
        """Whether windows lost all that they may, and so many times the limit beyond."""
        return self.balance < self.floor - beyond * self.limit
