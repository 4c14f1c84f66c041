"""Components of users' own modules in configs."""

import sys
from dataclasses import dataclass

import jax.numpy as jnp
import pytest
from own_package import CIRCUIT, NAME, RULE, TASKS, package_on_path

from metarule import Experiment, Gradient
from metarule.config.help import Source, overview, table
from metarule.config.imports import VARIABLE, allowed_imports
from metarule.config.toml import ConfigError, decode, encode, override
from metarule.runs.experiment import to_tree

OWN = {
    "rule": {"kind": RULE, "rate": 0.5},
    "circuit": {"kind": CIRCUIT, "scale": 1},
    "tasks": {"kind": TASKS},
    "optimizer": {"estimator": {"kind": f"{NAME}.parts:Half"}, "steps": 3},
}


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory):
    with package_on_path(tmp_path_factory.mktemp("own")):
        yield


@pytest.fixture
def allowed():
    with allowed_imports([NAME]):
        yield


def parts():
    return sys.modules[f"{NAME}.parts"]


def test_a_module_is_not_imported_unless_it_is_allowed():
    with pytest.raises(ConfigError) as caught:
        decode(OWN, Experiment)
    assert str(caught.value) == (
        f"rule.kind = '{RULE}': importing a module runs its code; if you trust it, add --import {NAME}.parts, or set "
        "METARULE_IMPORT"
    )
    assert NAME not in sys.modules


def test_own_tables_become_components_and_back(allowed):
    experiment = decode(OWN, Experiment)
    assert experiment.rule == parts().Decaying(rate=0.5)
    assert (experiment.circuit, experiment.tasks) == (parts().Readout(scale=1.0), parts().CopyOneInput())
    assert experiment.optimizer == Gradient(steps=3, estimator=parts().Half())
    tree = to_tree(experiment)
    assert tree["rule"] == {"kind": RULE, "rate": 0.5, "signs": (1.0,)}
    assert tree["optimizer"]["estimator"] == {"kind": f"{NAME}.parts:Half"}
    assert tree["inner_loop"] == encode(experiment.inner_loop)
    assert decode(tree, Experiment) == experiment
    assert hash(decode(tree, Experiment)) == hash(experiment)


def test_own_components_are_chosen_by_overrides(allowed):
    pairs = [("rule.rate", 2), ("rule.kind", f"{NAME}:Decaying"), ("optimizer.kind", f"{NAME}.parts:Wander")]
    experiment = decode(override({"rule": {"terms": ["oja"]}}, pairs), Experiment)
    assert (experiment.rule, experiment.optimizer) == (parts().Decaying(rate=2.0), parts().Wander())
    # The name that the module defines, not the one by which it was found.
    assert to_tree(experiment)["rule"]["kind"] == RULE


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": f"{NAME}.parts:Decayin"}, "there is no such class; allowed: Decaying, Readout, CopyOneInput, "),
        (
            {"kind": f"{NAME}.parts:Readout"},
            "it has init(key, inputs, outputs) in place of init(key)",
        ),
        ({"kind": f"{NAME}.parts:Half"}, "and lacks delta; a Rule has init, delta"),
        ({"kind": f"{NAME}.parts:jnp"}, "rule.kind = '{}': there is no such class; allowed: Decaying, "),
        ({"kind": f"{NAME}.parts:Thawed"}, "rule.kind = '{}': allowed: a frozen dataclass, or a frozen msgspec.Struct"),
        ({"kind": f"{NAME}.nowhere:Rule"}, f"module '{NAME}.nowhere' cannot be imported: ModuleNotFoundError: No mod"),
        ({"kind": RULE, "rate": 0}, "rule.rate = 0: expected `float` > 0.0"),
        ({"kind": RULE, "rate": "fast"}, "rule.rate = 'fast': expected `float`, got `str`"),
        ({"kind": RULE, "speed": 1}, "rule.speed = 1: there is no such field; allowed: rate, signs"),
        ({"kind": RULE, "signs": [0]}, "rule.signs = [0.0]: allowed: numbers that are not 0"),
        ({"kind": f"{NAME}.parts:Broken"}, "KeyError: 'slope' (parts.py:"),
        ({"kind": "oja"}, "rule.kind = 'oja': allowed: polynomial, mlp, "),
    ],
)
def test_a_bad_own_table_is_refused(table, message, allowed):
    with pytest.raises(ConfigError) as caught:
        decode({"rule": table}, Experiment)
    assert message.format(table["kind"]) in str(caught.value)


