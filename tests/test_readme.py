"""Commands, code blocks, tables and links of all READMEs work."""

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from small import OVERRIDES, overrides, words

from metarule.commands.train import main
from metarule.config.toml import decode, read
from metarule.runs.experiment import Experiment, decode_experiment
from metarule.sweeps.declaration import Sweep

pytestmark = pytest.mark.usefixtures("with_kernels")

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "README.md", *(ROOT / folder / "README.md" for folder in ("configs", "benchmarks", "metarule"))]
TEXTS = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in FILES}
COMMANDS = sorted(
    {command for text in TEXTS.values() for command in re.findall(r"metarule[. ]train (configs/[^`\n]*)", text)}
)
TABLES = [table for text in TEXTS.values() for table in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
BLOCKS = {name: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for name, text in TEXTS.items()}
# Long parts of code blocks, and short replacements.
SHORTER = {
    "README.md": {"range(200)": "range(3)", "steps=200": "steps=3"},
    "metarule/README.md": {
        "steps=100": "steps=20",
        "steps=50, batch_size=16": "steps=6, batch_size=4",
        "evaluation=mr.Evaluation(lifetimes=256)": 'evaluation=mr.Evaluation(lifetimes=16, baselines=("delta",))',
        "lifetimes=256": "lifetimes=16",
        "runs=16": "runs=2",
        '"taylor(pre, post, weight; 1)", "post^2*weight"': '"pre*post", "post^2*weight"',
        'directory="runs/inferred"': 'inference=mr.Inference(models=("hebb",)), directory="runs/inferred"',
        # The run of an earlier block, which was made from the same experiment as those of configs are.
        "runs/boolean/...": "runs/from-python",
    },
}


def test_the_two_commands_are_at_the_top():
    text = TEXTS["README.md"]
    install, test = re.search(r"```bash\n(.*?)```", text, re.DOTALL)[1].strip().splitlines()
    assert install == "pip install -e . && python -m metarule.train configs/boolean.toml"
    assert test == "pip install -e '.[test]' && pytest"
    assert text.index(install) < 1500


def test_the_readme_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 200


@pytest.mark.parametrize("text", COMMANDS)
def test_commands_run(text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    command = shlex.split(text.split(" #")[0])
    short = overrides(Path(command[0]))
    if "--optimizer.kind" in command:  # fields of gradient descent
        short = {field: value for field, value in short.items() if field != "optimizer.lengths"}
    command += words({field: value for field, value in short.items() if f"--{field}" not in command})
    command += ["--run.directory", str(tmp_path / "run")] + (["--seeds", "1"] if "--seeds" in text else [])
    # In this process, where commands share compiled programs; test_train starts them as a user does.
    assert main(command) == 0
    assert "learned" in capsys.readouterr().out


@pytest.mark.parametrize("name", SHORTER)
def test_code_blocks_run_one_after_another(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(BLOCKS[name])
    for long, short in SHORTER[name].items():
        assert long in code
        code = code.replace(long, short)
    exec(compile(code, name, "exec"), {})
    assert "Δw = " in capsys.readouterr().out


@pytest.mark.parametrize("text", TABLES)
def test_tables_are_parts_of_configs(text, tmp_path, monkeypatch):
    tree = tomllib.loads(text)
    if "config" in tree:
        assert decode(tree, Sweep)
        return
    if tree.get("tasks", {}).get("kind") == "foraging:Foraging":
        return  # trained below
    if tree.get("tasks", {}).get("kind") == "recordings":
        monkeypatch.chdir(tmp_path)
        Path(tree["tasks"]["files"]).write_text("fly,odour_a,odour_b,accepted,sugar\n1,0,1,1,0\n2,1,0,0,\n")
        assert decode_experiment(tree)
        return
    if "data" in tree.get("tasks", {}):
        monkeypatch.chdir(tmp_path)
        exec(next(block for block in BLOCKS["metarule/README.md"] if tree["tasks"]["data"] in block), {})
        tree |= {"circuit": {"output": "softmax"}}
    elif "tasks" in tree:
        conditioning = read(ROOT / "configs" / "conditioning.toml")[1]
        tree = conditioning | {"tasks": conditioning["tasks"] | tree["tasks"]}
    assert decode(tree, Experiment)


@pytest.mark.long
def test_own_tasks_of_a_module_are_trained_from_a_config(tmp_path, monkeypatch):
    folder, config = tmp_path, next(text for text in TABLES if "foraging:Foraging" in text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "foraging", raising=False)
    module = next(block for block in BLOCKS["metarule/README.md"] if "class Foraging" in block)
    (folder / "foraging.py").write_text(module)
    (folder / "foraging.toml").write_text(config)
    small = OVERRIDES | {"inner_loop.steps": "10", "optimizer.steps": "2", "evaluation.baselines": '["reward_hebb"]'}
    command = [str(folder / "foraging.toml"), "--import", "foraging", "--run.directory", str(folder / "run")]
    assert main(command + words(small)) == 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text(encoding="utf-8")):
        assert (file.parent / target).exists(), target
