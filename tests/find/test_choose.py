import logging

from imgclean.find.choose import choose_method, exact_memory


def test_exact_while_it_can_be_afforded(caplog):
    caplog.set_level(logging.INFO)
    few = choose_method(60_000, 1280, device="cpu", memory=10**9)
    assert (few.method, few.expected_recall) == ("exact", 1.0) and few.memory == exact_memory(60_000, 1280)
    assert "exact, expected recall 1" in caplog.text


def test_clusters_for_too_many_rows_or_too_little_memory():
    many = choose_method(3_000_000, 512, device="cpu", memory=10**11)
    tight = choose_method(60_000, 1280, device="cpu", memory=10**6)
    for choice in (many, tight):
        assert choice.method == "clusters" and 0.9 < choice.expected_recall < 1
    assert "3000000 rows" in many.reason and "GB" in tight.reason
    assert choose_method(3_000_000, 512, device="cuda", memory=10**11).method == "exact"