def test_a_module_that_fails_is_named(allowed, tmp_path, monkeypatch):
    (tmp_path / "own_failing.py").write_text("raise RuntimeError('no device\\nmore')\n")
    monkeypatch.chdir(tmp_path)
    expected = "rule.kind = 'own_failing:Rule': module 'own_failing' cannot be imported: RuntimeError: no device$"
    with allowed_imports(["own_failing"]), pytest.raises(ConfigError, match=expected):
        decode({"rule": {"kind": "own_failing:Rule"}}, Experiment)


def test_code_of_a_module_that_is_there_already_is_not_run(allowed, monkeypatch):
    class Loader:
        def __getattr__(self, name):
            raise AssertionError

    monkeypatch.setattr(parts(), "loader", Loader(), raising=False)
    with pytest.raises(ConfigError, match="there is no such class"):
        decode({"rule": {"kind": f"{NAME}.parts:loader.library"}}, Experiment)
    with pytest.raises(ConfigError, match="add --import ctypes"):
        decode({"rule": {"kind": "ctypes:cdll.library"}}, Experiment)


def test_modules_that_no_table_names_do_no_harm(tmp_path, monkeypatch):
    (tmp_path / "own_typed.py").write_text(
        "from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\nclass R:\n    x: 'Unknown' = 0\n"
        "    def init(self, key): ...\n    def delta(self, theta, memory, synapse): ...\n"
    )
    monkeypatch.chdir(tmp_path)
    with allowed_imports(["own_nowhere", "own_typed"]):
        experiment = decode({"seed": 1}, Experiment)
        assert decode(to_tree(experiment), Experiment) == experiment
        with pytest.raises(ConfigError, match="^seed = 'x': expected `int`"):
            decode({"seed": "x"}, Experiment)
        with pytest.raises(ConfigError, match=r"^rule.kind = 'own_typed:R': the types of R are unknown: NameError"):
            decode({"rule": {"kind": "own_typed:R"}}, Experiment)


def test_imports_are_allowed_for_a_time(monkeypatch):
    monkeypatch.setenv(VARIABLE, "one")
    with allowed_imports(["two", "one"]):
        assert sys.modules["os"].environ[VARIABLE] == "one,two"
    assert sys.modules["os"].environ[VARIABLE] == "one"


def test_help_lists_own_components_and_their_fields():
    with allowed_imports([f"{NAME}.parts"]):
        text = table([Source(Experiment)], f"rule.{RULE}")
        kinds = table([Source(Experiment)], "circuit")
        assert f"{NAME}.parts:Wander" in table([Source(Experiment)], "optimizer")
        assert "rule " in overview([Source(Experiment)])
    assert f'kind = "{RULE}"  Delta rule with decay' in text
    assert "--rule.rate   initial learning rate [0.3]" in text
    assert f"{CIRCUIT}" in kinds
    assert "Wander" not in kinds


@dataclass(frozen=True)
class Unwritable:
    gain: object = None

    def init(self, key):
        return jnp.zeros(())

    def delta(self, theta, memory, synapse):
        return theta * synapse.pre, memory


def test_a_component_that_no_config_can_hold_is_refused():
    with pytest.raises(ValueError, match=r"^rule: Unwritable.gain: no config can hold a object"):
        encode(Experiment(rule=Unwritable()))

    @dataclass(frozen=True)
    class Local:
        init, delta = Unwritable.init, Unwritable.delta

    with pytest.raises(ValueError, match=r"^rule: Local is defined within a function; allowed: a class of a module"):
        encode(Experiment(rule=Local()))
