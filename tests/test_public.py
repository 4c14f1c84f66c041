"""Public names are listed, documented and, for components, frozen."""

import importlib
import inspect
import pkgutil
import typing

import msgspec
import pytest

import metarule

# The shells metarule.evaluate and metarule.infer replace themselves by the public functions of these names.
MODULES = [
    name
    for name in ("metarule", *(module.name for module in pkgutil.walk_packages(metarule.__path__, "metarule.")))
    if name not in ("metarule.evaluate", "metarule.infer")
]


@pytest.mark.parametrize("name", MODULES)
def test_all_is_sorted_defined_and_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for public in module.__all__:
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{public} has no docstring"
            for member, function in vars(value).items() if inspect.isclass(value) else ():
                if inspect.isfunction(function) and not member.startswith("_"):
                    assert function.__doc__, f"{name}.{public}.{member} has no docstring"


@pytest.mark.parametrize("name", [name for name in MODULES if name.count(".") < 2])
def test_every_public_definition_is_in_all(name):
    module = importlib.import_module(name)
    defined = {
        member
        for member, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == name
        and not member.startswith("_")
    }
    assert defined <= set(module.__all__)


def test_fields_of_components_are_described():
    from metarule.config.help import Source, walk
    from metarule.runs.experiment import Experiment

    fields = list(walk([Source(Experiment)]))
    assert len(fields) > 30
    for field in fields:
        assert len(field.description.split()) >= 2, field.name


def test_components_are_hashable_and_equal_by_value():
    from metarule.runs.experiment import Experiment

    assert hash(Experiment()) == hash(Experiment())
    assert Experiment() == Experiment()
    for field in typing.get_type_hints(Experiment):
        component = getattr(Experiment(), field)
        if isinstance(component, msgspec.Struct):
            assert component.__struct_config__.frozen
