"""Recordings, fields and networks that do not fit together are refused in one line."""

import re

import numpy as np
import pytest
from recorded import SIGMOID, learner_on, save

from metarule import Feedforward
from metarule.recordings import Recordings

INPUTS, ACTIVITY = np.ones((4, 3)), np.arange(8.0).reshape(4, 2)
WEIGHTS = np.ones((4, 3, 2))
RECORDED = {
    "activity": {"inputs": INPUTS, "activity": ACTIVITY},
    "weights": {"inputs": INPUTS, "weights": WEIGHTS},
    "hidden": {"inputs": INPUTS, "weights": WEIGHTS, "weights_1": np.ones((4, 2, 1))},
    "choices": {"inputs": INPUTS, "choices": np.array([0, 1, 1, np.nan])},
    "targets": {"inputs": INPUTS, "activity": ACTIVITY, "targets": ACTIVITY},
    "rewards": {"inputs": INPUTS, "choices": np.array([0, 1, 1, 0]), "rewards": np.ones(4)},
    "gap": {"inputs": INPUTS, "weights": np.where(np.arange(4)[:, None, None] > 0, WEIGHTS, np.nan)},
}
ANIMALS = "allowed: a share below 1, or a number below 2, the animals"
COLUMNS = "allowed: 2 distinct numbers, one a column of activity"
FIELDS = [
    ("activity", {"test_animals": 1.5}, f"test_animals = 1.5; {ANIMALS}"),
    ("activity", {"test_animals": 2}, f"test_animals = 2; {ANIMALS}"),
    ("activity", {"fit": ("choices",)}, "fit: 'choices' were not recorded; allowed: activity"),
    ("activity", {"fit": ("activity",) * 2}, "fit = ['activity', 'activity']; allowed: each kind once"),
    ("activity", {"readout": "fitted"}, "readout = 'fitted': no choices were recorded; allowed: fixed"),
    ("choices", {"outputs": 2}, "outputs = 2: allowed: 1, whose activity is P(choice = 1), or readout = fitted"),
    ("choices", {"reward": "centred"}, "reward = 'centred': no rewards were recorded; allowed: raw"),
    ("rewards", {"reward_decay": "fitted"}, "reward_decay = 'fitted': allowed with reward = centred"),
    ("targets", {"outputs": 3}, "outputs = 3: the recorded targets have 2 neurons"),
    ("weights", {"neurons": (0,), "outputs": 2}, "neurons = [0]: no activity was recorded; leave it out"),
    ("activity", {"neurons": (0,), "outputs": 2}, f"neurons = [0]; {COLUMNS}"),
    ("activity", {"neurons": (0, 0), "outputs": 2}, f"neurons = [0, 0]; {COLUMNS}"),
    ("activity", {"neurons": (0, 2), "outputs": 2}, "neurons: 2 is beyond the last of 2 output neurons"),
    ("activity", {"outputs": 1}, "outputs = 1: activity has 2 columns; allowed: 2 or more"),
    ("activity", {"outputs": 3}, "outputs = 3: activity has 2 columns; name their neurons, neurons = [0, …]"),
    (
        "activity",
        {"neurons": (0, 1)},
        "outputs = 0: the recordings do not tell the number of output neurons; set it",
    ),
    ("activity", {"sha256": "0"}, "files = '{files}': they have changed since the run was started; put them back"),
    ("activity", {"files": ""}, "files = '': set it, such as 'animals/*.npz'; metarule simulate makes some"),
]


@pytest.mark.parametrize(("name", "fields", "message"), FIELDS, ids=[message for *_, message in FIELDS])
def test_fields_that_do_not_fit_the_recordings_are_refused(tmp_path, name, fields, message):
    files = save(tmp_path, [RECORDED[name]] * 2)
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(files=files))}$"):
        Recordings(**{"files": files} | fields)


DEEP = Feedforward(hidden=(2,), output="identity", bias=False, feedback="zero")
NETWORKS = [
    (
        "weights",
        {"circuit": Feedforward(hidden=(), output="identity", feedback="zero")},
        {},
        "files: weights of projection 0 are 3 × 2 in the recordings, and 4 × 2 in the circuit, in which a bias neuron "
        "has a row",
    ),
    ("hidden", {}, {}, "files: weights of projection 1; allowed: numbers below 1, the projections of the circuit"),
    (
        "activity",
        {},
        {"neurons": (0, 7), "outputs": 2, "population": "all"},
        "files: activity has 2 columns, and the circuit 2 neurons but the inputs",
    ),
    (
        "activity",
        {"circuit": DEEP},
        {"outputs": 2, "population": "all"},
        "files: activity has 2 columns, and the circuit 4 neurons but the inputs",
    ),
    (
        "activity",
        {},
        {"initial": "known"},
        "initial = 'known': those of projection 0 were not recorded; allowed: zero, fitted",
    ),
    (
        "gap",
        {},
        {"initial": "known"},
        "initial = 'known': those of projection 0 were not recorded; allowed: zero, fitted",
    ),
    (
        "activity",
        {"rule": ("pre*modulator",)},
        {},
        "rule: it reads the modulator, which is target − output; neither targets nor choices were recorded",
    ),
    (
        "choices",
        {"rule": ("pre*neuromodulator",), "circuit": SIGMOID},
        {},
        "rule: it reads the neuromodulator, which is the reward; no rewards were recorded",
    ),
]


@pytest.mark.parametrize(("name", "parts", "fields", "message"), NETWORKS)
def test_networks_that_do_not_fit_the_recordings_are_refused(tmp_path, name, parts, fields, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        learner_on(tmp_path, [RECORDED[name]] * 2, **{"rule": ("pre*post",)} | parts, **fields)


def test_networks_that_fit_are_accepted(tmp_path):
    animals = {name: [one] * 2 for name, one in RECORDED.items()}
    learner_on(tmp_path / "deep", animals["hidden"], ("pre*post",), DEEP, initial="known")
    learner_on(tmp_path / "all", animals["targets"], ("pre*modulator",), DEEP, population="all", neurons=(0, 3))
    learner_on(tmp_path / "reward", animals["rewards"], ("pre*neuromodulator",), SIGMOID)
