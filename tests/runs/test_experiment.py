from dataclasses import dataclass

import jax.numpy as jnp
import msgspec
import pytest
import tomli_w

from metarule import Boolean, Evaluation, Feedforward, Lifetime, Polynomial, Tabular
from metarule.config.toml import ConfigError, decode, override
from metarule.runs.experiment import (
    Experiment,
    decode_experiment,
    read_experiment_file,
    set_fields,
    to_tree,
    with_tasks,
)


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


@dataclass(frozen=True)
class Squared:
    """Boolean functions with a loss that is made for no activation."""

    inputs: int = 2
    outputs: int = 1

    def split(self, seed):
        return Boolean(inputs=2).split(seed)

    def sample(self, key, pool, index):
        return Boolean(inputs=2).sample(key, pool, index)

    def stimulus(self, task, t, key):
        return Boolean(inputs=2).stimulus(task, t, key)

    def loss(self, output, target):
        return jnp.sum((output - target) ** 2)

    def examples(self, task):
        return Boolean(inputs=2).examples(task)

    def metrics(self, output, target):
        return Boolean(inputs=2).metrics(output, target)


def test_an_output_activation_that_followed_no_tasks_is_kept():
    experiment = Experiment(tasks=Squared(), circuit=Feedforward(output="tanh"))
    assert with_tasks(experiment, [("inner_loop.steps", 30)]).circuit.output == "tanh"


def test_baselines_that_were_named_for_other_tasks_are_not_demanded():
    experiment = Experiment(circuit=Feedforward(), evaluation=Evaluation(baselines=("backprop",)))
    recurrent = ("circuit.kind", "recurrent")
    assert with_tasks(experiment, [recurrent]).evaluation.baselines == ()
    with pytest.raises(ConfigError, match="'backprop' cannot be compared with here: .*needs a Feedforward circuit"):
        with_tasks(experiment, [recurrent, ("evaluation.baselines", ["backprop"])])


@pytest.mark.parametrize("circuit", [{}, {"output": "choice"}])
def test_the_online_loss_follows_a_closed_loop_also_where_the_output_is_set(circuit):
    experiment = decode_experiment({"circuit": circuit, "tasks": {"kind": "bandit"}})
    assert (experiment.circuit.output, experiment.inner_loop.online_loss_weight) == ("choice", 1.0)


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


OWN = {"kind": "tabular", "data": "old.csv", "label": "letter", "sha256": "0", "ways": 2}


@pytest.mark.parametrize(
    ("pairs", "changed"),
    [
        ([], {}),
        ([("tasks.ways", 3)], {"ways": 3}),
        ([("tasks.data", "new.csv")], {"data": "new.csv", "sha256": None}),
        ([("tasks.dataset", "iris")], {"dataset": "iris", "data": None, "label": None, "sha256": None}),
        (
            [("tasks.data", "new.csv"), ("tasks.label", "one"), ("tasks.dataset", "iris")],
            {"dataset": "iris", "data": None, "label": None, "sha256": None},
        ),
        (
            [("tasks.dataset", "iris"), ("tasks.data", "new.csv"), ("tasks.label", "one")],
            {"dataset": "iris", "data": "new.csv", "label": "one", "sha256": None},
        ),
    ],
)
def test_other_data_replace_what_described_the_data_before(pairs, changed):
    expected = {field: value for field, value in (OWN | changed).items() if value is not None}
    assert set_fields({"tasks": OWN}, pairs) == {"tasks": expected}


def test_data_in_a_config_file_are_beside_it_and_on_the_command_line_in_the_working_directory(tmp_path, monkeypatch):
    config = tmp_path / "configs" / "own.toml"
    config.parent.mkdir()
    shape = {"ways": 2, "train_examples": 1, "test_examples": 1, "test_classes": "all"}
    tasks = {"kind": "tabular", "data": "own.csv", "label": "y"} | shape
    config.write_text(tomli_w.dumps({"circuit": {"output": "softmax"}, "tasks": tasks}))
    for file, names in ((config.with_name("own.csv"), "ab"), (tmp_path / "other.csv", "cd")):
        file.write_text("x,y\n" + "".join(f"{row},{names[row % 2]}\n" for row in range(8)))
    monkeypatch.chdir(tmp_path)
    experiment, _ = read_experiment_file(config.relative_to(tmp_path), [])
    assert experiment.tasks.data == str(config.with_name("own.csv"))
    other = config.with_name("mixture.toml")
    other.write_text(tomli_w.dumps({"tasks": {"kind": "mixture", "families": [tasks, tasks]}}))
    mixture, _ = read_experiment_file(other, [])
    assert mixture.tasks.families == (experiment.tasks, experiment.tasks)
    assert decode_experiment(to_tree(mixture)) == mixture
    other = [("tasks.data", "other.csv")]
    for changed in (read_experiment_file(config, other)[0], with_tasks(experiment, other)):
        assert changed.tasks.data == str(tmp_path / "other.csv")
        assert changed.tasks.sha256 != experiment.tasks.sha256
    iris = with_tasks(experiment, [("tasks.dataset", "iris")])
    assert iris.tasks == Tabular(dataset="iris", **shape)
