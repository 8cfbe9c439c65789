"""A pipeline's own code, with its denoising loop made rewindable:

    for i, t in timesteps:            for i, t in (__loop__ := __paradigms__(self, timesteps, scheduler, "latents")):
        BODY                    ->        try:
                                              __was__ = __loop__.enter(LOCALS)     # the beginning of a row
                                              if "latents" in __was__: latents = __was__["latents"]
                                              __loop__.go()
                                              BODY, with callback(..) as __loop__.callback(callback, ..)
                                          except __loop__.Halt: pass
                                          except BaseException: __loop__.failed = True; raise
                                          finally: __loop__.leave(LOCALS)

LOCALS is `locals()` where the loop looks at them, for they are kept until it looks again; a row that is stepped through
as it is keeps nothing.
Nothing else of the pipeline is read or modelled: guidance, schedulers, masks and noise stay its own code. The loop is
the innermost whose iterator speaks of steps and whose body calls a scheduler's `step`, a modular `loop_step`, or a
function of its own or a method of its class that does. Wrappers stay around it, see `wrappers.py`.
"""

from __future__ import annotations
import __future__ as future

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from .wrappers import innermost_function, replace_innermost

CALLBACKS = ("callback_on_step_end", "callback_on_step_begin", "callback")
LOCALS = "locals() if __loop__.looks else {}"
HELPED = "getattr(self, 'scheduler', None)"  # who steps in a helper
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
FUTURE = functools.reduce(int.__or__, (getattr(future, name).compiler_flag for name in future.all_feature_names))


class UnparallelError(Exception):
    """Why a pipeline runs one step at a time; the message names it."""


@functools.lru_cache(maxsize=4096)
def has_loop(function: Callable[..., Any], helpers: frozenset[str] = frozenset()) -> bool:
    """Whether a function holds a denoising loop, as its source tells; helpers: as `rewindable_function`'s."""
    try:
        return _speaks(innermost_function(function), helpers) and bool(
            _loops(_tree(innermost_function(function)), helpers)
        )
    except (OSError, TypeError, SyntaxError):
        return False


@functools.lru_cache(maxsize=4096)
def takes_steps(function: Callable[..., Any], helpers: frozenset[str] = frozenset()) -> bool:
    """Whether a function takes a step outside of any loop of its own: a helper of a loop elsewhere."""
    try:
        nodes = _own(_tree(innermost_function(function)).body if _speaks(innermost_function(function), helpers) else [])
    except (OSError, TypeError, SyntaxError):
        return False
    return any(not loops and _step(node, helpers) for node, loops in nodes)


@functools.lru_cache(maxsize=1024)
def rewindable_function(
    function: Callable[..., Any], make: Callable[..., Any], helpers: frozenset[str] = frozenset()
) -> Callable[..., Any]:
    """The function with its loops over `make(self, items, scheduler, state)`, an iterator with the hooks above.

    state: the name of what the scheduler steps, or of a field of a local; None where it has no name. helpers: methods
    of the class that take a step. Raises UnparallelError where a loop can be left by break or return, the code needs
    names of an outer function, or a wrapper around it cannot be followed.
    """
    plain = innermost_function(function)
    free = dict(zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=False))
    if needed := [name for name in free if name != "__class__"]:
        raise UnparallelError(f"{plain.__qualname__} needs {', '.join(needed)} of the function that it was made in")
    tree = _tree(plain)
    ast.increment_lineno(tree, plain.__code__.co_firstlineno - 1)
    for loop in _loops(tree, helpers):
        _rewind(loop, plain.__qualname__, helpers | _local(tree, helpers))
    tree.decorator_list, tree.lineno = [], plain.__code__.co_firstlineno  # decorators are among the wrappers
    try:
        return replace_innermost(function, plain, _made(tree, plain, make, free))
    except LookupError as error:
        raise UnparallelError(f"{plain.__qualname__} is wrapped by {error.args[0]}, which cannot be followed") from None
    except NameError as error:  # a default of the class's body
        raise UnparallelError(f"{plain.__qualname__} cannot be made again: {error}") from error


def _speaks(plain: Any, helpers: frozenset[str]) -> bool:
    """Whether a function's code has a name of what steps at all, which is quicker to see than its source."""

    def names(code: Any) -> set[str]:
        inside = [v for v in code.co_consts if inspect.iscode(v)]
        return {*code.co_names, *code.co_varnames}.union(*map(names, inside))

    known = names(plain.__code__) if inspect.isfunction(plain) else set()
    return any(name.startswith("step") or name == "loop_step" or name in helpers for name in known)


def _made(tree: ast.FunctionDef, plain: Any, make: Callable[..., Any], free: dict[str, Any]) -> Any:
    """The function of a rewritten tree, with the names that `plain` knows."""
    outer = ast.parse("def outer(__paradigms__, __class__):\n    pass").body[0]
    assert isinstance(outer, ast.FunctionDef)
    outer.body = [tree, ast.Return(ast.Name(tree.name, ast.Load()))]
    code = ast.fix_missing_locations(ast.Module([outer], []))
    flags = plain.__code__.co_flags & FUTURE
    names: dict[str, Any] = {}
    exec(compile(code, plain.__code__.co_filename, "exec", flags, dont_inherit=True), plain.__globals__, names)
    return names["outer"](make, free["__class__"].cell_contents if "__class__" in free else None)


def _tree(plain: Any) -> ast.FunctionDef:
    tree = ast.parse(textwrap.dedent(inspect.getsource(plain))).body[0]
    if not isinstance(tree, ast.FunctionDef):
        raise TypeError(f"{plain!r} is no plain function")
    return tree


