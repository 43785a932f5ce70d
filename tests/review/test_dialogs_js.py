"""dialogs.js, filters.js and compare.js in a real browser with a model that plays Python's part; no Jupyter."""

import pytest
from asking import ask_to_apply, did, focused, marks, start


def test_apply_asks_first_with_cancel_in_focus(grid):
    ask_to_apply(grid)
    dialog = grid.locator("dialog")
    assert "6 of 8 images" in dialog.inner_text() and "null" not in dialog.inner_text()
    assert grid.evaluate("document.activeElement.textContent") == "Cancel"
    grid.keyboard.press("Escape")
    assert not dialog.is_visible() and did(grid) == []
    ask_to_apply(grid)
    grid.get_by_role("button", name="Write cleaned.csv").click()
    assert did(grid)[-1]["do"] == "apply" and did(grid)[-1]["lose_groups"] is False
    assert did(grid)[-1]["action"] == "csv"


def test_files_are_moved_only_where_a_person_says_so(grid):
    grid.evaluate("window.refused = {'a/<b>.jpg': 'it is protected'}")
    ask_to_apply(grid)
    grid.get_by_label("also move the files").check()
    dialog = grid.locator("dialog")
    grid.wait_for_function(
        "document.querySelector('dialog').innerText.includes('2 files (2 kB) leave the folder')"
    )
    assert "a/<b>.jpg: it is protected" in dialog.inner_text()
    assert grid.evaluate("document.activeElement.value") == "quarantine"
    grid.get_by_role("button", name="Write cleaned.csv and move").click()
    assert did(grid)[-1]["action"] == "quarantine"


def test_losing_every_copy_needs_a_tick(grid):
    grid.evaluate("window.lost = [1]")
    ask_to_apply(grid)
    write = grid.get_by_role("button", name="Write cleaned.csv")
    assert write.is_disabled() and "#2" in grid.locator("dialog").inner_text()
    grid.locator("dialog .imgclean-lose input").check()
    write.click()
    assert did(grid)[-1]["lose_groups"] is True


def test_rows_say_what_was_done_and_what_is_wrong(grid):
    rows = grid.locator(".imgclean-row")
    assert "edited: cropped to 72 %" in rows.nth(0).inner_text() and "leak" not in rows.nth(0).inner_text()
    assert "99.0 % sure" in rows.nth(0).inner_text()
    assert "labels differ" in rows.nth(1).inner_text() and "leak: train and valid" in rows.nth(1).inner_text()
    bold = grid.evaluate("[...document.querySelectorAll('.imgclean-facts b')].map(b => b.textContent)")
    assert bold == ["train", "valid"]  # sizes are the same


def test_filters_are_asked_of_python_and_shown_in_every_view(grid):
    grid.get_by_label("Show").select_option("undecided")
    grid.get_by_label("labels differ").check()
    grid.get_by_label("Probability from").fill("0.95")
    grid.get_by_label("Sort").select_option("grade")
    asked = [m for m in grid.evaluate("window.sent") if m["type"] == "filter"][-1]["fields"]
    assert asked == {"state": "undecided", "label": None, "grade": None, "min_similarity": 0.95, "leak": False,
                     "clash": True, "sort": "grade"}  # fmt: skip
    # What was asked first is answered first.
    grid.evaluate("new Promise(answered => setTimeout(answered, 50))")
    grid.evaluate(
        "emit({type: 'filtered', filter: {state: 'decided', sort: 'size', label: 'dog', leak: true}})"
    )
    assert (
        grid.get_by_label("Show").input_value() == "decided"
        and grid.locator(".imgclean-filters select").nth(1).input_value() == "dog"
    )
    assert (
        grid.get_by_label("across splits").is_checked()
        and not grid.get_by_label("labels differ").is_checked()
    )
    start(grid)
    assert "d" not in grid.evaluate("window.leak") and did(grid) == []


def test_a_filter_that_nothing_fits_says_so(grid):
    grid.evaluate(
        "answers.page = m => emit({type: 'page', page: 0, last: 0, groups: [], counts: {...{groups: 4, decided: 0, delete: 0, relabel: 0, images: 8, shown: 0}}})"
    )
    grid.get_by_label("Show").select_option("decided")
    grid.wait_for_selector(".imgclean-empty")
    assert "choose other filters" in grid.locator(".imgclean-empty").inner_text()
    assert "0 of 4 groups shown" in grid.locator(".imgclean-status").inner_text()


def test_suggestions_are_taken_for_a_page_or_for_all_exact(grid):
    grid.get_by_role("button", name="Accept suggestions on page").click()
    assert (did(grid)[-1]["do"], did(grid)[-1]["groups"]) == ("accept_suggestions", [0, 1])
    grid.get_by_role("button", name="Accept all exact").click()
    assert (did(grid)[-1]["groups"], did(grid)[-1]["grade"]) == (None, "exact")
    assert marks(grid) == [""] * 4  # what is suggested, Python knows


