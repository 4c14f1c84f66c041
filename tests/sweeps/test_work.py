"""Work of a process of a sweep; whole sweeps are tested with the command."""

from msgspec.structs import replace
from small import EXPERIMENT

from metarule.sweeps import work
from metarule.sweeps.plan import Cell, Point


def test_programs_are_forgotten_before_there_are_too_many(monkeypatch):
    cleared = []
    monkeypatch.setattr(work.jax, "clear_caches", lambda: cleared.append(True))
    one = Cell("000-cell", EXPERIMENT, (), (Point(0, 0),), ((),))
    programs = set()
    for number in range(12):
        work._make_room(programs, one._replace(experiment=replace(EXPERIMENT, seeds=1 + number // 2)))
    assert len(cleared) == 1
    for _ in range(20):
        work._make_room(programs, one)
    assert len(cleared) == 1
