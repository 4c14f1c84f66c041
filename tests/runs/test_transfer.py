import pytest

from metarule import Boolean, Experiment, Feedforward, Mixture, Points, Tabular
from metarule.runs.transfer import describe_novelty

FUNCTIONS, POINTS = Boolean(inputs=2), Points(shapes=("moons",))
EITHER = Mixture(families=(FUNCTIONS, POINTS))
MAYBE = "the same family with another split or other settings: some of these tasks may have been trained on"


@pytest.mark.parametrize(
    ("trained", "tasks", "text"),
    [
        (EITHER, EITHER, "held-out tasks"),
        (EITHER, FUNCTIONS, "held-out tasks"),
        (EITHER, POINTS, "held-out tasks"),
        (EITHER, Boolean(inputs=2, split_by="none"), MAYBE),
        (EITHER, Points(), MAYBE),
        (EITHER, Boolean(inputs=3), "functions of another number of inputs"),
        (EITHER, Points(shapes=("gaussians", "xor")), "points of other shapes"),
        (EITHER, Tabular(), "another family of tasks"),
        (POINTS, EITHER, "another family of tasks and held-out tasks"),
        (Tabular(dataset="iris", test_classes="all"), Tabular(), "tasks made of other data"),
        (Boolean(inputs=2, split_by="none"), Boolean(inputs=2, split_by="none"), "training tasks (nothing held out)"),
    ],
)
def test_novelty_is_that_of_each_family(trained, tasks, text):
    circuit = {"output": "softmax"} if isinstance(tasks, Tabular) else {}
    assert describe_novelty(trained, Experiment(tasks=tasks, circuit=Feedforward(**circuit))) == text
