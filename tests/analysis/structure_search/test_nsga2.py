"""Non-dominated layers and survivors of small sets of points, by hand."""

from metarule.analysis.structure_search.nsga2 import nondominated_layers, select


def test_each_layer_is_the_front_of_the_remaining_points():
    points = [(3.0, 3.0), (1.0, 4.0), (2.0, 2.0), (4.0, 1.0), (2.0, 5.0), (5.0, 5.0)]
    assert [sorted(layer) for layer in nondominated_layers(points)] == [[1, 2, 3], [0, 4], [5]]


def test_equal_points_share_a_layer():
    assert nondominated_layers([(1.0, 1.0), (2.0, 1.0), (1.0, 1.0)]) == [[0, 2], [1]]


def test_an_equal_and_a_larger_value_are_dominated():
    assert nondominated_layers([(1.0, 2.0), (1.0, 1.0), (0.0, 3.0)]) == [[1, 2], [0]]


def test_the_ends_of_a_layer_and_then_its_least_crowded_points_survive():
    # Crowding distances: ends ∞; (1, 8) has (4 + 6) / 20, (4, 4) has (8 + 6) / 20, (9, 2) has (6 + 4) / 20.
    points = [(0.0, 10.0), (1.0, 8.0), (4.0, 4.0), (9.0, 2.0), (10.0, 0.0)]
    assert set(select(points, 3)) == {0, 2, 4}
    assert set(select([*points, (11.0, 11.0)], 5)) == {0, 1, 2, 3, 4}


def test_complete_layers_survive_first():
    assert select([(2.0, 2.0), (1.0, 1.0), (3.0, 3.0)], 2) == [1, 0]
