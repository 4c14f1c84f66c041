import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from metarule.runs import stopping
from metarule.runs.stopping import Stopped, StopRequest, Terminated, terminable


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_recorded_and_answered_when_asked(number):
    with StopRequest() as stop:
        stop.answer(4)
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
        with pytest.raises(Stopped, match="after meta-step 5") as caught:
            stop.answer(5)
    assert (caught.value.step, caught.value.signal_number) == (5, number)


def test_a_signal_during_agreement_is_not_lost(monkeypatch):
    def agreed(number):
        signal.raise_signal(signal.SIGTERM)  # too late for this time
        return number

    with StopRequest() as stop:
        monkeypatch.setattr(stopping, "agree_on_max", agreed)
        assert not stop.requested
        monkeypatch.undo()
        assert stop.requested


def test_a_second_ctrl_c_raises():
    with StopRequest():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_signals_are_ignored():
    before = signal.getsignal(signal.SIGTERM)

    def work():
        with StopRequest() as stop, terminable():
            return stop.requested, signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == (False, before)


def test_the_first_sigterm_raises_and_the_second_one_ends_the_process():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(Terminated), terminable():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_handlers_of_other_programs_are_kept():
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with terminable():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]
