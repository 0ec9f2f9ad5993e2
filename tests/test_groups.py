from tunelab.groups import joined


def test_groups_that_share_a_recording_are_one() -> None:
    groups = joined(["album", "album", "compilation", "single", "other"], ["a", "b", "b", "c", "d"])
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups)) == 3
    # Through others, too, and in any order.
    chain = joined(["w", "x", "y", "z", "x", "y"], ["1", "2", "3", "4", "1", "2"])
    assert chain[0] == chain[1] == chain[2] == chain[4] == chain[5]
    assert chain[3] == "z"


def test_what_shares_nothing_stays_as_it_is() -> None:
    assert joined(["x", "y", "y"], ["1", "2", "3"]) == ["x", "y", "y"]
    assert joined([], []) == []
