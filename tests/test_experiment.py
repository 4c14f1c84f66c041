import msgspec

from metarule import Boolean, Feedforward, Lifetime, Polynomial
from metarule.experiment import Experiment, to_tree


def test_components_are_assembled_into_a_lifetime():
    experiment = Experiment(
        rule=Polynomial(terms=("seven",)), tasks=Boolean(inputs=2), circuit=Feedforward(hidden=(3,))
    )
    assert experiment.lifetime == Lifetime(
        rule=experiment.rule, circuit=experiment.circuit, tasks=experiment.tasks, inner_loop=experiment.inner_loop
    )


def test_a_tree_writes_every_default_out():
    tree = to_tree(Experiment())
    assert tree["tasks"]["kind"] == "boolean"
    assert tree["optimizer"]["estimator"] == {"kind": "reverse", "scan": {"kind": "remat"}}
    assert msgspec.convert(tree, Experiment) == Experiment()
