"""What a θ-gradient costs is a ratio of two measured times."""

from msgspec.structs import replace
from small import EXPERIMENT

from benchmarks import costs
from metarule import Evolution, Truncated


def test_the_fastest_of_each_form_counts(monkeypatch):
    monkeypatch.setattr(costs, "_LIVES", 4)
    monkeypatch.setattr(costs, "_SHARED", 2)

    def timed(form, given):
        form(given)
        return next(seconds)

    monkeypatch.setattr(costs, "_timed", timed)
    for estimator, cost in ((Truncated(window=5), 6.0), (Evolution(pairs=2), 1.5)):
        seconds = iter([1.0, 9.0, 2.0, 6.0, 3.0, 7.0, 4.0, 8.0, 5.0, 9.0])
        optimizer = replace(EXPERIMENT.optimizer, estimator=estimator)
        assert costs.relative_cost(replace(EXPERIMENT, optimizer=optimizer)) == cost
