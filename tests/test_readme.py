"""The README's commands and code blocks run."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from small import overrides, words

from metarule.commands.train import main
from metarule.config.toml import decode, read
from metarule.runs.experiment import Experiment

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"python -m (metarule\.train configs/[^`\n]*)", README)))
TABLES = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
# What takes long of the code blocks, and how much of it will do.
SHORTER = {
    "steps=100": "steps=20",
    "steps=50, tasks=16": "steps=6, tasks=4",
    "lifetimes=256": "lifetimes=16",
    "runs=16": "runs=2",
}


def test_the_two_commands_stand_at_the_top():
    install, test = re.search(r"```bash\n(.*?)```", README, re.DOTALL)[1].strip().splitlines()
    assert install == "pip install -e . && python -m metarule.train configs/boolean.toml"
    assert test == "pip install -e '.[test]' && pytest"
    assert README.index(install) < 1500


@pytest.mark.parametrize("text", COMMANDS)
def test_commands_run(text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    _, *command = shlex.split(text.split(" #")[0])
    short = overrides(Path(command[0]))
    command += words({field: value for field, value in short.items() if f"--{field}" not in command})
    command += ["--run.directory", str(tmp_path / "run")] + (["--seeds", "2"] if "--seeds" in text else [])
    # In this process, where commands share what is compiled; as a user starts them they are tried in test_train.
    assert main(command) == 0
    assert "learned" in capsys.readouterr().out


def test_code_blocks_run_one_after_another(capsys):
    assert len(BLOCKS) >= 3
    namespace, code = {}, "\n".join(BLOCKS)
    for long, short in SHORTER.items():
        assert long in code
        code = code.replace(long, short)
    exec(compile(code, "README.md", "exec"), namespace)
    assert "Δw = " in capsys.readouterr().out
    assert namespace["thetas"].shape[0] == 8


@pytest.mark.parametrize("text", TABLES)
def test_tables_are_parts_of_configs(text):
    tree = tomllib.loads(text)
    if "tasks" in tree:
        conditioning = read(ROOT / "configs" / "conditioning.toml")[1]
        tree = conditioning | {"tasks": conditioning["tasks"] | tree["tasks"]}
    assert decode(tree, Experiment)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
