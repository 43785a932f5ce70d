"""cleaner.js in a real browser with a model that plays Python's part; no Jupyter."""

import pytest
from asking import did, focused, marks, start


def test_a_click_marks_and_a_second_takes_it_back(grid):
    cell = grid.locator(".imgclean-cell").nth(1)
    cell.click()
    assert marks(grid) == ["", "delete", "", ""] and "✕ DELETE" in cell.inner_text()
    cell.click()
    assert marks(grid) == ["", "", "", ""] and [m["value"] for m in did(grid)] == ["delete", None]


@pytest.mark.parametrize(
    ("keys", "action", "shown"),
    [
        ("d", {"do": "mark", "ids": [0], "value": "delete"}, ["delete", "", "", ""]),
        ("Delete", {"do": "mark", "ids": [0], "value": "delete"}, ["delete", "", "", ""]),
        ("ArrowRight k", {"do": "keep_only", "ids": [1], "groups": [0]}, ["delete", "keep", "", ""]),
        ("ArrowDown a", {"do": "keep_all", "groups": [1]}, ["", "", "keep", "keep"]),
        (
            "Shift+ArrowRight d",
            {"do": "mark", "ids": [0, 1], "value": "delete"},
            ["delete", "delete", "", ""],
        ),
        ("Shift+ArrowRight d d", {"do": "mark", "ids": [0, 1], "value": None}, ["", "", "", ""]),
        (
            "End Shift+ArrowLeft Shift+ArrowLeft k",
            {"do": "keep_only", "ids": [1, 2, 3], "groups": [0, 1]},
            ["delete", "keep", "keep", "keep"],
        ),
        ("Shift+ArrowDown a", {"do": "keep_all", "groups": [0, 1]}, ["keep"] * 4),
        ("Shift+ArrowDown Shift+ArrowDown b", {"do": "keep_best", "groups": [0, 1]}, ["keep", "delete"] * 2),
        ("End Shift+ArrowLeft o", {"do": "not_duplicate", "ids": [2, 3], "group": 1}, [""] * 4),
        ("Shift+ArrowDown ArrowUp d", {"do": "mark", "ids": [0], "value": "delete"}, ["delete", "", "", ""]),
        ("b", {"do": "keep_best", "groups": [0]}, ["keep", "delete", "", ""]),
        ("ArrowRight o", {"do": "not_duplicate", "ids": [1], "group": 0}, ["", "", "", ""]),
        ("Shift+D", {"do": "drop_all", "groups": [0]}, ["delete", "delete", "", ""]),
        (
            "Shift+ArrowRight Shift+D",  # Shift is still held
            {"do": "mark", "ids": [0, 1], "value": "delete"},
            ["delete", "delete", "", ""],
        ),
        (
            "Shift+ArrowDown Shift+D",  # not the whole of both groups
            {"do": "mark", "ids": [0, 1, 2], "value": "delete"},
            ["delete", "delete", "delete", ""],
        ),
        (
            "Shift+ArrowRight Shift+ArrowLeft Shift+D",  # one image is no range
            {"do": "drop_all", "groups": [0]},
            ["delete", "delete", "", ""],
        ),
        ("D", {"do": "mark", "ids": [0], "value": "delete"}, ["delete", "", "", ""]),  # CapsLock
        ("ArrowRight K", {"do": "keep_only", "ids": [1], "groups": [0]}, ["delete", "keep", "", ""]),
        ("U", {"do": "undo"}, ["", "", "", ""]),
        ("End m", {"do": "relabel_to_majority", "ids": [3], "groups": [1]}, [""] * 4),
        ("n", {"do": "accept", "group": 0}, ["keep", "keep", "", ""]),
        ("Enter", {"do": "accept", "group": 0}, ["keep", "keep", "", ""]),
        ("u", {"do": "undo"}, ["", "", "", ""]),
        ("Shift+U", {"do": "redo"}, ["", "", "", ""]),
    ],
)
def test_keys(grid, keys, action, shown):
    start(grid)
    for key in keys.split():
        grid.keyboard.press(key)
    assert {k: v for k, v in did(grid)[-1].items() if k not in ("type", "seq", "view")} == action
    grid.wait_for_timeout(50)
    assert marks(grid) == shown


