"""A grid of four groups in a real browser, without Jupyter."""

import json
from pathlib import Path

import pytest
from pictures import write_pictures

import imgclean.review
from imgclean.review.cleaner import ImageCleaner

HERE = Path(imgclean.review.__file__).parent
FAKE = """
window.sent = []; window.dead = false; window.mute = false;
const listeners = [];
const groups = [0, 1, 2, 3].map(g => ({id: g, similarity: .99 - g / 100, reason: 'largest', more: 0, grade: 'edited', leak: g === 1, clash: g === 1 ? 'labels differ and tie: 1 cat, 1 dog' : '', apart: [], protected: g === 3 ? [7] : [], images: [0, 1].map(j => (
  {id: 2 * g + j, name: `n${2 * g + j}.jpg`, label: g === 1 && j ? 'dog' : 'cat', split: g === 1 ? ['train', 'valid'][j] : null, grade: j ? 'edited' : null, what: j ? 'cropped to 72 %' : '', pixels: '9×9', bytes: '1 kB', similarity: j ? .9 : 1, mark: null, relabeled: false}))}));
const MAP = window.MAP = new Uint8Array(await (await new Promise(made => { // a picture of one pixel
  const c = Object.assign(document.createElement('canvas'), {width: 1, height: 1}); c.getContext('2d').fillRect(0, 0, 1, 1); c.toBlob(made) })).arrayBuffer());
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
  explain: m => emit({type: 'explained', left: m.left, right: m.right, ...(window.explained ?? {low: .25, high: 1})}, window.explained?.error ? [] : [MAP, MAP]),
  filter: m => emit({type: 'filtered', view: m.view, filter: m.fields}),
  pictures: m => emit({type: 'pictures', full: Boolean(m.full), ids: [], missing: {}}),
  plan: m => emit({type: 'plan', view: m.view, csv: '/x/cleaned.csv', action: m.action ?? 'csv', move: 2, refused: window.refused ?? {}, images: 8, delete: 2, bytes: '2 kB', relabel: 0, unreadable: 0, lost: window.lost ?? []}),
  do: m => {
    if (window.refuse) return emit({type: 'refused', seq: m.seq, view: m.view, text: 'the disk is full', counts});
    if (m.do === 'relabel_to_majority') {
      emit({type: 'changed', do: 'relabel', marks: {}, labels: {2: 'dog', 3: 'dog'}, clash: {1: ''}, counts});
    }
    if (m.do === 'keep_best') m.groups.forEach(g => emit({type: 'changed', do: m.do, marks: {[2 * g]: 'keep', [2 * g + 1]: 'delete'}, labels: {}, counts}));
    emit({type: 'done', seq: m.seq, view: m.view, note: '', counts, ...(window.undone && m.do === 'undo' ? {group: window.undone} : {})});
  },
};
const model = {
  get: name => ({vocab: ['cat', 'dog'], grades: ['exact', 'edited'], ...TRAITS})[name],
  on: (_, f) => listeners.push(f), off: (_, f) => listeners.splice(listeners.indexOf(f), 1),
  send: m => { if (window.dead) throw new Error('Cannot send'); window.sent.push(m); if (!window.mute) setTimeout(() => answers[m.type](m), 0); },
};
window.leak = [];
document.addEventListener('keydown', e => window.leak.push(e.key), {capture: true}); // as Notebook 7 listens
window.cleanup = (await import(URL.createObjectURL(new Blob([SOURCE], {type: 'text/javascript'})))).default.render({model, el: document.body});
"""
TRAITS = {
    "groups": {"single": False},
    "explained": {"single": False, "explains": True},
    "single": {"single": True},
    "predicted": {"single": True, "predicted": ["cat", "dog"], "deletes": False, "applies": False},
}  # of the widget


@pytest.fixture(scope="session")
def tab(chrome):
    "One for all grids: each navigation begins with an empty window, in a process that runs already."
    page = chrome.new_page(viewport={"width": 900, "height": 900})
    yield page
    page.close()


@pytest.fixture
def grid(tab, request):
    page, errors = tab, []

    def failed(error):
        errors.append(str(error))

    page.goto("about:blank")
    page.on("pageerror", failed)
    page.set_content(f"<style>{(HERE / 'cleaner.css').read_text(encoding='utf-8')}</style>")
    source = FAKE.replace("SOURCE", json.dumps(ImageCleaner._esm))
    source = source.replace("TRAITS", json.dumps(TRAITS[getattr(request, "param", "groups")]))
    page.evaluate(f"async () => {{ {source} }}")
    page.wait_for_selector(".imgclean-cell")
    yield page
    page.evaluate("0")  # what went wrong until now is heard of before the answer
    page.remove_listener("pageerror", failed)
    assert errors == []


@pytest.fixture
def folder(tmp_path):
    "Fourteen images for a report, of which 0 and 1, and 3 and 4, have the same bytes."
    seeds = [1, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    write_pictures(tmp_path / "in", [f"{k:02}.jpg" for k in range(14)], seeds)
    return tmp_path / "in"
