import numpy as np
import pytest

from imgclean.find.groups import Group, Groups, Suspect
from imgclean.find.pairs import Pairs
from imgclean.review.decisions import Apart, Relation
from imgclean.review.regroup import as_groups, split_apart


def test_as_groups_takes_what_finders_and_v1_return():
    assert as_groups([(1, 0), [3, 2, 4]]) == [(1, 0), (3, 2, 4)]
    assert as_groups([1, 0, 3, 2], duplicates=True) == [(1, 0), (3, 2)]
    assert as_groups(np.array([1, 0])) == [(1,), (0,)] == as_groups([1, 0], duplicates=False)
    group = Group((1, 0), 0.9)
    assert as_groups([group])[0] is group and as_groups([]) == []


def test_arrays_of_pairs_are_groups_and_nonsense_is_refused():
    torch = pytest.importorskip("torch")
    pairs = [[0, 2], [5, 7]]
    for idxs in (
        np.array(pairs),
        torch.tensor(pairs),
        [torch.tensor(p) for p in pairs],
        [np.array(p) for p in pairs],
    ):
        assert as_groups(idxs, duplicates=True) == [(0, 2), (5, 7)]
    assert as_groups(torch.tensor([1, 0]), duplicates=True) == [(1, 0)]
    for idxs in ([0.0, 2.0], [(0, 2), 5], ["a.jpg", "b.jpg"], [None]):
        with pytest.raises(TypeError, match="give groups of item indices"):
            as_groups(idxs)


def test_what_a_second_look_found_stays_with_the_groups():
    groups = Groups([Group((1, 0))], Pairs.of([1], [0], [0.9]), {"cut": 0.5})
    groups.found = object()
    again = as_groups(groups)
    assert (again.found, again.pairs, again.settings) == (groups.found, groups.pairs, groups.settings)


def test_what_is_told_apart_is_in_no_group_together():
    apart = Apart()
    group = Group((4, 2, 7, 5), 0.9, (1.0, 0.99, 0.98, 0.97), "largest", (2,))
    group.dataset = b"key"
    assert split_apart(group, apart) == [group]
    apart.set(Relation([7], [4, 2, 5]), True)
    (left,) = split_apart(group, apart)
    assert left == (4, 2, 5) and left.scores == (1.0, 0.99, 0.97) and left.reason == "largest"
    assert left.protected == (2,) and left.dataset == b"key" and left.similarity == 0.9
    apart.set(Relation([5], [4, 2]), True)
    apart.set(Relation([7], [4, 2, 5]), None)
    assert split_apart(group, apart) == [(4, 2, 7)]  # 5 and 7 may be one, but 7 is 4, which 5 is not
    apart.set(Relation([7], [4, 2]), True)
    first, second = split_apart(group, apart)
    assert (first, second) == ((4, 2), (7, 5)) and second.scores == () and second.reason == ""
    apart.set(Relation(group, group), True)
    assert split_apart(group, apart) == []


def test_a_single_image_stays_a_group():
    apart = Apart()
    apart.set(Relation([3], [4]), True)
    assert split_apart(Group((3,)), apart) == [(3,)]


def test_what_is_known_of_a_suspect_goes_with_it():
    suspects = [Suspect(4, 0.1, "dog", "model: dog 97 %", b"key"), Suspect(2, 0.2, "cat", "", b"key")]
    for idxs in (suspects, suspects[:1], [*suspects, 7]):
        groups = as_groups(idxs)
        assert groups == [(k,) for k in idxs] and groups[0].reason == "model: dog 97 %"
        assert groups[0].predicted == "dog" and groups[0].dataset == b"key"
    assert as_groups([*suspects, 7])[2].predicted is None
    assert as_groups(suspects, duplicates=True) == [(4, 2)]
