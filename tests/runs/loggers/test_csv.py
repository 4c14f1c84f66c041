import math

from metarule.runs.loggers import CSV


def table(directory, rows, earlier=()):
    logger = CSV()
    logger.open(directory, {}, earlier)
    for row in rows:
        logger.log(row)
    logger.close({"held_out.learned.mean": 0.9})
    return (directory / "metrics.csv").read_text()


ROWS = [
    {"step": 1, "loss": 0.1, "theta.projection 1, pre": 1e-7},
    {"step": 2, "loss": math.nan, "theta.projection 1, pre": 2.0, "held_out.solved": 0.5},
    {"step": 3, "loss": 0.25, "theta.projection 1, pre": -1.0},
]
TEXT = """\
step,loss,"theta.projection 1, pre",held_out.solved
1,0.1,1e-07,
2,,2.0,0.5
3,0.25,-1.0,
"""


def test_a_metric_has_a_column_that_is_empty_where_it_is_not_measured(tmp_path):
    assert table(tmp_path, ROWS) == TEXT


def test_a_resumed_table_equals_an_uninterrupted_one(tmp_path):
    for taken in range(4):
        table(tmp_path, [*ROWS[:taken], {"step": taken + 1, "void": 1.0}])
        assert table(tmp_path, ROWS[taken:], earlier=ROWS[:taken]) == TEXT
