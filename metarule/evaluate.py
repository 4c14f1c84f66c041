"""Shell for `python -m metarule.evaluate`; the command is `metarule.commands.evaluate`.

Imported, this module replaces itself by the function `metarule.analysis.evaluation.evaluate`: otherwise
`import metarule.evaluate` would rebind the public name `metarule.evaluate` to a module.
"""

import sys

if __name__ == "__main__":
    from metarule.commands.evaluate import main

    sys.exit(main(sys.argv[1:]))
else:
    from metarule.analysis.evaluation import evaluate

    sys.modules[__name__] = evaluate  # type: ignore[assignment]