def test_capslock_that_turns_shift_round_changes_no_key(grid):
    start(grid)
    grid.evaluate(
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'd', shiftKey: true, bubbles: true, composed: true}))"
    )
    assert did(grid)[-1]["do"] == "drop_all"


def chosen(page):
    return page.evaluate(
        "[...document.querySelectorAll('[aria-selected=true]')].map(c => Number(c.dataset.id))"
    )


def test_shift_chooses_a_range_that_is_shown_and_said(grid):
    start(grid)
    assert chosen(grid) == []
    grid.keyboard.press("Shift+ArrowDown")
    assert chosen(grid) == [0, 1, 2] and focused(grid) == 2
    assert grid.locator("[aria-live]").inner_text() == "3 images chosen"
    grid.keyboard.press("Shift+ArrowDown")  # the page's end is the range's
    grid.keyboard.press("Shift+ArrowRight")
    assert chosen(grid) == [0, 1, 2, 3]
    grid.keyboard.press("Shift+ArrowUp")
    assert chosen(grid) == [0]
    grid.keyboard.press("ArrowRight")
    assert chosen(grid) == [] and focused(grid) == 1
    grid.locator(".imgclean-cell").nth(3).click(modifiers=["Shift"])
    assert chosen(grid) == [1, 2, 3] and did(grid) == []
    grid.keyboard.press("PageDown")
    grid.wait_for_timeout(50)
    assert chosen(grid) == [] and focused(grid) == 4


def test_what_the_screen_guesses_spares_what_is_protected(grid):
    start(grid)
    grid.keyboard.press("PageDown")
    grid.wait_for_timeout(50)
    grid.evaluate("window.mute = true")
    for key in ("b", "ArrowDown", "b"):
        grid.keyboard.press(key)
    assert marks(grid) == ["keep", "delete", "keep", "keep"]
    grid.keyboard.press("k")
    assert marks(grid) == ["keep", "delete", "keep", "keep"]


def test_a_row_says_that_its_labels_differ_until_they_agree(grid):
    start(grid)
    rows = grid.locator(".imgclean-row")
    assert (
        "labels differ and tie: 1 cat, 1 dog" in rows.nth(1).inner_text()
        and "differ" not in rows.nth(0).inner_text()
    )
    assert grid.locator(".imgclean-clash").all_inner_texts() == ["cat", "dog"]
    grid.keyboard.press("End")
    grid.keyboard.press("m")
    grid.wait_for_function("!document.body.innerText.includes('labels differ and')")
    assert rows.nth(1).locator(".imgclean-label").all_inner_texts() == ["dog", "dog"]
    assert grid.locator(".imgclean-clash").count() == 0 and focused(grid) == 3


def test_labels_are_underlined_only_where_python_calls_it_a_clash(grid):
    start(grid)
    grid.evaluate("emit({type: 'changed', do: 'mark', marks: {3: 'delete'}, labels: {}, clash: {1: ''}})")
    assert grid.locator(".imgclean-clash").count() == 0
    grid.evaluate("emit({type: 'changed', do: 'undo', marks: {3: null}, labels: {}, clash: {1: 'differ'}})")
    assert grid.locator(".imgclean-clash").all_inner_texts() == ["cat", "dog"]


def test_what_is_protected_stays_where_a_whole_group_is_deleted(grid):
    start(grid)
    grid.keyboard.press("PageDown")
    grid.wait_for_timeout(50)
    grid.evaluate("window.mute = true")
    for key in ("ArrowDown", "Shift+D"):
        grid.keyboard.press(key)
    assert marks(grid) == ["", "", "delete", ""]


