"""Step caches of diffusers' own, which say that they are there: `enable_cache`, and the hooks of `apply_..cache`.

Those of other libraries are found by what they do, see `memory_check.py`.
"""

from __future__ import annotations

from typing import Any

from .subclass import networks_of


def step_cache(pipe: Any) -> str | None:
    """Why a pipeline runs step by step: a network's step cache of diffusers', else None."""
    for module in networks_of(pipe):
        own = {name for m in module.modules() for name in stateful(m)}
        if getattr(module, "is_cache_enabled", False) or own:
            name = next((k for k, v in pipe.components.items() if v is module), "NAME")
            what = f" ({', '.join(sorted(own))})" if own else ""
            return (
                f"{type(module).__name__} has a step cache{what}, whose answers depend on the order of calls; to run "
                f"in parallel type: pipe.{name}.disable_cache()"
            )
    return None


def stateful(module: Any) -> list[str]:
    """The hooks of diffusers on a module that keep a state from call to call."""
    hooks = getattr(vars(module).get("_diffusers_hook"), "hooks", {})
    return [type(hook).__name__ for hook in hooks.values() if getattr(hook, "_is_stateful", False)]
