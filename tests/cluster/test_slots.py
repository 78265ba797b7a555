"""Which slots groups get, and how full that keeps the hosts."""

from __future__ import annotations

import random

import pytest
from packing import exclusive_first, outcomes, widest_last

from bench.cluster.slots import Allocation, SlotPool, SlotRequest


def test_a_group_that_fits_on_one_host_is_never_split() -> None:
    pool = SlotPool({"a": 4, "b": 4})
    assert pool.allocate(SlotRequest(3)) == Allocation((("a", (0, 1, 2)),))
    assert pool.allocate(SlotRequest(3)) == Allocation((("b", (0, 1, 2)),))
    assert pool.allocate(SlotRequest(2)) is None, "one slot is open on each host"
    assert SlotPool({"big": 4, "small": 2, "little": 2}).allocate(SlotRequest(4)) == Allocation(
        (("big", (0, 1, 2, 3)),)
    )


def test_it_gets_the_host_with_the_fewest_slots_that_are_enough() -> None:
    pool = SlotPool({"a": 8, "b": 8, "c": 4})
    assert pool.allocate(SlotRequest(3)) == Allocation((("c", (0, 1, 2)),))
    assert pool.allocate(SlotRequest(2)) == Allocation((("a", (0, 1)),)), "of equal ones the first of the hostfile"
    assert pool.allocate(SlotRequest(6)) == Allocation((("a", (2, 3, 4, 5, 6, 7)),))
    assert pool.allocate(SlotRequest(1)) == Allocation((("c", (3,)),))


def test_a_wider_group_gets_as_few_hosts_as_an_empty_pool_would_need() -> None:
    pool = SlotPool({"a": 8, "b": 8, "c": 8})
    part = pool.allocate(SlotRequest(4))
    assert part == Allocation((("a", (0, 1, 2, 3)),))
    wide = pool.allocate(SlotRequest(12))
    assert wide == Allocation((("b", tuple(range(8))), ("a", (4, 5, 6, 7)))), (
        "the wholly free one, and the rest where it fits"
    )
    assert wide.ranked[7:9] == [("b", 7), ("a", 4)] and wide.ranks == 12 and wide.hosts == ("b", "a")
    pool.free(wide)
    other = pool.allocate(SlotRequest(5))
    assert other == Allocation((("b", (0, 1, 2, 3, 4)),))
    assert pool.allocate(SlotRequest(14)) is None, "15 slots are open, but on three hosts, and two would do"
    pool.free(part)
    assert pool.allocate(SlotRequest(14)) == Allocation((("a", tuple(range(8))), ("c", (0, 1, 2, 3, 4, 5))))


def test_an_exclusive_group_has_its_hosts_alone() -> None:
    pool = SlotPool({"a": 4, "b": 4, "c": 2})
    alone = pool.allocate(SlotRequest(1, exclusive=True))
    assert alone == Allocation((("c", (0,)),), exclusive=True) and pool.busy == 2
    shared = pool.allocate(SlotRequest(1))
    assert shared == Allocation((("a", (0,)),)), "nobody else is on its host"
    assert pool.allocate(SlotRequest(5, exclusive=True)) is None, "only hosts that are wholly free"
    assert (
        pool.allocate(SlotRequest(3, exclusive=True)) == Allocation((("b", (0, 1, 2)),), exclusive=True)
        and pool.busy == 7
    )
    pool.free(alone)
    assert pool.busy == 5, "it gives back what was kept free around it"
    pool.free(shared)
    assert pool.allocate(SlotRequest(5, exclusive=True)) == Allocation(
        (("a", (0, 1, 2, 3)), ("c", (0,))), exclusive=True
    )


