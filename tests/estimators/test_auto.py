import jax
import pytest

from metarule import (
    Auto,
    Boolean,
    Feedforward,
    Forward,
    InnerLoop,
    Lifetime,
    Plain,
    Polynomial,
    Remat,
    Reverse,
    Segmented,
)


def lifetime(steps, terms=("seven",)):
    rule, circuit = Polynomial(terms=terms), Feedforward(hidden=(8,))
    return Lifetime(rule=rule, circuit=circuit, tasks=Boolean(inputs=3), inner_loop=InnerLoop(steps=steps))


# A state of this network is (4·8 + 9) weights of 4 bytes: 164 bytes. 100 lifetimes of 10,000 steps have
# 164 MB of states; 2·√10,000 of them are 3.3 MB, 3·∛10,000 are 1.1 MB, and 2·(1 + 1) of them 65.6 kB.
@pytest.mark.parametrize(
    "megabytes, terms, method, reason",
    [
        (165, ("seven",), Reverse(scan=Remat()), "reverse mode, remat scan: about 0.153 GiB of 0.154 GiB"),
        (163, ("seven",), Reverse(scan=Segmented()), "reverse mode, segmented scan: about 3.13 MiB of 0.152 GiB"),
        (3.2, ("seven",), Reverse(scan=Segmented(levels=2)), "reverse mode, segmented (2 levels) scan: about 1.01 MiB"),
        (1, ("seven",), Forward(), "forward mode: about 0.25 MiB of 0.954 MiB"),
        (0.05, ("pre*modulator",), Forward(), "forward mode: about 0.0626 MiB and no method fits into 0.0477 MiB"),
    ],
)
def test_the_first_method_that_fits_is_chosen_and_named(megabytes, terms, method, reason):
    auto = Auto(memory_gib=megabytes * 1e6 / 2**30)
    chosen, given_reason = auto.choose(lifetime(10_000, terms), lifetimes=100)
    assert chosen == method
    assert given_reason.startswith(reason)
    parameters = 7 if terms == ("seven",) else 1
    assert given_reason.endswith(f"for 100 lifetimes of 10000 steps and {parameters} parameters")


def test_an_accelerator_is_offered_a_plain_scan_first(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert Auto(memory_gib=1.0).choose(lifetime(100))[0] == Reverse(scan=Plain())
    assert Auto(memory_gib=2e-5).choose(lifetime(100))[0] == Reverse(scan=Remat())


@pytest.mark.parametrize("stats, shown", [(None, "4 GiB"), ({}, "4 GiB"), ({"bytes_limit": 16 * 2**30}, "8 GiB")])
def test_memory_is_half_of_that_of_the_device(stats, shown, monkeypatch):
    class Device:
        def memory_stats(self):
            return stats

    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    assert f"of {shown} for" in Auto().choose(lifetime(100))[1]
