"""Shell completion: `metarule --completion bash`, `zsh` or `fish` prints a script for the shell to source."""

import re
from collections.abc import Iterable
from importlib import import_module

from metarule.commands import cli
from metarule.commands.opening import CONFIGS, SIMULATIONS, STUDIES
from metarule.config.help import flags

__all__ = ["SHELLS", "completion"]

SHELLS = ("bash", "zsh", "fish")
# Names of shipped files that a command takes.
_SHIPPED = {"train": CONFIGS, "evolve": CONFIGS, "sweep": STUDIES, "simulate": SIMULATIONS}
_BASH = """\
_metarule() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words names
    case $COMP_CWORD:${{COMP_WORDS[1]}} in
        1:*) words="{commands}" ;;
{cases}
    esac
    if [[ $COMP_CWORD == 1 || $word == -* ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$word"))
    elif [[ $COMP_CWORD == 2 && $names ]]; then
        COMPREPLY=($(compgen -W "$names" -- "$word") $(compgen -f -X '!*.toml' -- "$word"))
    fi
}}
complete -o default -F _metarule metarule
"""
_ZSH = """\
(( $+functions[compdef] )) || { autoload -U compinit && compinit; }
autoload -U +X bashcompinit && bashcompinit
"""


def completion(shell: str, commands: Iterable[str]) -> str:
    """Write a script that completes commands, their options, and names of shipped configs.

    Args:
        shell: one of `SHELLS`.
        commands: names of the commands.

    Returns:
        The script.
    """
    words = {name: _words(name) for name in commands}
    if shell == "fish":
        lines = [f"complete -c metarule -n __fish_use_subcommand -f -a {name}" for name in words]
        for name, options in words.items():
            condition = f"complete -c metarule -n '__fish_seen_subcommand_from {name}'"
            lines += [f"{condition} -l {option.removeprefix('--')}" for option in options]
            lines += [f"{condition} -a '{' '.join(_SHIPPED[name])}'"] if name in _SHIPPED else []
        return "\n".join(lines)
    cases = "\n".join(
        f'        *:{name}) words="{" ".join(options)}" names="{" ".join(_SHIPPED.get(name, ()))}" ;;'
        for name, options in words.items()
    )
    script = _BASH.format(commands=" ".join(words), cases=cases)
    return _ZSH + script if shell == "zsh" else script


def _words(name: str) -> list[str]:
    """Options of a command: those of its usage, and those that set fields."""
    command = import_module(f"metarule.commands.{name}")
    own = re.findall(r"^  (--[a-z][a-z-]*)", command.USAGE, re.MULTILINE)
    return own + flags((*command.FIELDS, cli.DEVICES))
