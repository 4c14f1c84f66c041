import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import ConditioningCircuit, Connection
from metarule.types import Stimulus

KEY = jax.random.key(0)
TARGET = jnp.zeros(3)


def respond(circuit, inputs, weights=None):
    initial, wiring, activity = circuit.init(KEY, 3, 1)
    outputs, steps = [], []
    for stimuli in inputs:
        stimulus = Stimulus(jnp.array(stimuli, float), TARGET)
        activity, output, projections, *_ = circuit.step(weights or initial, wiring, activity, stimulus)
        outputs.append(float(output[0]))
        steps.append(projections)
    return initial, outputs, steps


def test_responses_to_the_us_and_to_a_naive_cs():
    weights, outputs, _ = respond(ConditioningCircuit(), [(0, 0, 1), (1, 0, 0), (0, 1, 0), (0, 0, 0)])
    np.testing.assert_allclose(outputs, [1, weights[0][0, 0], weights[0][1, 0], 0], rtol=1e-6)
    assert ((np.asarray(weights[0]) >= 0.04) & (np.asarray(weights[0]) <= 0.07)).all()


def test_local_variables_include_the_facilitatory_neuron_and_traces():
    _, outputs, steps = respond(ConditioningCircuit(trace_decay=0.5, neuromodulator_decay=0.75), [(1, 0, 1), (1, 0, 0)])
    (first,), (second,) = steps
    np.testing.assert_allclose(first.pre, [1, 0])
    np.testing.assert_allclose((first.modulator[0], second.modulator[0]), (1, 0))
    np.testing.assert_allclose(first.pre_trace, [0, 0])
    np.testing.assert_allclose(second.pre_trace, [0.5, 0])
    np.testing.assert_allclose(second.post_trace, [0.5 * outputs[0]], rtol=1e-6)
    np.testing.assert_allclose((first.neuromodulator, second.neuromodulator), (0.25, 0.1875))
    np.testing.assert_allclose(second.potential, second.post)


def test_synapses_from_later_neurons_have_a_delay_and_interneurons_are_rectified():
    circuit = ConditioningCircuit(
        interneurons=("inhibited",),
        synapses=(
            Connection(pre="CS1", post="motor", weight=0.5, plastic=True, modulator="inhibited"),
            Connection(pre="US", post="inhibited", weight=1.0),
            Connection(pre="motor", post="inhibited", weight=-3.0),
            Connection(pre="inhibited", post="motor", weight=2.0),
        ),
    )
    _, outputs, steps = respond(circuit, [(0, 0, 1), (0, 0, 1), (1, 0, 0)])
    np.testing.assert_allclose(outputs, [2.0, 0.0, 0.5])
    np.testing.assert_allclose([one[0].modulator[0] for one in steps], [1, 0, 0])
    assert circuit.paths == ("motor",)


def test_a_projection_has_one_target_and_one_modulator():
    plastic = [("CS1", "motor", "US"), ("CS2", "motor", "US"), ("US", "motor", ""), ("CS1", "relay", "US")]
    circuit = ConditioningCircuit(
        interneurons=("relay",),
        synapses=tuple(
            Connection(pre=pre, post=post, weight=0.1 * (number + 1), plastic=True, modulator=modulator)
            for number, (pre, post, modulator) in enumerate(plastic)
        ),
    )
    weights, _, steps = respond(circuit, [(1, 2, 3)])
    assert circuit.paths == ("motor", "motor", "relay")
    np.testing.assert_allclose(np.concatenate(weights)[:, 0], [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    np.testing.assert_allclose([float(one.modulator[0]) for one in steps[0]], [3, 0, 3])
    np.testing.assert_allclose(steps[0][1].pre, [3])


def test_pre_of_a_recurrent_synapse_is_the_transmitted_activity():
    circuit = ConditioningCircuit(
        interneurons=(),
        synapses=(
            Connection(pre="US", post="motor", weight=1.0),
            Connection(pre="motor", post="motor", weight=0.5, plastic=True),
        ),
    )
    _, outputs, steps = respond(circuit, [(0, 0, 1), (0, 0, 0), (0, 0, 0)])
    np.testing.assert_allclose(outputs, [1, 0.5, 0.25])
    np.testing.assert_allclose([float(one[0].pre[0]) for one in steps], [0, 1, 0.5])


@pytest.mark.parametrize(
    ("synapse", "message"),
    [
        (
            {"pre": "CS9", "post": "motor"},
            "synapse CS9 → motor: pre = 'CS9' is not a neuron; allowed: CS1, CS2, US, facil",
        ),
        ({"pre": "CS1", "post": "moto"}, "post = 'moto' is not a neuron"),
        ({"pre": "CS1", "post": "motor", "modulator": "dopamine"}, "modulator = 'dopamine' is not a neuron"),
        ({"pre": "motor", "post": "CS1"}, "post = 'CS1'; allowed: all but sensory neurons"),
        ({"pre": "US", "post": "motor"}, "synapse US → motor is given twice"),
        ({"pre": "facilitatory", "post": "motor", "weight": (0.2, 0.1)}, "the smaller first"),
    ],
)
def test_bad_synapses_are_refused(synapse, message):
    synapses = (*ConditioningCircuit().synapses, Connection(**{"weight": 0.1} | synapse))
    with pytest.raises(ValueError, match=message):
        ConditioningCircuit(synapses=synapses)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"interneurons": ("facilitatory", "motor")}, "allowed: distinct names"),
        ({"interneurons": ("",)}, "interneurons: ''; allowed: letters"),
        ({"neuromodulator_source": "locus"}, "neuromodulator_source = 'locus' is not a neuron"),
        ({"synapses": ConditioningCircuit().synapses[:2]}, "none is plastic"),
    ],
)
def test_bad_circuits_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConditioningCircuit(**arguments)
