"""cleaner.js in a real browser with a model that plays Python's part; no Jupyter."""

import json
from pathlib import Path

import pytest

import imgclean.review
from imgclean.review.cleaner import ImageCleaner

HERE = Path(imgclean.review.__file__).parent
FAKE = """
window.sent = []; window.dead = false; window.mute = false;
const listeners = [];
const groups = [0, 1, 2, 3].map(g => ({id: g, similarity: .99 - g / 100, reason: 'largest', more: 0, grade: 'edited', leak: g === 1, clash: g === 1, apart: [], protected: g === 3 ? [7] : [], images: [0, 1].map(j => (
  {id: 2 * g + j, name: `n${2 * g + j}.jpg`, label: g === 1 && j ? 'dog' : 'cat', split: g === 1 ? ['train', 'valid'][j] : null, grade: j ? 'edited' : null, what: j ? 'cropped to 72 %' : '', pixels: '9×9', bytes: '1 kB', similarity: j ? .9 : 1, mark: null, relabeled: false}))}));
const counts = {groups: 4, decided: 0, delete: 0, relabel: 0, images: 8, shown: 4};
window.emit = (m, buffers = []) => listeners.forEach(f => f(m, buffers));
const answers = window.answers = {
  page: m => {
    const focus = 'after' in m ? groups.findIndex((g, k) => k > m.after && !window.decided?.includes(k)) : undefined;
    const page = focus === undefined ? m.page : Math.max(0, Math.floor(focus / 2));
    const answer = {type: 'page', page, last: 1, groups: groups.slice(2 * page, 2 * page + 2), counts, shared: Boolean(window.shared)};
    emit(focus === undefined ? answer : {...answer, view: m.view, focus: focus < 0 ? null : focus});
  },
  align: m => emit({type: 'aligned', left: m.left, right: m.right, sizes: [[90, 60], [45, 30]], matrix: window.matrix ?? null}),
  filter: m => emit({type: 'filtered', view: m.view, filter: m.fields}),
  pictures: m => emit({type: 'pictures', full: Boolean(m.full), ids: [], missing: {}}),
  plan: m => emit({type: 'plan', view: m.view, csv: '/x/cleaned.csv', action: m.action ?? 'csv', move: 2, refused: window.refused ?? {}, images: 8, delete: 2, bytes: '2 kB', relabel: 0, unreadable: 0, lost: window.lost ?? []}),
  do: m => {
    if (window.refuse) return emit({type: 'refused', seq: m.seq, view: m.view, text: 'the disk is full', counts});
    if (m.do === 'keep_best') m.groups.forEach(g => emit({type: 'changed', do: m.do, marks: {[2 * g]: 'keep', [2 * g + 1]: 'delete'}, labels: {}, counts}));
    emit({type: 'done', seq: m.seq, view: m.view, note: '', counts, ...(window.undone && m.do === 'undo' ? {group: window.undone} : {})});
  },
};
const model = {
  get: name => ({single: SINGLE, vocab: ['cat', 'dog'], grades: ['exact', 'edited']})[name],
  on: (_, f) => listeners.push(f), off: (_, f) => listeners.splice(listeners.indexOf(f), 1),
  send: m => { if (window.dead) throw new Error('Cannot send'); window.sent.push(m); if (!window.mute) setTimeout(() => answers[m.type](m), 0); },
};
window.leak = [];
document.addEventListener('keydown', e => window.leak.push(e.key), {capture: true}); // as Notebook 7 listens
window.cleanup = (await import(URL.createObjectURL(new Blob([SOURCE], {type: 'text/javascript'})))).default.render({model, el: document.body});
"""


@pytest.fixture
def grid(chrome, request):
    page = chrome.new_page(viewport={"width": 900, "height": 900})
    errors = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.set_content(f"<style>{(HERE / 'cleaner.css').read_text()}</style>")
    single = "true" if getattr(request, "param", "") == "single" else "false"
    source = FAKE.replace("SOURCE", json.dumps(ImageCleaner._esm)).replace("SINGLE", single)
    page.evaluate(f"async () => {{ {source} }}")
    page.wait_for_selector(".imgclean-cell")
    yield page
    page.close()
    assert errors == []


def did(page):
    return [m for m in page.evaluate("window.sent") if m["type"] == "do"]


def marks(page):
    return page.evaluate("[...document.querySelectorAll('.imgclean-cell')].map(c => c.dataset.mark)")


def focused(page):
    return page.evaluate("Number(document.activeElement.dataset.id)")


def start(page):
    page.locator(".imgclean-cell").first.focus()


def ask_to_apply(page):
    page.get_by_role("button", name="Apply").click()
    page.wait_for_selector("dialog[open]")


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
    grid.get_by_label("Similarity from").fill("0.95")
    grid.get_by_label("Sort").select_option("grade")
    asked = [m for m in grid.evaluate("window.sent") if m["type"] == "filter"][-1]["fields"]
    assert asked == {"state": "undecided", "label": None, "grade": None, "min_similarity": 0.95, "leak": False,
                     "clash": True, "sort": "grade"}  # fmt: skip
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
    assert "aligned as checked" in grid.locator(".imgclean-caption").inner_text()
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
