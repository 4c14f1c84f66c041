import numpy as np
import pytest
from msgspec.structs import replace
from recorded import save

from metarule import Experiment, Feedforward, GaussNewton, Gradient, Inference, InnerLoop, Polynomial, Recordings
from metarule.runs.experiment import Evaluation, decode_experiment
from metarule.runs.following import follow_tasks

CIRCUIT = {"hidden": [], "bias": False, "feedback": "zero"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two animals of 6 and 9 steps."""
    animals = [
        {"inputs": np.ones((steps, 2)), "activity": np.ones((steps, 1)), "initial_weights": np.ones((2, 1))}
        for steps in (6, 9)
    ]
    return save(tmp_path_factory.mktemp("animals"), animals)


@pytest.fixture
def tree(files):
    return {"rule": {"terms": ["pre"]}, "circuit": CIRCUIT, "tasks": {"kind": "recordings", "files": files}}


def test_lifetimes_on_recordings_are_as_long_as_the_longest_and_count_each_step(tree):
    experiment = decode_experiment(tree)
    assert experiment.inner_loop == InnerLoop(steps=9, weight_bound=1e9, online_loss_weight=1.0)
    assert experiment.optimizer == GaussNewton()


def test_what_is_set_does_not_follow(tree):
    settings = {"circuit": CIRCUIT | {"output": "tanh"}, "inner_loop": {"steps": 5}, "optimizer": {"steps": 7}}
    experiment = decode_experiment(tree | settings)
    assert (experiment.circuit.output, experiment.inner_loop.steps) == ("tanh", 5)
    assert (experiment.inner_loop.weight_bound, experiment.optimizer) == (1e9, GaussNewton(steps=7))
    known = decode_experiment(tree | {"optimizer": {"kind": "gradient"}})
    assert known.optimizer == Gradient()


def test_the_theta_of_a_network_is_found_by_gradient_descent(tree):
    assert (
        decode_experiment(tree | {"rule": {"kind": "mlp", "inputs": ["pre", "weight"], "hidden": [3]}}).optimizer
        == Gradient()
    )


def test_other_tasks_have_the_output_of_their_loss_only():
    tree = {"tasks": {"kind": "boolean"}}
    assert follow_tasks(tree) == tree
    assert follow_tasks(tree | {"circuit": {"output": "tanh"}}) == tree | {"circuit": {"output": "tanh"}}
    assert follow_tasks({"tasks": 3}) == {"tasks": 3}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": 2}, "seeds = 2: allowed with recordings: 1"),
        (
            {"inner_loop": InnerLoop(steps=9)},
            "inner_loop.online_loss_weight = 0.5: allowed with recordings: 1, ",
        ),
        ({"inner_loop": InnerLoop(steps=9, online_loss_weight=1.0, bfloat16=True)}, "inner_loop.bfloat16 = true: "),
        ({"inner_loop": InnerLoop(steps=10, online_loss_weight=1.0)}, "inner_loop.steps = 10: the longest recording "),
        ({"evaluation": Evaluation(points=2)}, r"evaluation: recordings are evaluated as \[inference\] says"),
    ],
)
def test_settings_that_do_nothing_with_recordings_are_refused(fields, message, tree):
    experiment = decode_experiment(tree)
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        replace(experiment, **fields)
    assert "\n" not in str(caught.value)
    monitored = replace(experiment, evaluation=Evaluation(monitor_every=3))
    assert monitored.evaluation.monitor_every == 3


def test_an_inference_takes_recordings():
    with pytest.raises(ValueError, match="^inference: these tasks are no recordings; allowed: with tasks.kind = "):
        Experiment(inference=Inference(recover=3))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"initial": "fitted"}, "tasks.initial: it is to be fitted, which takes optimizer.kind = 'gauss_newton'"),
        ({"readout": "fitted"}, "tasks.readout: it is to be fitted"),
        ({"reward": "centred", "reward_decay": "fitted"}, "tasks.reward_decay: it is to be fitted"),
    ],
)
def test_only_gauss_newton_fits_what_is_unknown_besides_theta(fields, message, tmp_path):
    arrays = {"inputs": np.ones((6, 2)), "choices": np.arange(6) % 2, "rewards": np.ones(6)}
    pattern = save(tmp_path, [arrays | {"initial_weights": np.ones((2, 1))}] * 2)
    circuit = Feedforward(hidden=(), output="sigmoid", bias=False, feedback="zero")
    inner_loop = InnerLoop(steps=6, online_loss_weight=1.0)
    tasks = Recordings(files=pattern, **fields)
    experiment = Experiment(circuit=circuit, tasks=tasks, inner_loop=inner_loop, optimizer=GaussNewton())
    with pytest.raises(ValueError, match=f"^{message}"):
        replace(experiment, optimizer=Gradient())
    known = replace(experiment, tasks=Recordings(files=pattern), optimizer=Gradient())
    assert known.tasks.initial == "auto"


def test_initial_weights_that_were_not_recorded_are_unknown(tmp_path):
    pattern = save(tmp_path, [{"inputs": np.ones((6, 2)), "activity": np.ones((6, 1))}] * 2)
    circuit = Feedforward(hidden=(), output="identity", bias=False, feedback="zero")
    inner_loop = InnerLoop(steps=6, online_loss_weight=1.0)
    rule = Polynomial(terms=("pre",))
    fitted = Experiment(
        rule=rule, circuit=circuit, tasks=Recordings(files=pattern), inner_loop=inner_loop, optimizer=GaussNewton()
    )
    with pytest.raises(ValueError, match=r"^tasks.initial: it is to be fitted"):
        replace(fitted, optimizer=Gradient())
    zero = replace(fitted, tasks=Recordings(files=pattern, initial="zero"), optimizer=Gradient())
    assert zero.tasks.initial == "zero"
