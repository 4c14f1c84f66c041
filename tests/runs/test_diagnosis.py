import numpy as np
import pytest

from metarule.runs.diagnosis import HOPELESS, RECENT, is_hopeless, trouble


def rows(count=RECENT, nonfinite=0, zero=0, rejected=False, loss=0.5, **others):
    lifetimes = {"lifetimes": 10, "nonfinite_lifetimes": nonfinite, "zero_gradient_lifetimes": zero}
    return [lifetimes | {"rejected": rejected, "loss": loss} | others for _ in range(count)]


def test_a_healthy_run_has_no_message():
    assert trouble(rows(10), rows(nonfinite=1, zero=4, loss=0.7), "THIS") == ""


@pytest.mark.parametrize(
    ("recent", "message"),
    [
        (rows(nonfinite=6), "60% of lifetimes diverged in the last 20 meta-steps: try THIS or a smaller initial rule"),
        (rows(zero=9), "90% of gradients were exactly zero in the last 20 meta-steps, as where every weight sits"),
        (rows(14) + rows(6, rejected=True), "30% of meta-steps were rejected in the last 20 meta-steps: try THIS"),
        (
            rows(nonfinite=10, lyapunov_exponent={"median": 0.0, "largest": float(np.log(1.078))}),
            "100% of lifetimes diverged in the last 20 meta-steps (perturbations of the weights grow up to 1.08-fold",
        ),
        (
            rows(5, nonfinite=6, lyapunov_exponent={"largest": None}),
            "60% of lifetimes diverged in the last 5 meta-steps: try THIS",
        ),
        (rows(30) + rows(20, nonfinite=10, loss=None), "100% of lifetimes diverged"),
        (rows(loss=6.1), "the meta-loss was 6.1 in the last 20 meta-steps, and 0.5 at first: try THIS"),
    ],
)
def test_trouble_is_one_line_with_a_remedy(recent, message):
    line = trouble(rows(10), recent, "THIS")
    assert line.startswith(message)
    assert "\n" not in line


def test_without_a_finite_loss_losses_are_not_compared():
    assert trouble(rows(10, loss=None), rows(), "THIS") == ""
    assert trouble((), rows(loss=6.1), "THIS") == ""


def test_a_run_is_hopeless_after_many_meta_steps_without_a_usable_lifetime():
    assert is_hopeless(rows(HOPELESS, nonfinite=7, zero=3))
    assert not is_hopeless(rows(HOPELESS - 1, nonfinite=10))
    assert not is_hopeless(rows(1, nonfinite=9) + rows(HOPELESS - 1, nonfinite=10))
