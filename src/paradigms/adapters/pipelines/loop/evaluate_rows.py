"""Evaluates a round: all calls of the networks in the steps of a window, as one batch.

    m[r] = network(call[r])        r: every call of rows [begin, end) that no network has answered yet

Where the answer to one call of a step decides what the next is shown (a ControlNet's, then a U-Net's), the calls that
depend on others come in a batch of their own, after the rows have run up to them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from ..code.rewrite import UnparallelError
from ..networks.network_call import NetworkCall
from ..networks.surrogate import known_answer
from .hooks import LoopHooks
from .row_modes import ASK


def evaluate_rows(loop: LoopHooks, end: int) -> Generator[Any, None, int]:
    """Asks the networks what rows [begin, end) showed them; one batch, or one after each dependent call.

    Gives the end of what was answered: a row beyond the first whose answer is not finite is none of it.
    """
    rows = range(loop.begin, end)
    loop.run.rounds += any(not all(loop.visits[n].own) for n in rows)
    for stage, stop in enumerate([*sorted(loop.dependent), 1 << 30]):
        if stage:  # what earlier calls of the step have said by now decides what the others are shown
            loop.mode = ASK
            for loop.row in rows:
                loop.asked, loop.at = len(loop.visits[loop.row].calls), -1
                if loop.asked > sorted(loop.dependent)[stage - 1]:
                    yield loop.items[loop.row]
        todo = [(n, c) for n in rows for c, own in enumerate(loop.visits[n].own) if not own and c < stop]
        calls = [loop.visits[n].calls[c] for n, c in todo]
        if not all(call.intact() for call in calls):
            raise UnparallelError("a step changes, in place, what it has shown a network")
        said = loop.network.tested(calls, loop.width, loop.window) if calls else []
        end = check_answers(loop, end, todo, calls, said)
        rows, todo = range(loop.begin, end), [(n, c) if n < end else (n, -1) for n, c in todo]
        for c in {c for _, c in todo if c >= 0}:
            found = {n: known_answer(call, m) for (n, k), call, m in zip(todo, calls, said, strict=True) if k == c}
            loop.standins[c].heard(found)
            for n in found:
                loop.visits[n].own[c] = True
    return end


def check_answers(
    loop: LoopHooks, end: int, todo: list[tuple[int, int]], calls: list[NetworkCall], said: list[Any]
) -> int:
    """Checks new answers; gives the end of the rows before one that is not finite, of which nothing is kept."""
    for (n, _), call, answer in zip(todo, calls, said, strict=True):
        loop.finite.note(n, call.network, answer, loop.width)
    if bad := [n for n, *_ in loop.finite.bad()]:
        if bad[0] == loop.begin:
            loop.finite.check()
        for n in range(bad[0], end):
            loop.visits.pop(n, None)
    loop.finite.noted.clear()
    loop.network.check(calls, said, loop.width)
    for (n, c), call, answer in zip(todo, calls, said, strict=True):
        loop.note(n, c, call, answer)
    return min([end, *bad])
