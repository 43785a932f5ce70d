"""The filters of lone images, shown where a model's predictions are known."""

import pytest
from asking import did


def sent(page, kind):
    return [m for m in page.evaluate("window.sent") if m["type"] == kind]


@pytest.mark.parametrize("grid", ["predicted"], indirect=True)
def test_lone_images_are_filtered_by_prediction_and_label(grid):
    bar = grid.locator(".imgclean-filters")
    assert [label.strip() for label in bar.locator("label").all_inner_texts()] and bar.locator(
        "select"
    ).count() == 4
    bar.get_by_label("Predicted").select_option("dog")
    bar.get_by_label("Labelled").select_option("cat")
    assert sent(grid, "filter")[-1]["fields"] == {
        "state": "all", "sort": "found", "predicted": "dog", "actual": "cat",
    }  # fmt: skip
    grid.evaluate(
        "emit({type: 'filtered', filter: {state: 'all', sort: 'found', predicted: 'cat', actual: null}})"
    )
    assert bar.get_by_label("Predicted").input_value() == "cat"
    assert bar.get_by_label("Labelled").input_value() == ""


@pytest.mark.parametrize("grid", ["single", "groups"], indirect=True)
def test_without_predictions_there_is_nothing_to_filter_them_by(grid):
    assert grid.get_by_label("Predicted").count() == 0
    assert grid.locator(".imgclean-filters").count() == (
        grid.get_by_role("button", name="Compare").count() > 0
    )


@pytest.mark.parametrize("grid", ["predicted"], indirect=True)
def test_the_reason_stands_under_a_lone_image_and_nothing_is_deleted(grid):
    assert grid.locator(".imgclean-reason").first.inner_text() == "largest"
    grid.locator(".imgclean-cell").first.click()
    grid.keyboard.press("d")
    assert did(grid) == []
    grid.locator(".imgclean-cell select").first.select_option("dog")
    assert [m["do"] for m in did(grid)] == ["relabel"]


@pytest.mark.parametrize("grid", ["predicted", "single"], indirect=True)
def test_apply_is_offered_where_there_is_something_to_apply(grid, request):
    offered = grid.get_by_role("button", name="Apply").count()
    assert offered == (request.node.callspec.params["grid"] == "single")
