"""Print the lowest versions that pyproject.toml allows, as constraints of pip."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
for needed in project["dependencies"] + project["optional-dependencies"]["test"]:
    print(re.sub(r"^([\w-]+)>=([\w.]+).*", r"\1==\2", needed))
