import jax
import numpy as np
from inking import inked

from metarule import Conditioning, ConditioningCircuit, Connection
from metarule.analysis.phenomena import Example
from metarule.runs.figures import draw_circuit, draw_phenomena
from metarule.tasks import STANDARD
from metarule.tasks.base import min_steps


def test_circuits_are_drawn_with_their_modulation(tmp_path):
    loop = Connection(pre="motor", post="late", weight=-0.5)
    own = Connection(pre="late", post="late", weight=0.5)
    circuit = ConditioningCircuit(
        interneurons=("facilitatory", "late"), synapses=(*ConditioningCircuit().synapses, loop, own)
    )
    draw_circuit(tmp_path / "circuit.png", circuit)
    assert inked(tmp_path / "circuit.png")


def test_one_panel_a_phenomenon(tmp_path):
    tasks = Conditioning(phenomena=STANDARD[:4])
    pool = tasks.split(0).test
    sample = lambda number: tasks.sample(jax.random.key(0), pool._replace(schedules=number[None]), 0)
    schedules = jax.jit(jax.vmap(sample))(np.arange(8))
    example = Example(schedules, np.zeros((8, min_steps(tasks) + 1, 2)))
    draw_phenomena(tmp_path / "phenomena.png", tasks, example, {phenomenon.name: 0.5 for phenomenon in STANDARD})
    assert inked(tmp_path / "phenomena.png")
