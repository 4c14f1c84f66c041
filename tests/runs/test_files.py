import pytest

from metarule.config.toml import ConfigError
from metarule.runs.files import read_json


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_damaged_json_is_refused(text, tmp_path):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(ConfigError, match="summary.json: damaged"):
        read_json(tmp_path / "summary.json")
