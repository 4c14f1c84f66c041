"""Public names, fields, docstring openings and help use one word for one thing, and it is the field's."""

import importlib
import inspect
import pkgutil
import re

import pytest

import benchmarks
import metarule
from metarule.__main__ import COMMANDS

# Words that the dictionary replaces, such as lifetime for life, step for presentation, evaluate for assess.
REPLACED = {
    *("life", "lives", "live", "lived", "living", "episode", "presentation", "presentations", "presented"),
    *("met", "posed", "birth", "born", "renewed", "carry", "stretch", "assess", "assessed", "along", "units"),
    *("growth", "guard", "guarded", "retreat", "rebuilt", "rebuild", "undo", "undone", "unmasked", "behind", "ahead"),
    *("reached", "forms", "disasters", "abreast", "once", "told", "says", "worth", "kept"),
}
OPENINGS = re.compile(r"(What|Who|Whose|Where|How|Whether|Which|When|Why)\b")
# Two shells replace themselves by the public functions of their names.
SHELLS = ("metarule.evaluate", "metarule.infer", "metarule.__main__")
MODULES = [
    name
    for package in (metarule, benchmarks)
    for name in (
        package.__name__,
        *(module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")),
    )
    if name
    not in (
        "metarule.evaluate",
        "metarule.infer",
        "metarule.__main__",
        "benchmarks.speeds.torches",
    )  # Torch is an extra
]


def replaced_words(name):
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return {part.lower() for part in parts} & REPLACED


def public_members(value):
    if not inspect.isclass(value):
        return []
    fields = getattr(value, "__struct_fields__", ()) or getattr(value, "_fields", ())
    return [*fields, *(name for name in vars(value) if not name.startswith("_"))]


@pytest.mark.parametrize("name", MODULES)
def test_public_names_use_the_dictionary(name):
    module = importlib.import_module(name)
    names = set(name.split("."))
    for public in getattr(module, "__all__", ()):
        names |= {public, *public_members(getattr(module, public))}
    assert {one: words for one in sorted(names) if (words := replaced_words(one))} == {}


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_open_with_a_noun_or_an_imperative(name):
    module = importlib.import_module(name)
    documented = [module, *(getattr(module, public) for public in getattr(module, "__all__", ()))]
    documented += [
        member
        for value in documented
        if inspect.isclass(value)
        for member in vars(value).values()
        if inspect.isfunction(member)
    ]
    texts = [inspect.getdoc(one) or "" for one in documented if not isinstance(one, str | int | float | tuple | dict)]
    assert [text.splitlines()[0] for text in texts if OPENINGS.match(text)] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_uses_the_dictionary(command, capsys):
    main = importlib.import_module(f"metarule.commands.{command}").main
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    words = set(re.findall(r"[a-z]+", text.lower())) - {"once", "live"}  # and --live, as other programs name it
    assert words & REPLACED == set()