def test_moving(grid):
    start(grid)
    walk = []
    for key in [
        "ArrowRight",
        "ArrowRight",
        "ArrowUp",
        "ArrowDown",
        "End",
        "Home",
        "PageDown",
        "ArrowDown",
        "ArrowUp",
        "PageUp",
    ]:
        grid.keyboard.press(key)
        grid.wait_for_timeout(30)
        walk.append(focused(grid))
    assert walk == [1, 2, 0, 2, 3, 0, 4, 6, 4, 0]


def test_keys_act_on_the_image_that_has_the_focus_however_it_got_there(grid):
    start(grid)
    grid.locator(".imgclean-cell").nth(3).evaluate("cell => cell.focus()")
    grid.keyboard.press("d")
    assert marks(grid) == ["", "", "", "delete"]


def test_while_a_page_is_on_its_way_keys_and_clicks_decide_nothing(grid):
    start(grid)
    grid.wait_for_timeout(100)
    grid.evaluate("window.mute = true; window.sent.length = 0")
    grid.keyboard.press("PageDown")  # prefetched: shown at once
    grid.wait_for_timeout(50)
    assert focused(grid) == 4
    grid.evaluate("emit({type: 'reload'})")  # all pages are out of date
    grid.keyboard.press("PageUp")
    for key in "dkabnu":
        grid.keyboard.press(key)
    grid.locator(".imgclean-cell").first.click()
    assert did(grid) == []
    grid.evaluate("window.mute = false; answers.page({type: 'page', page: 0})")
    start(grid)
    grid.keyboard.press("d")
    assert did(grid)[-1]["ids"] == [0]


def test_refused_guesses_are_replaced_by_pythons_marks(grid):
    start(grid)
    grid.evaluate("window.mute = true")
    grid.keyboard.press("d")
    grid.keyboard.press("d")
    first, second = did(grid)
    grid.evaluate("window.mute = false")
    for m in (first, second):
        grid.evaluate(
            f"emit({{type: 'refused', seq: {m['seq']}, view: '{m['view']}', text: 'the disk is full'}})"
        )
    grid.wait_for_timeout(50)
    assert marks(grid) == [""] * 4 and "disk is full" in grid.locator(".imgclean-banner").inner_text()


def test_answers_to_another_view_are_not_taken(grid):
    start(grid)
    grid.evaluate("window.mute = true")
    grid.keyboard.press("d")
    seq = did(grid)[-1]["seq"]
    grid.evaluate(f"emit({{type: 'refused', seq: {seq}, view: 'other', text: 'not yours'}})")
    grid.evaluate(
        "emit({type: 'plan', view: 'other', action: 'csv', lost: [], csv: '', images: 1, delete: 0, relabel: 0, bytes: ''})"
    )
    assert marks(grid)[0] == "delete" and not grid.locator("dialog").is_visible()
    assert not grid.locator(".imgclean-banner").is_visible()


def test_what_was_undone_is_shown(grid):
    start(grid)
    grid.evaluate("window.undone = {id: 3, page: 1}")
    grid.keyboard.press("u")
    grid.wait_for_timeout(100)
    assert focused(grid) == 6


def test_who_has_moved_on_is_not_pulled_back_by_an_undo(grid):
    start(grid)
    grid.wait_for_timeout(100)
    grid.evaluate("window.mute = true; window.undone = {id: 0, page: 0}")
    grid.keyboard.press("u")
    grid.keyboard.press("PageDown")
    grid.evaluate("answers.do(window.sent.find(m => m.do === 'undo'))")
    grid.wait_for_timeout(50)
    assert focused(grid) == 4


