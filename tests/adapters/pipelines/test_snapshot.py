"""What a step carries is put back as it was: locals, lists, objects, generators, tensors changed in place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paradigms.adapters.pipelines.state.module_fields import ModuleFields
from paradigms.adapters.pipelines.state.snapshot import ChangedError, take_snapshot


class Thing:
    """Any object with fields, as schedulers are."""

    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)


class Passing(Thing):
    passes_by = True


def test_lists_dicts_and_objects_stay_who_they_are_and_get_their_content_back() -> None:
    inner, thing = [1, 2], Thing(n=3, table={"a": [4]})
    table = thing.table
    kept = take_snapshot({"inner": inner, "pair": (thing, inner), "n": 5}, set())
    inner.append(3)
    thing.n, thing.table, thing.new = 7, {}, 1
    table["a"].clear()
    table["b"] = 2
    values = kept.restore()
    assert values["inner"] is inner and inner == [1, 2] and values["n"] == 5
    assert vars(thing) == {"n": 3, "table": {"a": [4]}} and thing.table is table


def test_it_can_be_put_back_any_number_of_times() -> None:
    thing, x = Thing(n=0), torch.zeros(2)
    kept = take_snapshot({"thing": thing, "x": x}, None)
    for k in range(3):
        thing.n = k + 1
        x.add_(k + 1)
        assert kept.restore()["x"] is x and thing.n == 0 and not x.any()


def test_generators_go_on_from_where_they_were() -> None:
    one, thing = torch.Generator().manual_seed(1), Thing(generators=[torch.Generator().manual_seed(2)])
    torch.manual_seed(3)
    kept = take_snapshot({"generator": one, "thing": thing}, set())

    def drawn() -> list[Tensor]:
        return [torch.rand(3, generator=one), torch.rand(3, generator=thing.generators[0]), torch.rand(3)]

    first = drawn()
    kept.restore()
    assert all(map(torch.equal, drawn(), first))


def test_a_tensor_changed_in_place_is_named_and_the_next_copy_puts_it_back() -> None:
    thing, names = Thing(total=torch.zeros(2), other=torch.ones(1)), set[str]()
    kept = take_snapshot({"self": thing}, names)
    thing.total += 1
    with pytest.raises(ChangedError) as error:
        kept.restore()
    assert error.value.args[0] == {"self.total"} == kept.changed()
    names |= error.value.args[0]
    kept = take_snapshot({"self": thing}, names)
    thing.total += 1
    assert kept.changed(all=True) == {"self.total"} and not kept.changed()
    kept.restore()
    assert torch.equal(thing.total, torch.ones(2))


def test_a_tensor_that_was_replaced_needs_no_copy() -> None:
    thing, x = Thing(total=torch.zeros(2)), torch.ones(2)
    old = thing.total
    kept = take_snapshot({"self": thing, "x": x}, set())
    thing.total = thing.total + 1
    assert kept.restore()["x"] is x and thing.total is old


def test_tensors_of_inference_mode_are_copied_for_their_changes_are_not_counted() -> None:
    with torch.inference_mode():
        x = torch.zeros(2)
        kept = take_snapshot({"x": x}, set())
        x += 1
        kept.restore()
        assert not x.any()


def test_networks_and_what_passes_by_are_left_alone() -> None:
    network, run = nn.Linear(1, 1), Passing(rounds=0)
    kept = take_snapshot({"network": network, "run": run, "__loop__": [1]}, set())
    network.flag, run.rounds = True, 4
    assert "__loop__" not in kept.restore() and network.flag and run.rounds == 4


def test_what_holds_itself_is_kept_once() -> None:
    thing = Thing(n=1)
    thing.self, thing.list = thing, [thing]
    kept = take_snapshot({"thing": thing}, set())
    thing.n = 2
    kept.restore()
    assert thing.n == 1 and thing.self is thing


def test_an_object_whose_fields_were_set_is_named() -> None:
    thing = Thing(n=1, many=[1])
    kept = take_snapshot({"things": [thing]}, set())
    assert kept.touched() == ""
    thing.n = 2
    assert kept.touched() == "Thing"
    kept.restore()
    thing.many.append(2)
    assert kept.touched() == "list"


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net[0], "scale", 2.0),
        lambda net: net[0].scales.__setitem__(0, 2.0),
        lambda net: net[0].weight.data.mul_(1) and net[0].weight.add_(1),
        lambda net: setattr(net[0], "weight", nn.Parameter(torch.ones(1, 1))),
        lambda net: net.append(nn.ReLU()),
        lambda net: net.__setitem__(1, nn.ReLU()),
        lambda net: net.eval(),
        lambda net: setattr(net[0], "table", torch.ones(3)),
    ],
    ids=["field", "list", "in place", "parameter", "module", "other module", "mode", "other tensor"],
)
def test_a_network_that_was_changed_is_told_from_one_that_was_not(change: Any) -> None:
    net = nn.Sequential(nn.Linear(1, 1), nn.Tanh())
    net[0].scale, net[0].scales, net[0].table = 1.0, [1.0, 1.0], torch.zeros(3)
    with torch.no_grad():
        fields = ModuleFields(net)
        net(torch.ones(1, 1))
        assert fields.same()
        change(net)
        assert not fields.same() and ModuleFields(net).same()


def test_a_network_that_stopped_half_way_gets_its_fields_back() -> None:
    net = nn.Linear(2, 2)
    net.scale, net.seen = {"adapter": 1.0}, []  # type: ignore[assignment]
    fields = ModuleFields(net)
    net.scale["adapter"], net.extra = 2.0, 1  # type: ignore[index, assignment]
    net.seen.append(3)  # type: ignore[operator, union-attr]
    fields.restore()
    assert net.scale == {"adapter": 1.0} and net.seen == [] and not hasattr(net, "extra") and fields.same()
