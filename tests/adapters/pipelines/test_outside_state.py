"""What a loop's code names is followed once, however much it names itself."""

from __future__ import annotations

import types
from typing import Any

import pytest

from paradigms.adapters.pipelines.state.outside_state import OutsideWalk, outside_state


def tangled(n: int) -> dict[str, Any]:
    """The globals of a program of n classes, each of whose methods names all of them."""
    module = types.ModuleType("tangled")
    names = ", ".join(f"C{k}" for k in range(n))
    source = "\n".join(
        f"class C{k}:\n    def m(self): return {names}\n    def o(self): return {names}" for k in range(n)
    )
    exec(compile(source + f"\ndef loop(): return {names}", "tangled", "exec"), vars(module))
    return vars(module)


def test_a_program_that_names_itself_is_followed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that, 30 classes of 2 methods are 60 x 60 x 60 paths of three calls; with numpy.ma it took minutes."""
    visits, plain = [], OutsideWalk.visit_code

    def visit_code(self: Any, code: Any, *rest: Any) -> None:
        visits.append(code)
        plain(self, code, *rest)

    monkeypatch.setattr(OutsideWalk, "visit_code", visit_code)
    names = tangled(30)
    found = outside_state(object, names["loop"].__code__, names)
    assert {f"class tangled.C{k}" for k in range(30)} <= found.keys()
    assert len(visits) <= 1 + 60 * 4  # each code once for every depth that it is found at


def test_classes_of_one_name_in_two_modules_are_both_kept() -> None:
    """The second was kept in the place of the first."""
    a, b = (type("Config", (), {"n": [k], "__module__": f"program{k}"}) for k in (0, 1))
    code = compile("(A, B)", "loop", "eval")
    found = outside_state(object, code, {"A": a, "B": b, "__name__": "program"})
    assert {"class program0.Config", "class program1.Config"} <= found.keys()
