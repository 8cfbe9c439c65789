"""The modes in which a step of a rewound loop runs, a class each: what is kept, who answers, who calls callbacks.

| mode   | a row                                                                                           |
| step   | runs as it is, and nothing of it is kept                                                        |
| sweep  | is answered by stand-ins, and all that it carries to the next row is kept                       |
| ask    | is a sweep's, up to the call that needs the answers of others in its step                       |
| again  | runs once more on the same answers, to see whether it does the same                             |
| accept | runs once more on the same answers, and the user's callbacks with it                            |

A mode has no state of its own: what is known of a loop is in `LoopState`, which is passed to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..code.rewrite import CALLBACKS, UnparallelError
from ..networks.network_call import NetworkCall
from ..networks.surrogate import Surrogate, known_answer
from ..state.module_fields import ModuleFields
from ..state.snapshot import take_snapshot
from .step_record import StepRecord

if TYPE_CHECKING:
    from .hooks import LoopHooks

AGAIN = (
    "step {} made something else of the same answers when it ran again: it keeps what cannot be put back, or draws at "
    "random; this call's images may differ from a plain call's, later ones are stepped from their beginning"
)


class UnrepeatableError(UnparallelError):
    """A row made something else when it ran again, so what it had changed could not be put back."""


class RowMode(ABC):
    """How a row runs; looks: whether its locals are looked at."""

    looks = True

    @abstractmethod
    def enter(self, loop: LoopHooks, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The beginning of a row; gives the locals to be set, where the loop went back."""

    @abstractmethod
    def leave(self, loop: LoopHooks, values: Mapping[str, Any]) -> None:
        """The end of a row, or of what ran of it."""

    @abstractmethod
    def callback(self, loop: LoopHooks, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """What a user's callback gives, where it is called; else nothing, as one that changes nothing."""


class StepMode(RowMode):
    """A row runs as it is: its networks answer, nothing of it is kept."""

    looks = False

    def enter(self, loop: LoopHooks, values: Mapping[str, Any]) -> Mapping[str, Any]:
        loop.stepping = True
        return loop.before[loop.row].restore() if loop.row in loop.before and loop.at != loop.row else {}

    def leave(self, loop: LoopHooks, values: Mapping[str, Any]) -> None:
        loop.stepping, loop.at = False, loop.row + 1

    def callback(self, loop: LoopHooks, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        loop.called, loop.stepping = True, False
        try:
            return function(*args, **kwargs)
        finally:
            loop.stepping = True


class WindowMode(RowMode):
    """A row of a window: it begins with what was kept, the loop answers its networks, what it leaves is kept."""

    def enter(self, loop: LoopHooks, values: Mapping[str, Any]) -> Mapping[str, Any]:
        loop.inside, loop.halted, loop.visits[loop.row] = True, False, StepRecord()
        loop.run.visits += 1
        if loop.row not in loop.before:
            loop.callbacks = any(values.get(name) is not None for name in CALLBACKS)
            # nothing is known yet of what the rows change in place, so all tensors are copied
            loop.before[loop.row] = take_snapshot(loop.whole(values), None, networks=loop.networks)
            loop.measure(values)
        elif loop.at != loop.row:
            return loop.before[loop.row].restore()
        return {}

    def leave(self, loop: LoopHooks, values: Mapping[str, Any]) -> None:
        loop.inside, loop.at = False, -1
        if loop.halted:
            return
        if loop.row == 0 and not loop.visits[0].calls:
            raise UnparallelError(
                "its first step calls no network among the pipeline's components; net.forward(...) is no such call: "
                "type net(...)"
            )
        loop.settings.copied |= loop.before[loop.row].changed(all=True)
        self.refuse_silent_changes(loop)
        # where callbacks are called all tensors are copied, for a call that begins anew would call them again
        copied = None if loop.callbacks or loop.own else loop.settings.copied
        last = loop.before[loop.row] if loop.own else None
        loop.before[loop.row + 1] = take_snapshot(loop.whole(values), copied, last=last, networks=loop.networks)
        loop.visits[loop.row].after, loop.visits[loop.row].ended = loop.stepped(values), True
        loop.at = loop.row + 1

    def refuse_silent_changes(self, loop: LoopHooks) -> None:
        """Raises UnparallelError where a row changed a tensor in a way that torch does not count."""
        if place := loop.before[loop.row].silent():
            loop.before[loop.row].restore()
            raise UnparallelError(f"its loop changes {place} in place past torch's count, as .data and numpy do")

    def callback(self, loop: LoopHooks, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return {}

    @abstractmethod
    def answer(self, loop: LoopHooks, call: NetworkCall) -> tuple[Any, bool]:
        """What the row is told in place of a network's answer, and whether it is the network's own."""

    def answered(self, loop: LoopHooks) -> None:
        """One more call of the row has its answer."""


class SweepMode(WindowMode):
    """A row answered by stand-ins, or by a network of which nothing is known yet."""

    def answer(self, loop: LoopHooks, call: NetworkCall) -> tuple[Any, bool]:
        place = len(loop.visits[loop.row].calls)
        standin = loop.standins.setdefault(place, Surrogate(loop.settings.method, loop.course))
        try:
            return standin.answer(loop.row, call)
        except LookupError:
            if loop.row != loop.begin:
                loop.halt()
            standin.heard({loop.row: known_answer(call, loop.first(call))})
            return standin.answer(loop.row, call)


class AskMode(SweepMode):
    """A sweep's row, up to the call that needs the answers of others in its step."""

    def answered(self, loop: LoopHooks) -> None:
        if len(loop.visits[loop.row].calls) == loop.asked:
            loop.halt()


class AgainMode(WindowMode):
    """A row once more on the same answers; it is left where it asks for something else, which the first may not."""

    def answer(self, loop: LoopHooks, call: NetworkCall) -> tuple[Any, bool]:
        judged, place = loop.judged[loop.row], len(loop.visits[loop.row].calls)
        if loop.renewed or place >= len(judged.calls) or not judged.calls[place].equals(call):
            if loop.row == loop.begin and not loop.heard:
                raise UnrepeatableError(AGAIN.format(loop.row))
            loop.halt()
        return judged.answers[place], judged.own[place]


class AcceptMode(AgainMode):
    """A row once more on the same answers, now that it is accepted, and the user's callbacks with it."""

    def refuse_silent_changes(self, loop: LoopHooks) -> None:
        """A callback may change what it likes."""

    def callback(self, loop: LoopHooks, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Calls it; the answers of networks that it changes are forgotten."""
        asked = {id(c.network): c.network for visit in loop.judged.values() for c in visit.calls}
        known = loop.fields
        loop.fields = {k: f if (f := known.get(k)) and f.same() else ModuleFields(m) for k, m in asked.items()}
        loop.called = loop.heard = True
        loop.inside = False  # what a callback asks or sets is no part of the step
        try:
            return function(*args, **kwargs)
        finally:
            loop.inside = True
            if not all(f.same() for f in loop.fields.values()):
                loop.standins.clear()
                loop.network.probe.renew([*asked.values()])
                loop.renewed = True


STEP, SWEEP, ASK, ONCE_MORE, ACCEPT = StepMode(), SweepMode(), AskMode(), AgainMode(), AcceptMode()