def test_another_picture_is_said_in_words(grid):
    grid.evaluate("""() => {
      const g = {id: 0, similarity: .9, reason: '', more: 0, protected: [], apart: [1], images: [0, 1].map(id => (
        {id, name: `n${id}`, label: 'cat', split: null, pixels: '9×9', bytes: '1 kB', similarity: 1, mark: id ? 'keep' : null}))};
      emit({type: 'page', page: 0, last: 1, groups: [g], counts: {groups: 4, decided: 0, delete: 0, relabel: 0, images: 8, shown: 4}}) }""")
    assert "≠ OTHER PICTURE" in grid.locator(".imgclean-cell").nth(1).inner_text()
    assert "≠" not in grid.locator(".imgclean-cell").nth(0).inner_text()
    start(grid)
    grid.keyboard.press("k")  # Python knows whom this reaches
    assert did(grid)[-1]["do"] == "keep_only" and marks(grid) == ["", "keep"]


BOXES = "[...document.querySelectorAll('.imgclean-pane img')].map(i => { const b = i.getBoundingClientRect(), p = i.parentElement.getBoundingClientRect(); return [b.left - p.left, b.top - p.top, b.width, b.height] })"


def compare(grid, *keys):
    start(grid)
    for key in (" ", *keys):
        grid.keyboard.press(key)
    grid.wait_for_timeout(100)
    return grid.evaluate(BOXES)


def test_pictures_of_different_sizes_are_compared_at_one_scale(grid):
    left, right = compare(grid)
    assert left == pytest.approx(right, abs=0.5) and left[2] / left[3] == pytest.approx(1.5, abs=0.01)


def test_zoom_and_pan_move_both_pictures_alike(grid):
    before = compare(grid)
    grid.keyboard.press("+")
    left, right = grid.evaluate(BOXES)
    assert left == pytest.approx(right, abs=0.5) and left[2] == pytest.approx(1.4 * before[0][2], abs=1)
    box = grid.locator(".imgclean-pane").first.bounding_box()
    grid.mouse.move(box["x"] + 50, box["y"] + 50)
    grid.mouse.down()
    grid.mouse.move(box["x"] + 80, box["y"] + 30)
    grid.mouse.up()
    moved = grid.evaluate(BOXES)
    for a, b in zip(moved, (left, right), strict=True):
        assert [a[0] - b[0], a[1] - b[1]] == pytest.approx([30, -20], abs=0.5)
    grid.mouse.wheel(0, -200)
    assert grid.evaluate(BOXES)[1][2] == pytest.approx(moved[1][2] * 2.718**0.5, rel=0.01)
    grid.keyboard.press("1")
    assert grid.evaluate(BOXES)[0][2] == pytest.approx(90, abs=0.5)
    grid.keyboard.press("0")
    assert grid.evaluate(BOXES)[0] == pytest.approx(before[0], abs=0.5)


def test_the_right_picture_lies_where_it_was_verified(grid):
    grid.evaluate("window.matrix = [-1, 0, 0, 1, 70, 10]")  # mirrored, and a crop of the left one
    left, right = compare(grid, "v")
    scale = left[2] / 90
    assert right == pytest.approx(
        [left[0] + 25 * scale, left[1] + 10 * scale, 45 * scale, 30 * scale], abs=0.5
    )
    assert "· aligned" in grid.locator(".imgclean-caption").inner_text()
    assert "edited: cropped to 72 %" in grid.locator(".imgclean-caption").inner_text()
    grid.keyboard.press("g")
    fitted = grid.evaluate(BOXES)[1]
    assert (
        fitted == pytest.approx(left, abs=0.5)
        and "not aligned" in grid.locator(".imgclean-caption").inner_text()
    )


def test_compare_has_its_own_keys_and_gives_the_focus_back(grid):
    start(grid)
    grid.keyboard.press(" ")
    stage = grid.locator(".imgclean-stage")
    assert stage.locator("img").count() == 2
    for key, mode in (("x", "difference"), ("f", "flicker"), ("v", "overlay"), ("s", "side")):
        grid.keyboard.press(key)
        assert stage.get_attribute("data-mode") == mode and stage.locator("img").count() == 2
    grid.keyboard.press("ArrowDown")  # must not move the grid behind
    grid.keyboard.press("d")
    assert did(grid)[-1]["ids"] == [1]
    grid.keyboard.press("Escape")
    assert not grid.locator("dialog").is_visible() and focused(grid) == 0 and marks(grid)[1] == "delete"


MAPS = "[...document.querySelectorAll('.imgclean-map')].map(i => i.naturalWidth)"


@pytest.mark.parametrize("grid", ["explained"], indirect=True)
def test_regions_that_agree_lie_on_both_pictures_and_move_with_them(grid):
    before = compare(grid)
    grid.keyboard.press("r")
    grid.wait_for_function(f"{MAPS}.every(Boolean) && {MAPS}.length === 2")
    first, first_map, second, second_map = grid.evaluate(BOXES)
    assert first == pytest.approx(first_map, abs=0.5) and first == pytest.approx(before[0], abs=0.5)
    assert second == pytest.approx(second_map, abs=0.5)
    assert "(cosines 0.25 to 1.00)" in grid.locator(".imgclean-caption").inner_text()
    grid.keyboard.press("+")
    grid.keyboard.press("g")
    zoomed = grid.evaluate(BOXES)
    assert zoomed[0] == pytest.approx(zoomed[1], abs=0.5) and zoomed[0][2] > 1.3 * first[2]
    grid.keyboard.press("s")
    assert grid.locator(".imgclean-map").count() == 0
    grid.keyboard.press("r")
    assert grid.locator(".imgclean-map").count() == 2
    asked = [m for m in grid.evaluate("window.sent") if m["type"] == "explain"]
    assert asked == [{"type": "explain", "left": 0, "right": 1}] and did(grid) == []


