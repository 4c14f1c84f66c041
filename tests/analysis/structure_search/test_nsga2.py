"""Non-dominated layers and survivors of small sets of points, by hand."""

from metarule.analysis.structure_search.nsga2 import layers, selected


def test_layers_are_peeled_off_front_by_front():
    points = [(3.0, 3.0), (1.0, 4.0), (2.0, 2.0), (4.0, 1.0), (2.0, 5.0), (5.0, 5.0)]
    assert [sorted(layer) for layer in layers(points)] == [[1, 2, 3], [0, 4], [5]]


def test_equal_points_share_a_layer():
    assert layers([(1.0, 1.0), (2.0, 1.0), (1.0, 1.0)]) == [[0, 2], [1]]


def test_an_equal_value_is_not_enough_to_survive_beside_a_smaller_one():
    assert layers([(1.0, 2.0), (1.0, 1.0), (0.0, 3.0)]) == [[1, 2], [0]]


def test_the_ends_of_a_layer_and_then_its_loneliest_points_survive():
    # Room: ends ∞; (1, 8) has (4 + 6) / 20, (4, 4) has (8 + 6) / 20, (9, 2) has (6 + 4) / 20.
    points = [(0.0, 10.0), (1.0, 8.0), (4.0, 4.0), (9.0, 2.0), (10.0, 0.0)]
    assert set(selected(points, 3)) == {0, 2, 4}
    assert set(selected([*points, (11.0, 11.0)], 5)) == {0, 1, 2, 3, 4}


def test_whole_layers_come_first():
    assert selected([(2.0, 2.0), (1.0, 1.0), (3.0, 3.0)], 2) == [1, 0]