def _own(nodes: list[Any], loops: tuple[ast.For, ...] = ()) -> Iterator[tuple[ast.AST, tuple[ast.For, ...]]]:
    """The nodes of one scope below `nodes`, each with the for-loops around it."""
    for node in nodes:
        yield node, loops
        if not isinstance(node, SCOPES):
            yield from _own(list(ast.iter_child_nodes(node)), (*loops, node) if isinstance(node, ast.For) else loops)


def _step(node: ast.AST, helpers: frozenset[str]) -> str | None:
    """Who steps, where a node calls scheduler.step(..), a modular pipeline's loop_step(..) or a helper."""
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Name):
        return HELPED if node.func.id in helpers else None
    if not isinstance(node.func, ast.Attribute):
        return None
    owner = ast.unparse(node.func.value)
    if node.func.attr in helpers and owner in ("self", "super()"):
        return HELPED
    stepping = node.func.attr.startswith("step") and "scheduler" in owner
    return owner if stepping or node.func.attr == "loop_step" else None


def _local(tree: ast.FunctionDef, helpers: frozenset[str]) -> frozenset[str]:
    """The functions inside a function that take a step."""
    inside = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n is not tree]
    return frozenset(f.name for f in inside if any(_step(node, helpers) for node in ast.walk(f)))


def _loops(tree: ast.FunctionDef, helpers: frozenset[str]) -> list[ast.For]:
    found: dict[int, ast.For] = {}
    helpers = helpers | _local(tree, helpers)
    for node, loops in _own(tree.body):
        if loops and _step(node, helpers):
            over = [(loop, ast.unparse(loop.iter)) for loop in loops]
            timed = [loop for loop, text in over if "timestep" in text] or [
                loop for loop, text in over if "step" in text
            ]
            loop = (timed or loops)[-1]
            found[id(loop)] = loop
    return list(found.values())


def _rewind(loop: ast.For, where: str, helpers: frozenset[str]) -> None:
    """Rewrites one loop in place."""
    inside = list(_own(list(loop.body)))
    for node, loops in inside:
        if isinstance(node, ast.Return) or (isinstance(node, ast.Break) and not loops):
            raise UnparallelError(f"the loop of {where} can be left early, by {type(node).__name__.lower()}")
        if isinstance(node, ast.Yield | ast.YieldFrom | ast.Await):  # whoever takes it would see rows that are guesses
            raise UnparallelError(f"the loop of {where} hands over a value within a step, by yield or await")
        if isinstance(node, ast.ExceptHandler) and (node.type is None or "BaseException" in ast.unparse(node.type)):
            raise UnparallelError(f"the loop of {where} catches every exception, that which leaves a row too")
    target = {n.id for n in ast.walk(loop.target) if isinstance(n, ast.Name)}  # set by the for itself
    stored = {n.id for n, _ in inside if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    stored |= {n for node in ast.walk(loop) if isinstance(node, ast.Nonlocal) for n in node.names}
    scheduler, state = _stepped([node for node, _ in inside], helpers)
    lines = [f"__was__ = __loop__.enter({LOCALS})"]
    lines += [f"if {name!r} in __was__: {name} = __was__[{name!r}]" for name in sorted(stored - target)]
    text = "try:\n" + "".join(f"    {line}\n" for line in [*lines, "__loop__.go()"])
    text += "except __loop__.Halt:\n    pass\nexcept BaseException:\n    __loop__.failed = True\n    raise\n"
    text += f"finally:\n    __loop__.leave({LOCALS})"
    frame = ast.parse(text).body[0]
    made = ast.parse(f"(__loop__ := __paradigms__(self, None, {scheduler}, {state!r}))").body[0]
    assert isinstance(frame, ast.Try) and isinstance(made, ast.Expr) and isinstance(made.value, ast.NamedExpr)
    for node in (*ast.walk(frame), *ast.walk(made)):
        ast.copy_location(node, loop)
    assert isinstance(made.value.value, ast.Call)
    made.value.value.args[1] = loop.iter
    frame.body += [_Callbacks().visit(statement) for statement in loop.body]
    loop.iter, loop.body = made.value, [frame]


def _stepped(nodes: list[ast.AST], helpers: frozenset[str]) -> tuple[str, str | None]:
    """Who steps, "None" where it is no component, and the name of what is stepped."""
    scheduler, state = "None", None
    for node in nodes:
        if isinstance(node, ast.Call) and (owner := _step(node, helpers)):
            scheduler = owner if owner.startswith(("self.", "getattr(")) else scheduler
            if isinstance(node.func, ast.Attribute) and node.func.attr == "loop_step":
                return "getattr(components, 'scheduler', None)", "block_state.latents"
        if isinstance(node, ast.Assign) and any(_step(call, helpers) for call in ast.walk(node.value)):
            first = node.targets[0].elts[0] if isinstance(node.targets[0], ast.Tuple) else node.targets[0]
            state = first.id if isinstance(first, ast.Name) else state
    return scheduler, state


class _Callbacks(ast.NodeTransformer):
    """Calls of the user's callbacks, by way of the loop, which knows whether a row is accepted."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in CALLBACKS:
            loop = ast.copy_location(ast.Name("__loop__", ast.Load()), node)
            way = ast.copy_location(ast.Attribute(loop, "callback", ast.Load()), node)
            return ast.copy_location(ast.Call(way, [node.func, *node.args], node.keywords), node)
        return node
