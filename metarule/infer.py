"""Shell for `python -m metarule.infer`; the command is `metarule.commands.infer`.

Imported, this module replaces itself by the function `metarule.runs.inferring.infer`: otherwise `import metarule.infer`
would rebind the public name `metarule.infer` to a module.
"""

import sys

if __name__ == "__main__":
    from metarule.commands.infer import main

    sys.exit(main(sys.argv[1:]))
else:
    from metarule.runs.inferring import infer

    sys.modules[__name__] = infer  # type: ignore[assignment]
