// The grid: shows what Python sends and reports what a person decides. Python owns every decision;
// the screen runs ahead of it by one message and goes back when Python refuses or does not answer.
// dialogs.js, compare.js, filters.js and rows.js come before it in the same module.

const ACK_MS = 2500; // a kernel that is silent for so long is busy or gone

function render({ model, el }) {
  const view = String(Math.random()); // answers go to every view of the widget; each takes its own
  let page = 0, last = 0, cursor = 0, anchor = null, seq = 0, dead = false, wanted = null;
  let drawn = null; // the page on screen; while another one is on its way, keys decide nothing
  let shared = false; // whether groups share images, as fastai v1's pairs do
  let doubtful = false; // an action was refused, so what the screen guessed may be wrong
  let cells = []; // on screen, in order: {cell, img, image, group, word, label}
  let counts = null;
  const pages = new Map(); // page -> groups
  const pictures = new Map(); // item -> object URL of its thumbnail
  const marks = new Map(); // item -> "delete" | "keep"
  const labels = new Map(); // item -> label
  const pending = new Map(); // seq -> {timer, undo}
  const asked = new Set(); // thumbnails under way
  const missing = new Map(); // item -> why it cannot be shown

  const button = (text, act, cls = "") =>
    h("button", { type: "button", textContent: text, className: cls, onclick: () => act() });
  const prev = button("‹ Previous", () => go(page - 1));
  const next = button("Next ›", () => go(page + 1));
  const plan = (action) => ask({ type: "plan", view, action });
  const applyText = (n) => (model.get("exports") ? "Export decisions…" : n ? `Apply ${n}…` : "Apply…");
  const apply = button(applyText(0), () => plan("csv"), "imgclean-apply");
  const status = h("span", { className: "imgclean-status", role: "status" });
  const banner = h("div", { className: "imgclean-banner", role: "alert", hidden: true });
  const live = h("div", { className: "imgclean-hidden", "aria-live": "polite" });
  const grid = h("div", { className: "imgclean-grid", role: "grid", "aria-label": "Groups of similar images", "aria-multiselectable": "true" });
  const single = model.get("single"), explains = model.get("explains") === true;
  const { dialog, open, help, confirm } = makeDialogs({
    button, plan, explains, apply: (details) => act("apply", details), back: () => focus(cursor), closed: () => comparison.closed(),
  });
  const at = (id) => cells.findIndex((c) => c.image.id === id);
  const comparison = makeCompare({ dialog, open, button, marks, pictures, post, explains, toggle: (id) => toggle([cells[at(id)].image]), other: (id) => notDuplicate([cells[at(id)].image], cells[at(id)].group) });
  const looked = (model.get("grades") ?? []).length > 1; // there was a second look: similarities of groups are probabilities
  const suggest = single ? [] : [button("Accept suggestions on page", takePage),
    button("Accept all exact", () => act("accept_suggestions", { groups: null, grade: "exact" }))];
  const bar = h("div", { className: "imgclean-bar", role: "toolbar", "aria-label": "Review" }, prev, next, ...suggest,
    button("Undo", () => act("undo")), button("Redo", () => act("redo")), button("? Keys", help), model.get("applies") === false ? null : apply, status);
  const filters = makeFilters({ vocab: model.get("vocab") ?? [], grades: model.get("grades") ?? [], predicted: model.get("predicted") ?? [], single, set: (fields) => ask({ type: "filter", view, fields }) });
  const root = h("div", { className: "imgclean" }, bar, filters.bar, banner, live, grid, dialog);
  el.append(root);

  // ---- to Python

  function post(message) {
    try {
      model.send(message);
      return true;
    } catch {
      disconnected();
      return false;
    }
  }

  // A question without consequences; only its silence is worth a word.
  function ask(message) {
    clearTimeout(wanted);
    wanted = setTimeout(() => warn("No answer from the kernel yet: it is busy, or gone. If it is gone, run the cell again."), ACK_MS);
    post(message);
  }

  function act(what, details = {}, guess = {}) {
    if (dead || drawn !== page) return;
    const before = Object.keys(guess).map((id) => [id, marks.get(Number(id)) ?? null]);
    setMarks(guess);
    const mine = ++seq;
    const timer = setTimeout(() => warn("No answer from the kernel yet: your last actions are not saved until it answers."), ACK_MS);
    pending.set(mine, { timer, page, what, back: () => setMarks(Object.fromEntries(before)) });
    post({ type: "do", do: what, seq: mine, view, ...details });
  }

  function disconnected() {
    dead = true;
    for (const { timer, back } of [...pending.values()].reverse()) { clearTimeout(timer); back(); }
    pending.clear();
    warn("Disconnected from the kernel: the last action was NOT recorded. Run the cell again; all saved decisions are still there.");
  }

  function answered(number) {
    const waiting = pending.get(number);
    if (!waiting) return null;
    clearTimeout(waiting.timer);
    pending.delete(number);
    if (!pending.size) {
      if (!doubtful) banner.hidden = true;
      else post({ type: "page", page }); // Python's marks, in place of the guesses
    }
    return waiting;
  }

  // ---- from Python

  const handlers = {
    page(m) {
      if (m.view && m.view !== view) return;
      clearTimeout(wanted);
      if (!pending.size && !doubtful && !banner.classList.contains("imgclean-good")) banner.hidden = true;
      doubtful = doubtful && pending.size > 0;
      last = m.last;
      shared = m.shared;
      if (m.filter) filters.sync(m.filter);
      if (m.view) { page = m.page; cursor = 0; drawn = drawn === page ? page : null; }
      const before = shape(pages.get(m.page));
      pages.set(m.page, m.groups);
      for (const group of m.groups) for (const image of group.images) note(image);
      count(m.counts);
      if (m.page === page) before === shape(m.groups) && drawn === page ? paint() : draw();
      if (m.focus !== undefined && m.focus !== null) toGroup(m.focus, m.view && root.contains(document.activeElement));
      if (m.focus === null) say("every group is decided");
      // The next page is fetched while this one is looked at.
      if (m.page === page && page < last && !pages.has(page + 1)) post({ type: "page", page: page + 1 });
      if (m.page === page + 1) fetchPictures(m.groups);
    },
    pictures(m, buffers) {
      m.ids.forEach((id, k) => {
        const url = URL.createObjectURL(new Blob([buffers[k]], { type: "image/jpeg" }));
        if (m.full) comparison.showFull(id, url);
        else { pictures.set(id, url); asked.delete(id); cells.filter((c) => c.image.id === id).forEach(paintPicture); }
      });
      for (const [id, reason] of Object.entries(m.missing)) {
        missing.set(Number(id), reason);
        cells.filter((c) => c.image.id === Number(id)).forEach(paintPicture);
      }
    },
    changed(m) {
      for (const [id, label] of Object.entries(m.labels)) labels.set(Number(id), label);
      for (const group of [...pages.values()].flat()) group.clash = m.clash?.[group.id] ?? group.clash;
      setMarks(m.marks);
      count(m.counts);
    },
    filtered(m) {
      filters.sync(m.filter);
      pages.clear();
      page = cursor = 0;
      drawn = null;
      ask({ type: "page", page });
    },
    aligned: (m) => comparison.aligned(m), explained: (m, buffers) => comparison.explained(m, buffers),
    reload() { pages.clear(); ask({ type: "page", page }); },
    done(m) {
      count(m.counts);
      const action = m.view === view && answered(m.seq);
      if (!action) return;
      if (m.note || SAID[action.what]) say(m.note || SAID[action.what]);
      if (/^(wrote|suggestions|nothing was left|undone|done again)/.test(m.note ?? "")) warn(m.note, "good");
      if (!m.group || action.page !== page) return; // who has moved on is not pulled back
      go(m.group.page); // what was undone is shown
      if (drawn === page) toGroup(m.group.id, true);
    },
    refused(m) {
      count(m.counts);
      if (m.view !== view) return;
      doubtful = true;
      answered(m.seq)?.back();
      warn(m.text);
    },
    plan(m) { if (m.view === view) { clearTimeout(wanted); confirm(m); } },
  };
  const shape = (groups) => JSON.stringify(groups?.map((g) => g.images.map((i) => i.id)));
  const receive = (m, buffers) => handlers[m.type]?.(m, buffers);
  model.on("msg:custom", receive);

  // ---- state to screen

  function note(image) {
    labels.set(image.id, image.label);
    if (!pending.size) image.mark ? marks.set(image.id, image.mark) : marks.delete(image.id);
  }
  function setMarks(changes) {
    for (const [id, mark] of Object.entries(changes)) mark ? marks.set(Number(id), mark) : marks.delete(Number(id));
    paint();
  }
  function count(c) {
    if (!c) return;
    counts = c;
    const done = single ? "" : `${c.decided} of ${c.groups} groups decided · `;
    const changed = c.relabel ? ` · ${c.relabel} relabelled` : "";
    const part = c.shown < c.groups ? `${c.shown} of ${c.groups} ${single ? "images" : "groups"} shown · ` : "";
    const apart = c.apart ? ` · ${c.apart} more told to be no duplicates` : "";
    status.textContent = `page ${page + 1} of ${last + 1} · ${part}${done}${c.delete} marked for deletion${changed}${apart}`;
    apply.textContent = applyText(c.apply);
    prev.disabled = page === 0;
    next.disabled = page >= last;
  }
  function warn(text, cls = "") {
    banner.className = `imgclean-banner ${cls ? "imgclean-" + cls : ""}`;
    banner.textContent = text;
    banner.hidden = false;
  }
  const say = (text) => { live.textContent = text; };

  function draw() {
    const hadFocus = root.contains(document.activeElement) && !dialog.open;
    const groups = pages.get(page);
    drawn = page;
    cells = [];
    grid.replaceChildren(...(groups.length ? groups.map(row) : [h("p", { className: "imgclean-empty", textContent: counts?.groups ? "No group fits: choose other filters above." : "No similar images were found: nothing to review." })]));
    cursor = Math.max(0, Math.min(cursor, cells.length - 1));
    paint();
    fetchPictures(groups);
    if (hadFocus) focus(cursor);
  }

  function row(group) {
    const among = (key) => [...new Set(group.images.map((image) => image[key]))].filter(Boolean);
    const differs = (key) => new Set(group.images.map((image) => image[key])).size > 1;
    const head = h("div", { className: "imgclean-head", role: "rowheader" },
      h("span", { textContent: single ? `image ${group.id + 1}` : `group ${group.id + 1}` }),
      group.similarity === null ? null : looked ? h("b", { textContent: `${(Math.floor(1000 * group.similarity) / 10).toFixed(1)} % sure`, title: "how surely the least certain pair shows one picture" })
        : h("b", { textContent: group.similarity.toFixed(3), title: "similarity of the weakest pair that holds the group together" }),
      group.grade ? h("span", { textContent: group.grade, title: "the least alike of the copies" }) : null,
      h("span", { className: "imgclean-flag imgclean-differ" }),
      group.leak ? h("span", { className: "imgclean-flag", textContent: `leak: ${among("split").join(" and ")}` }) : null,
      single ? null : h("button", { type: "button", tabIndex: -1, textContent: "Compare", onclick: () => lookAt(cells.findIndex((c) => c.group === group)) }));
    const shown = group.images.map((image, k) => cell(group, image, k, differs));
    const more = group.more ? [h("div", { className: "imgclean-more", role: "gridcell", textContent: `and ${group.more} more, which k, a and b decide as well` })] : [];
    return h("div", { className: "imgclean-row", role: "row", "data-group": group.id }, head, ...shown, ...more);
  }

  function cell(group, image, k, differs) {
    const at = cells.length;
    const img = h("img", { alt: "", draggable: false, onload: (e) => e.target.classList.toggle("imgclean-tiny", e.target.naturalWidth < 80) });
    const word = h("span", { className: "imgclean-word" });
    const label = h(single ? "select" : "span", { className: "imgclean-label" });
    const fact = (key, text) => (text ? h(differs(key) ? "b" : "span", { textContent: text }) : null);
    const facts = [fact("split", image.split), fact("pixels", image.pixels), fact("bytes", image.bytes)];
    const star = !single && k === 0 ? h("span", { className: "imgclean-star", textContent: "★ ", title: `suggested to keep: ${group.reason || "first of the group"}` }) : null;
    const alike = k && image.similarity !== null ? h("span", { className: "imgclean-alike", textContent: `${looked ? "cosine " : ""}${image.similarity.toFixed(3)}`, title: looked ? "cosine similarity to the image with the star, before the second look" : "similarity to the image with the star" }) : null;
    const node = h("div", { className: "imgclean-cell", role: "gridcell", tabIndex: -1, title: image.name, "data-id": image.id,
        onfocus: () => { if (cursor !== at) { cursor = at; anchor = null; paint(); } }, // screen readers move the focus themselves
        onmousedown: (e) => e.shiftKey && e.preventDefault(), // no text is selected
        onclick: (e) => { focus(at, e.shiftKey); if (e.target !== label && !e.shiftKey) toggle([image]); } },
      img, h("div", {}, word, alike), h("div", {}, star, label), h("div", { className: "imgclean-facts" }, ...facts),
      single || !k ? null : lookOf(image), h("div", { className: "imgclean-name" }, image.name),
      (star || single) && group.reason ? h("div", { className: "imgclean-reason", textContent: group.reason }) : null);
    const it = { cell: node, img, image, group, word, label };
    if (single) relabelMenu(it);
    cells.push(it);
    paintPicture(it);
    return node;
  }

  function relabelMenu(it) {
    const names = [...new Set([...model.get("vocab"), it.image.label ?? ""])];
    it.label.append(...names.map((name) => h("option", { value: name, textContent: name || "(no label)" })));
    it.label.tabIndex = -1;
    it.label.setAttribute("aria-label", "label");
    it.label.addEventListener("change", () => act("relabel", { ids: [it.image.id], value: it.label.value || null }));
  }

  function paint() {
    const picked = new Set(anchor === null ? [] : range());
    cells.forEach((it, k) => {
      const mark = marks.get(it.image.id) ?? "";
      it.cell.dataset.mark = mark;
      it.cell.tabIndex = k === cursor ? 0 : -1;
      it.cell.setAttribute("aria-selected", picked.has(it));
      it.word.textContent = mark !== "delete" && it.group.apart?.includes(it.image.id) ? "≠ OTHER PICTURE" : WORDS[mark] ?? "";
      const label = labels.get(it.image.id) ?? "";
      if (single) it.label.value = label;
      else { it.label.textContent = label; it.label.classList.toggle("imgclean-clash", Boolean(it.group.clash)); }
    });
    paintRows(grid, pages.get(page) ?? [], marks);
  }
  function paintPicture(it) {
    if (pictures.has(it.image.id)) it.img.src = pictures.get(it.image.id);
    else if (missing.has(it.image.id)) it.img.replaceWith(h("div", { className: "imgclean-missing", textContent: missing.get(it.image.id) }));
  }
  function fetchPictures(groups) {
    const ids = groups.flatMap((g) => g.images.map((i) => i.id)).filter((id) => !pictures.has(id) && !missing.has(id) && !asked.has(id));
    ids.forEach((id) => asked.add(id));
    // The first row comes first: small answers show sooner than one large one.
    for (let k = 0; k < ids.length; k += 12) post({ type: "pictures", ids: ids.slice(k, k + 12) });
  }

  // ---- moving and deciding

  // The images that a key decides about: a range, or the one under the cursor.
  const range = () => (anchor === null ? [cells[cursor]] : cells.slice(Math.min(anchor, cursor), Math.max(anchor, cursor) + 1));
  const chosen = () => range().map((it) => it.image);
  const chosenGroups = () => [...new Set(range().map((it) => it.group))];
  function focus(k, extend = false) {
    if (!cells.length) return;
    anchor = extend ? anchor ?? cursor : null;
    cursor = Math.max(0, Math.min(k, cells.length - 1));
    paint();
    cells[cursor].cell.focus({ preventScroll: false });
    if (extend) say(`${chosen().length} images chosen`);
  }
  function go(to, at = 0) {
    to = Math.max(0, Math.min(last, to));
    if (to === page) return;
    page = to;
    drawn = null;
    cursor = at;
    grid.parentElement.scrollTop = 0;
    if (pages.has(page)) { draw(); count(counts); }
    ask({ type: "page", page });
  }
  function toGroup(id, take) {
    const k = cells.findIndex((c) => c.group.id === id);
    if (k < 0) return;
    if (take) focus(k);
    else { cursor = k; paint(); }
  }
  function stepGroup(by, extend) {
    const first = cells.map((c, k) => [c, k]).filter(([c], k) => k === 0 || cells[k - 1].group !== c.group).map(([, k]) => k);
    const here = first.filter((k) => k <= cursor).length - 1;
    if (extend) return focus(first[here + by] ?? (by > 0 ? cells.length - 1 : 0), true); // a range ends with the page
    if (here + by >= first.length) return page < last ? go(page + 1) : undefined;
    if (here + by < 0) return page > 0 ? go(page - 1) : undefined;
    focus(first[here + by]);
  }
  function toggle(images) {
    if (drawn !== page || model.get("deletes") === false) return;
    const ids = images.map((image) => image.id);
    const value = ids.every((id) => marks.get(id) === "delete") ? null : "delete";
    act("mark", { ids, value }, Object.fromEntries(ids.map((id) => [id, value])));
    say(`${ids.length > 1 ? `${ids.length} images` : images[0].name}: ${value ?? "no mark"}`);
  }
  // What was told apart is spared or not as Python sees the whole group: then the screen waits.
  const guess = (group, mark) => (group.apart?.length ? {} : Object.fromEntries(group.images.map((image, k) => [image.id, mark(image, k)])));
  const guesses = (groups, mark) => Object.assign({}, ...groups.map((g) => guess(g, (image, k) => mark(image, k, g))));
  function keepOnly(images, groups) {
    const spared = (image, g) => images.includes(image) || g.protected?.includes(image.id);
    act("keep_only", { ids: images.map((image) => image.id), groups: groups.map((g) => g.id) }, guesses(groups, (image, _, g) => (spared(image, g) ? "keep" : "delete")));
  }
  const keepAll = (groups) => act("keep_all", { groups: groups.map((g) => g.id) }, guesses(groups, () => "keep"));
  // Where groups share images, none may lose its last one: Python decides, the screen waits.
  const keepBest = (groups) => act("keep_best", { groups: groups.map((g) => g.id) }, shared ? {} : guesses(groups, (image, k, g) => (k && !g.protected?.includes(image.id) ? "delete" : "keep")));
  const relabelToMajority = (images, groups) => act("relabel_to_majority", { ids: images.map((image) => image.id), groups: groups.map((g) => g.id) });
  const dropAll = (groups) => act("drop_all", { groups: groups.map((g) => g.id) }, Object.fromEntries(groups.flatMap((g) => g.images.filter((image) => !g.protected?.includes(image.id)).map((image) => [image.id, "delete"]))));
  const notDuplicate = (images, group) => act("not_duplicate", { ids: images.map((image) => image.id), group: group.id });
  function takePage() { if (pages.get(page)?.length) act("accept_suggestions", { groups: pages.get(page).map((g) => g.id), grade: null }); focus(cursor); }
  function acceptAndGoOn({ group }) {
    if (group.more || group.images.some((image) => !marks.has(image.id))) act("accept", { group: group.id }, guess(group, (image) => marks.get(image.id) ?? "keep"));
    const open = cells.findIndex((c, k) => k > cursor && c.group !== group && c.group.images.some((image) => !marks.has(image.id)));
    if (open >= 0) focus(open);
    else ask({ type: "page", after: group.id, view });
  }

  const lookAt = (k) => { if (cells[k] && !dead) comparison.compare(cells[k].image, cells[k].group); };

  const cellKeys = {
    ArrowRight: (e) => focus(cursor + 1, e.shiftKey), ArrowLeft: (e) => focus(cursor - 1, e.shiftKey),
    ArrowDown: (e) => stepGroup(1, e.shiftKey), ArrowUp: (e) => stepGroup(-1, e.shiftKey),
    PageDown: () => go(page + 1), PageUp: () => go(page - 1), Home: () => focus(0), End: () => focus(cells.length - 1),
    d: () => toggle(chosen()), Delete: () => toggle(chosen()), b: () => keepBest(chosenGroups()),
    k: () => keepOnly(chosen(), chosenGroups()), a: () => keepAll(chosenGroups()),
    o: () => notDuplicate(chosen(), cells[cursor].group),
    m: () => !single && relabelToMajority(chosen(), chosenGroups()), D: () => (range().length > 1 ? toggle(chosen()) : !single && dropAll(chosenGroups())), // Shift may still be held from choosing
    n: () => acceptAndGoOn(cells[cursor]), Enter: () => acceptAndGoOn(cells[cursor]),
    u: () => act("undo"), U: () => act("redo"), l: () => single && cells[cursor].label.focus(),
    " ": () => lookAt(cursor), "?": () => help(),
  };
  // Ctrl+S, Tab and Shift+Enter belong to the notebook. No other key may reach it while the focus is here: it would take
  // "d d" or "x" for "delete this cell". Notebook 7 listens on the document before an element hears of it: so the window does.
  function keydown(e) {
    const target = e.composedPath()[0], key = keyOf(e);
    if (!root.contains(target) || e.ctrlKey || e.metaKey || e.altKey || e.key === "Tab" || (e.key === "Enter" && e.shiftKey)) return;
    e.stopPropagation();
    if (dialog.open) return comparison.compareKey(e, key);
    if (e.key === "Escape") {
      if (["SELECT", "INPUT"].includes(target.tagName)) return focus(cursor);
      document.activeElement.blur();
      return el.closest(".jp-Cell")?.focus();
    }
    if (!target.classList.contains("imgclean-cell") || !cellKeys[key]) return;
    e.preventDefault();
    if (drawn === page) cellKeys[key](e);
  }
  window.addEventListener("keydown", keydown, { capture: true });

  const resized = new ResizeObserver(() => comparison.place());
  resized.observe(dialog);
  ask({ type: "page", after: -1, view }); // a review goes on at its first open group
  return () => {
    model.off("msg:custom", receive);
    window.removeEventListener("keydown", keydown, { capture: true });
    clearTimeout(wanted);
    resized.disconnect();
    pending.forEach(({ timer }) => clearTimeout(timer));
    pictures.forEach((url) => URL.revokeObjectURL(url));
  };
}

export default { render };
