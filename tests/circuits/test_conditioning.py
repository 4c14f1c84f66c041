import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import ConditioningCircuit, Connection
from metarule.types import Stimulus

KEY = jax.random.key(0)
TARGET = jnp.zeros(3)


def present(circuit, inputs, weights=None):
    born, wiring, activity = circuit.init(KEY, 3, 1)
    outputs, seen = [], []
    for stimuli in inputs:
        stimulus = Stimulus(jnp.array(stimuli, float), TARGET)
        activity, output, projections, _ = circuit.step(weights or born, wiring, activity, stimulus)
        outputs.append(float(output[0]))
        seen.append(projections)
    return born, outputs, seen


def test_the_us_is_answered_and_a_naive_cs_hardly():
    weights, outputs, _ = present(ConditioningCircuit(), [(0, 0, 1), (1, 0, 0), (0, 1, 0), (0, 0, 0)])
    np.testing.assert_allclose(outputs, [1, weights[0][0, 0], weights[0][1, 0], 0], rtol=1e-6)
    assert ((np.asarray(weights[0]) >= 0.04) & (np.asarray(weights[0]) <= 0.07)).all()


def test_synapses_see_the_facilitatory_neuron_and_past_activity():
    _, outputs, seen = present(ConditioningCircuit(trace_decay=0.5, neuromodulator_decay=0.75), [(1, 0, 1), (1, 0, 0)])
    (first,), (second,) = seen
    np.testing.assert_allclose(first.pre, [1, 0])
    np.testing.assert_allclose((first.modulator[0], second.modulator[0]), (1, 0))
    np.testing.assert_allclose(first.pre_trace, [0, 0])
    np.testing.assert_allclose(second.pre_trace, [0.5, 0])
    np.testing.assert_allclose(second.post_trace, [0.5 * outputs[0]], rtol=1e-6)
    np.testing.assert_allclose((first.neuromodulator, second.neuromodulator), (0.25, 0.1875))
    np.testing.assert_allclose(second.potential, second.post)


def test_later_neurons_act_a_step_later_and_interneurons_are_rectified():
    circuit = ConditioningCircuit(
        interneurons=("inhibited",),
        synapses=(
            Connection(pre="CS1", post="motor", weight=0.5, plastic=True, modulator="inhibited"),
            Connection(pre="US", post="inhibited", weight=1.0),
            Connection(pre="motor", post="inhibited", weight=-3.0),
            Connection(pre="inhibited", post="motor", weight=2.0),
        ),
    )
    _, outputs, seen = present(circuit, [(0, 0, 1), (0, 0, 1), (1, 0, 0)])
    np.testing.assert_allclose(outputs, [2.0, 0.0, 0.5])
    np.testing.assert_allclose([one[0].modulator[0] for one in seen], [1, 0, 0])
    assert circuit.paths == ("motor",)


def test_projections_are_synapses_onto_one_neuron_under_one_modulator():
    plastic = [("CS1", "motor", "US"), ("CS2", "motor", "US"), ("US", "motor", ""), ("CS1", "relay", "US")]
    circuit = ConditioningCircuit(
        interneurons=("relay",),
        synapses=tuple(
            Connection(pre=pre, post=post, weight=0.1 * (number + 1), plastic=True, modulator=modulator)
            for number, (pre, post, modulator) in enumerate(plastic)
        ),
    )
    weights, _, seen = present(circuit, [(1, 2, 3)])
    assert circuit.paths == ("motor", "motor", "relay")
    np.testing.assert_allclose(np.concatenate(weights)[:, 0], [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    np.testing.assert_allclose([float(one.modulator[0]) for one in seen[0]], [3, 0, 3])
    np.testing.assert_allclose(seen[0][1].pre, [3])


def test_a_recurrent_synapse_sees_the_activity_that_it_transmits():
    circuit = ConditioningCircuit(
        interneurons=(),
        synapses=(
            Connection(pre="US", post="motor", weight=1.0),
            Connection(pre="motor", post="motor", weight=0.5, plastic=True),
        ),
    )
    _, outputs, seen = present(circuit, [(0, 0, 1), (0, 0, 0), (0, 0, 0)])
    np.testing.assert_allclose(outputs, [1, 0.5, 0.25])
    np.testing.assert_allclose([float(one[0].pre[0]) for one in seen], [0, 1, 0.5])


@pytest.mark.parametrize(
    ("synapse", "says"),
    [
        (
            {"pre": "CS9", "post": "motor"},
            "synapse CS9 → motor: pre = 'CS9' is no neuron; allowed: CS1, CS2, US, facil",
        ),
        ({"pre": "CS1", "post": "moto"}, "post = 'moto' is no neuron"),
        ({"pre": "CS1", "post": "motor", "modulator": "dopamine"}, "modulator = 'dopamine' is no neuron"),
        ({"pre": "motor", "post": "CS1"}, "post = 'CS1' is a sensory neuron"),
        ({"pre": "US", "post": "motor"}, "synapse US → motor stands twice"),
        ({"pre": "facilitatory", "post": "motor", "weight": (0.2, 0.1)}, "the smaller first"),
    ],
)
def test_bad_synapses_are_refused_by_name(synapse, says):
    synapses = (*ConditioningCircuit().synapses, Connection(**{"weight": 0.1} | synapse))
    with pytest.raises(ValueError, match=says):
        ConditioningCircuit(synapses=synapses)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"interneurons": ("facilitatory", "motor")}, "a neuron of that name is there already"),
        ({"interneurons": ("",)}, "interneurons: ''; allowed: letters"),
        ({"neuromodulator_source": "locus"}, "neuromodulator_source = 'locus' is no neuron"),
        ({"synapses": ConditioningCircuit().synapses[:2]}, "none is plastic"),
    ],
)
def test_bad_circuits_are_refused_by_name(arguments, says):
    with pytest.raises(ValueError, match=says):
        ConditioningCircuit(**arguments)
