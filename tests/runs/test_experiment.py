import msgspec
import pytest

from metarule import Boolean, Feedforward, Lifetime, Polynomial, Tabular
from metarule.config.toml import ConfigError, decode, override
from metarule.runs.experiment import Experiment, to_tree, with_tasks


def test_components_are_assembled_into_a_lifetime():
    experiment = Experiment(
        rule=Polynomial(terms=("seven",)), tasks=Boolean(inputs=2), circuit=Feedforward(hidden=(3,))
    )
    assert experiment.lifetime == Lifetime(
        rule=experiment.rule, circuit=experiment.circuit, tasks=experiment.tasks, inner_loop=experiment.inner_loop
    )


def test_a_tree_holds_every_default():
    tree = to_tree(Experiment())
    assert tree["tasks"]["kind"] == "boolean"
    assert tree["optimizer"]["estimator"]["kind"] == "reverse"
    assert msgspec.convert(tree, Experiment) == Experiment()


def test_the_output_activation_follows_the_tasks_unless_it_is_set():
    other = with_tasks(Experiment(), [("tasks.kind", "tabular"), ("tasks.ways", 2)])
    assert (other.tasks, other.circuit.output) == (Tabular(ways=2), "softmax")
    assert with_tasks(other, []) == other
    with pytest.raises(ConfigError, match="circuit.output = 'tanh': the loss of these tasks needs 'softmax'"):
        with_tasks(Experiment(), [("tasks.kind", "tabular"), ("circuit.output", "tanh")])


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("optimizer.steps", 3)], "optimizer.steps: θ depends on it"),
        ([("inner_loop.theta", "per_projection")], "θ was learned in shape .* .shared.; .* .per_projection."),
        ([("tasks.kind", "conditioning")], "circuit.output = 'sigmoid': the loss of these tasks needs 'motor'"),
        (
            [("circuit.kind", "conditioning"), ("tasks.inputs", 2)],
            "it has 3 input and 1 output neurons; these tasks have 2 inputs",
        ),
    ],
)
def test_tasks_that_do_not_fit_theta_are_refused(pairs, message):
    with pytest.raises(ConfigError, match=message):
        with_tasks(Experiment(), pairs)


def conditioned(neuron):
    """Fields of a circuit whose synapses onto the motor neuron, and onto another, are plastic."""
    fixed = [{"pre": "US", "post": post, "weight": 1.0} for post in ("motor", neuron)]
    plastic = [
        {"pre": "CS1", "post": post, "weight": 0.1, "plastic": True, "modulator": "US"} for post in ("motor", neuron)
    ]
    return [("circuit.interneurons", [neuron]), ("circuit.synapses", fixed + plastic)]


def test_a_theta_of_other_paths_is_refused():
    tree = {"circuit": {"kind": "conditioning"}, "tasks": {"kind": "conditioning"}, "inner_loop": {"theta": "per_path"}}
    tree |= {"rule": {"kind": "polynomial", "terms": ["pre*modulator"]}}
    tree["inner_loop"]["steps"] = 2000
    learned = decode(override(tree, conditioned("one")), Experiment)
    assert with_tasks(learned, conditioned("one")) == learned
    message = "circuit: it has the paths motor, other; allowed: those for which θ was learned, motor, one"
    with pytest.raises(ConfigError, match=message):
        with_tasks(learned, conditioned("other"))