@pytest.mark.parametrize("grid", ["explained"], indirect=True)
def test_regions_are_said_to_be_computed_or_why_there_are_none(grid):
    grid.evaluate("window.mute = true")
    compare(grid, "r")
    caption = grid.locator(".imgclean-caption")
    assert "computing which regions agree" in caption.inner_text()
    assert caption.get_attribute("aria-live") == "polite"
    grid.evaluate("emit({type: 'explained', left: 1, right: 0, low: 0, high: 1})")  # of another pair
    assert "computing" in caption.inner_text()
    grid.evaluate("emit({type: 'explained', left: 0, right: 1, error: 'the <b>model</b> is gone'})")
    assert "no map: the <b>model</b> is gone" in caption.inner_text()
    grid.keyboard.press("x")  # the other ways of looking go on
    assert grid.locator(".imgclean-stage").get_attribute("data-mode") == "difference"
    grid.keyboard.press("Escape")
    grid.evaluate("emit({type: 'explained', left: 0, right: 1, low: 0, high: 1}, [MAP, MAP])")  # too late


@pytest.mark.parametrize("grid", ["explained", "groups"], indirect=True)
def test_regions_are_offered_where_a_model_came_with_the_groups(grid, request):
    offered = request.node.callspec.params["grid"] == "explained"
    compare(grid, "r")
    assert grid.locator(".imgclean-stage").get_attribute("data-mode") == ("regions" if offered else "side")
    assert ("regions that agree" in grid.locator(".imgclean-keys").inner_text()) == offered
    grid.keyboard.press("Escape")
    grid.keyboard.press("?")
    assert ("Space, then r" in grid.locator("dialog").inner_text()) == offered


def test_changes_made_elsewhere_are_shown(grid):
    grid.evaluate("emit({type: 'changed', do: 'mark', marks: {3: 'keep'}, labels: {3: 'dog'}})")
    assert marks(grid) == ["", "", "", "keep"] and "dog" in grid.locator(".imgclean-cell").nth(3).inner_text()


def test_pictures_that_cannot_be_shown_say_why(grid):
    grid.evaluate("emit({type: 'pictures', full: false, ids: [], missing: {2: 'the file is <b>empty</b>'}})")
    assert (
        grid.locator(".imgclean-cell").nth(2).locator(".imgclean-missing").inner_text()
        == "the file is <b>empty</b>"
    )


def test_missing_pictures_stay_said_after_paging(grid):
    grid.evaluate("emit({type: 'pictures', full: false, ids: [], missing: {2: 'gone'}})")
    start(grid)
    for key in ("PageDown", "PageUp"):
        grid.keyboard.press(key)
        grid.wait_for_timeout(50)
    assert grid.locator(".imgclean-missing").inner_text() == "gone"


def test_capslock_changes_no_key_of_the_comparison(grid):
    start(grid)
    for key in (" ", "F", "D"):  # capitals without Shift
        grid.keyboard.press(key)
    assert grid.locator(".imgclean-stage").get_attribute("data-mode") == "flicker"
    assert marks(grid)[:2] == ["", "delete"]


def test_a_plan_that_comes_while_comparing_ends_the_comparison(grid):
    grid.evaluate("window.mute = true")
    grid.get_by_role("button", name="Apply").click()
    start(grid)
    grid.keyboard.press(" ")
    grid.evaluate("window.mute = false; answers.plan(window.sent.find(m => m.type === 'plan'))")
    grid.keyboard.press("d")
    assert did(grid) == [] and "Apply the decisions?" in grid.locator("dialog").inner_text()


def test_help_lists_the_keys(grid):
    start(grid)
    grid.keyboard.press("?")
    assert "keep this one, delete the rest" in grid.locator("dialog").inner_text()


@pytest.mark.parametrize("grid", ["single"], indirect=True)
def test_single_images_can_be_relabelled(grid):
    grid.locator("select").nth(1).select_option("dog")
    last = did(grid)[-1]
    assert (last["do"], last["ids"], last["value"]) == ("relabel", [1], "dog") and marks(grid) == [""] * 4
    start(grid)
    grid.keyboard.press("l")
    assert grid.evaluate("document.activeElement.tagName") == "SELECT"
    grid.keyboard.press("Escape")
    assert focused(grid) == 0


def test_the_view_cleans_up(grid):
    grid.evaluate("window.cleanup()")
    grid.evaluate("emit({type: 'changed', do: 'mark', marks: {0: 'keep'}, labels: {}})")
    assert marks(grid)[0] == ""
