"""Finds out which ranks failed: when a round does not end, the others sign at the job's store.

    signed  = {rank: where it is, and what went wrong there}      a key a rank and call, none where all goes well
    missing = ranks without a key after `patience` seconds        killed, or hanging

Nothing is on the wire before something has gone wrong; a rank that waits in a round looks every second.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

from torch.distributed import distributed_c10d as c10d

SECOND = 1.0


class RankError(RuntimeError):
    """A rank of the job failed, was killed, hangs, or runs another program than the others.

    Attributes:
        ranks: The ranks that are to blame.
    """

    def __init__(self, message: str, ranks: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.ranks = ranks


class RollCall:
    """The ranks of a group, by their numbers in the job, and where they sign."""

    def __init__(self, name: str, rank: int, ranks: tuple[int, ...]) -> None:
        self.rank, self.ranks = rank, ranks
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun may keep its store from one to the next
        self.store: Any = c10d.PrefixStore(f"paradigms/{attempt}/{name}", c10d._get_default_store())

    def called(self, call: int) -> bool:
        """Whether a rank has called the roll in a call."""
        try:
            return bool(self.store.check([f"{call}"]))
        except RuntimeError:  # the store is gone, which only happens in a job that ends
            return True

    def sign(self, call: int, where: str, error: str = "") -> None:
        """This rank was there, of a call of which all should be; with an error, it will not be."""
        self.store.set(f"{call}/{self.rank}", json.dumps([where, error]))
        self.store.set(f"{call}", "called")

    def call(self, call: int, where: str, why: str, patience: float) -> RankError:
        """The error that names who is missing, failed, or is elsewhere, once all had `patience` seconds to sign."""
        try:
            self.sign(call, where)
            signed = self.wait(self.ranks, f"{call}/", patience)
            self.store.set(f"{call}/read/{self.rank}", "")
            if self.rank == min(signed):  # the store may be this rank's own
                self.wait(tuple(signed), f"{call}/read/", min(patience, 2 * SECOND))
        except RuntimeError:
            host = self.ranks[0]
            return RankError(f"the job's store is gone, so rank {host} was killed or has left, in {where}", (host,))
        return error_of_ranks(self.ranks, {r: json.loads(v) for r, v in signed.items()}, where, why, patience)

    def wait(self, ranks: tuple[int, ...], what: str, patience: float) -> dict[int, bytes]:
        """What ranks have written under their keys, as soon as all have or patience ends."""
        until = time.monotonic() + patience
        while True:
            there = [r for r in ranks if self.store.check([f"{what}{r}"])]
            if len(there) == len(ranks) or time.monotonic() > until:
                return {r: self.store.get(f"{what}{r}") for r in there}
            time.sleep(SECOND / 20)


def error_of_ranks(
    ranks: tuple[int, ...], signed: Mapping[int, tuple[str, str]], where: str, why: str, patience: float
) -> RankError:
    """The error of a roll: failed ranks before missing ones, those before ranks that went another way."""
    if failed := {r: error for r, (_, error) in signed.items() if error}:
        return RankError("; ".join(f"rank {r}: {error}" for r, error in failed.items()), tuple(failed))
    places = "; ".join(sorted({f"rank {r} was at {place}" for r, (place, _) in signed.items() if place != where}))
    if missing := tuple(r for r in ranks if r not in signed):
        names = " and ".join(f"rank {r}" for r in missing)
        text = f"{names} of {len(ranks)} did not answer within {patience:.0f} s in {where}: killed, or hanging"
        return RankError(f"{text}; {places}" if places else text, missing)
    if places:
        return RankError(f"ranks went different ways: rank {min(signed)} was at {signed[min(signed)][0]}; {places}")
    return RankError(f"the ranks lost their connection in {where}: {why}")