@pytest.mark.parametrize("shared", [True, False])
def test_suggestions_for_groups_that_share_images_wait_for_python(grid, shared):
    grid.evaluate(
        f"answers.page({{type: 'page', page: 0}}); window.mute = true; window.shared = {str(shared).lower()}"
    )
    grid.evaluate("answers.page({type: 'page', page: 0})")
    start(grid)
    grid.keyboard.press("b")
    assert marks(grid) == (["", "", "", ""] if shared else ["keep", "delete", "", ""])


def test_accept_skips_pages_that_are_decided(grid):
    start(grid)
    grid.evaluate("window.decided = [0, 1, 2]")
    grid.keyboard.press("ArrowDown")
    grid.keyboard.press("n")
    grid.wait_for_timeout(100)
    assert focused(grid) == 6


def test_accept_goes_to_the_next_undecided_group_and_page(grid):
    start(grid)
    for key, expected in (("n", 2), ("n", 4), ("b", 4), ("n", 6)):
        grid.keyboard.press(key)
        grid.wait_for_timeout(30)
        assert focused(grid) == expected


def test_no_plain_key_leaves_the_grid_but_the_notebooks_own_do(grid):
    start(grid)
    for key in [
        "d",
        "d",
        "x",
        "c",
        "v",
        "a",
        "m",
        "1",
        "0",
        "0",
        "i",
        "i",
        "z",
        "ArrowDown",
        " ",
        "x",
        "Escape",
    ]:
        grid.keyboard.press(key)
    grid.get_by_role("button", name="Undo").focus()
    for key in ["d", "d", "x"]:
        grid.keyboard.press(key)
    assert grid.evaluate("window.leak") == []
    start(grid)
    grid.keyboard.press("Control+s")
    grid.keyboard.press("Shift+Enter")
    grid.keyboard.press("Tab")
    assert [k for k in grid.evaluate("window.leak") if k not in ("Control", "Shift")] == ["s", "Enter", "Tab"]


def test_refused_actions_go_back_and_are_said(grid):
    grid.evaluate("window.refuse = true")
    grid.locator(".imgclean-cell").nth(0).click()
    grid.wait_for_selector(".imgclean-banner:visible")
    assert marks(grid) == [""] * 4 and "disk is full" in grid.locator(".imgclean-banner").inner_text()


def test_a_dead_kernel_is_said_and_marks_go_back(grid):
    grid.evaluate("window.mute = true")
    grid.locator(".imgclean-cell").nth(0).click()
    assert marks(grid)[0] == "delete"
    grid.evaluate("window.dead = true")
    grid.locator(".imgclean-cell").nth(1).click()
    assert marks(grid) == [""] * 4
    assert "NOT recorded" in grid.locator(".imgclean-banner").inner_text()


def test_a_silent_kernel_is_said_until_it_answers(grid):
    grid.evaluate("window.mute = true")
    grid.locator(".imgclean-cell").nth(0).click()
    grid.wait_for_selector(".imgclean-banner:visible", timeout=5000)
    assert "not saved until it answers" in grid.locator(".imgclean-banner").inner_text()
    last = did(grid)[-1]
    grid.evaluate(f"emit({{type: 'done', seq: {last['seq']}, view: '{last['view']}', note: ''}})")
    assert not grid.locator(".imgclean-banner").is_visible() and marks(grid)[0] == "delete"


def test_a_refused_plan_is_said_and_waited_for_no_longer(grid):
    grid.evaluate("""answers.plan = (m) => {
        emit({type: 'refused', seq: null, view: m.view, text: 'no csv here', counts: {groups: 4, decided: 0, delete: 0, relabel: 0, images: 8, shown: 4}});
        answers.page({page: 0});
    }; null""")  # as PredictionsCorrector answers
    grid.evaluate(  # three seconds are over at once
        "() => { const wait = setTimeout; window.setTimeout = (act, ms) => wait(act, ms / 100) }"
    )
    grid.get_by_role("button", name="Apply").click()
    grid.wait_for_timeout(100)
    assert grid.get_by_role("alert").inner_text() == "no csv here"
    assert grid.locator("dialog[open]").count() == 0
