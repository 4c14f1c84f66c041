import errno

import jax.numpy as jnp
import numpy as np
import pytest

from metarule.config.toml import ConfigError
from metarule.runs.metrics import METRICS, append_metrics, last_metrics, read_metrics, truncate_metrics


def test_a_failing_disk_is_reported_with_the_file(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("metarule.runs.files.os.fsync", fail)
    for write in (lambda: append_metrics(tmp_path, [{}]), lambda: truncate_metrics(tmp_path, 0)):
        with pytest.raises(OSError, match="No space left on device: '.*metrics.jsonl'"):
            write()


def test_a_torn_last_line_is_omitted(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes('{"step": 1}\n{"trouble": "θ'.encode()[:-1])
    assert read_metrics(tmp_path) == [{"step": 1}]
    (tmp_path / "metrics.jsonl").write_bytes('{"trouble": "θ'.encode()[:-1] + b'"}\n')
    with pytest.raises(ConfigError, match="metrics.jsonl: damaged"):
        read_metrics(tmp_path)


def test_metrics_are_whole_lines_and_null_where_not_finite(tmp_path):
    rows = [{"step": 1, "loss": np.float32("nan"), "theta": jnp.array([1.0, jnp.inf])}, {"step": 2, "loss": 0.5}]
    append_metrics(tmp_path, rows)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": None, "theta": [1.0, None]}, {"step": 2, "loss": 0.5}]
    truncate_metrics(tmp_path, 1)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]


@pytest.mark.parametrize("length", [1, 100_000])
def test_the_last_whole_line_is_read(length, tmp_path):
    file = tmp_path / METRICS
    append_metrics(tmp_path, [])
    assert last_metrics(file) is None
    for number in range(1, 4):
        append_metrics(tmp_path, [{"step": number, "text": "x" * length}])
        assert last_metrics(file)["step"] == number
    with file.open("a") as opened:
        opened.write('{"step": 4, "te')
    assert last_metrics(file)["step"] == 3
    file.write_text('{"step": 1, "te')
    assert last_metrics(file) is None