def test_a_lost_host_gets_nothing_also_when_it_was_in_use() -> None:
    pool = SlotPool({"a": 2, "b": 2})
    wide = pool.allocate(SlotRequest(4))
    assert wide is not None and pool.possible(SlotRequest(4))
    pool.lose("a")
    pool.lose("a")
    assert (pool.total, pool.busy) == (2, 2) and not pool.possible(SlotRequest(3))
    pool.free(wide)
    assert (pool.total, pool.busy) == (2, 0)
    assert pool.allocate(SlotRequest(3)) is None and pool.allocate(SlotRequest(2)) == Allocation((("b", (0, 1)),))
    pool.lose("b")
    assert (pool.total, pool.busy) == (0, 0) and pool.allocate(SlotRequest(1)) is None


def test_slots_are_not_given_back_twice() -> None:
    pool = SlotPool({"a": 2})
    place = pool.allocate(SlotRequest(1))
    assert place is not None
    pool.free(place)
    with pytest.raises(AssertionError, match="free already"):
        pool.free(place)


def test_wider_ones_come_first_and_those_that_keep_hosts_free_count_as_whole_hosts() -> None:
    pool = SlotPool({"a": 8, "b": 8})
    lanes = [
        SlotRequest(1),
        SlotRequest(1, True),
        SlotRequest(16),
        SlotRequest(8),
        SlotRequest(9),
        SlotRequest(9, True),
        SlotRequest(2),
    ]
    wide, narrow = (
        [SlotRequest(9, True), SlotRequest(16), SlotRequest(9)],
        [SlotRequest(1, True), SlotRequest(8), SlotRequest(2), SlotRequest(1)],
    )
    assert pool.order(lanes) == [*wide, *narrow]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_and_goes_no_slot_is_given_twice_and_all_come_back(seed: int) -> None:
    chance = random.Random(seed)
    hosts = {f"h{number}": chance.choice([1, 2, 4, 8]) for number in range(chance.randint(1, 6))}
    pool, places, left = SlotPool(hosts), list[Allocation](), dict(hosts)
    for _ in range(400):
        doing = chance.random()
        if doing < 0.5:
            lane = SlotRequest(chance.choice([1, 2, 3, 4, 8, 12, 16]), chance.random() < 0.2)
            alone = {host for place in places if place.exclusive for host in place.hosts}
            used = {host for place in places for host in place.hosts}
            taken = {slot for place in places for slot in place.ranked}
            place = pool.allocate(lane)
            if place is None:
                assert not pool.possible(lane) or places, "there is a place when all are free"
                continue
            places.append(place)
            assert (
                place.ranks == lane.ranks and place.exclusive == lane.exclusive and len(set(place.ranked)) == lane.ranks
            )
            assert not taken & set(place.ranked) and not alone & set(place.hosts)
            assert not place.exclusive or not used & set(place.hosts)
            assert all(slot < left[host] for host, slot in place.ranked)
            assert len(place.hosts) == 1 or max(left.values()) < lane.ranks, "split, though a host would do"
        elif doing < 0.98 and places:
            pool.free(places.pop(chance.randrange(len(places))))
        elif len(left) > 1 and chance.random() < 0.3:
            host = chance.choice(list(left))
            del left[host]
            pool.lose(host)
        held = {
            host: count for place in places if place.exclusive for host, count in left.items() if host in place.hosts
        }
        others = [host for place in places if not place.exclusive for host, _ in place.ranked if host in left]
        assert pool.busy == sum(held.values()) + len(others) and pool.total == sum(left.values())
    for place in places:
        pool.free(place)
    assert pool.busy == 0


@pytest.mark.parametrize("lost", [False, True])
def test_a_mixed_matrix_keeps_the_slots_busy_until_the_tail(lost: bool) -> None:
    """1,000 cells of 1 to 32 ranks on 8 x 8 slots; see packing.py."""
    found = outcomes(lost=lost)
    assert min(one.busy for one in found) >= 0.95, found
    # what is not busy with cells is kept free around exclusive ones, an eighth of the work here, or starts
    assert min(one.working for one in found) >= 0.85, found


def test_the_order_is_worth_something() -> None:
    chosen = min(one.busy for one in outcomes(lost=True))
    for other in (exclusive_first, widest_last):
        assert max(one.busy for one in outcomes(other, lost=True)) < chosen - 0.05
