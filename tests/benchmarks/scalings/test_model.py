"""The model adds up what it is told, and finds prices again."""

import pytest

from benchmarks.scalings.model import Prices, fitted, seconds, telling

SAID = {"kernels": 10, "flops": 1000.0, "traffic": 400.0, "steps": 50, "lives": 12, "chunk_size": 4, "bytes": 96}
PRICES = Prices(1e-6, 1e-9, 5e-9, tell_start=1e-4, tell=1e-6)


def test_a_meta_step_is_the_sum_of_its_parts():
    alone = 50 * (1e-6 * 10 * 3 + 1e-9 * 1000 * 12 + 5e-9 * 400 * 12)
    assert seconds(PRICES, SAID, 1) == pytest.approx(alone)
    share = 50 * (1e-6 * 10 * 1 + 1e-9 * 1000 * 3 + 5e-9 * 400 * 3)
    assert seconds(PRICES, SAID, 4) == pytest.approx(share + 1e-4 + 96e-6)
    assert seconds(PRICES._replace(chunk_size=100), SAID, 1) == pytest.approx(alone - 50 * 1e-6 * 10 * 2)
    assert seconds(PRICES, SAID, 4, lifetimes=24) > seconds(PRICES, SAID, 4) + 96e-6  # the message is longer, too


def test_prices_are_found_again():
    cases = [
        SAID | {"kernels": k, "flops": f, "traffic": t} for k, f, t in [(5, 9e3, 10.0), (80, 1e2, 1e3), (9, 1e3, 9e3)]
    ]
    found = fitted([(said, seconds(PRICES, said, 1)) for said in cases])
    assert found[:3] == pytest.approx(PRICES[:3])


def test_messages_are_a_line():
    said = {"gathered": [100, 1100], "gather_seconds": [3e-5, 5e-5]}
    found = telling(Prices(1.0, 1.0, 1.0), said)
    assert (found.tell, found.tell_start) == pytest.approx((2e-8, 2.8e-5))
