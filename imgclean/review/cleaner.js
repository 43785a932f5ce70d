// The grid: shows what Python sends and reports what a person decides. Python owns every decision;
// the screen runs ahead of it by one message and goes back when Python refuses or does not answer.

const KEYS = [
  ["← → ↑ ↓", "move within a group, between groups"],
  ["d, Delete, click", "mark for deletion, or take the mark away"],
  ["k", "keep this one, delete the rest of the group"],
  ["a", "keep all: these are not duplicates"],
  ["b", "take the suggestion: keep the one with the star"],
  ["n, Enter", "keep what carries no mark, go to the next undecided group"],
  ["u, Shift+U", "undo, redo"],
  ["l", "change the label"],
  ["Space", "compare at full size: s side by side, f flicker, x difference"],
  ["PageUp, PageDown, Home, End", "pages; first and last image of the page"],
  ["?, Esc", "this list; give the keyboard back to the notebook"],
];
const ACK_MS = 2500; // a kernel that is silent for so long is busy or gone
const WORDS = { delete: "✕ DELETE", keep: "✓ KEEP" };

function h(tag, props = {}, ...kids) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node && key !== "role") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...kids.filter((kid) => kid !== null && kid !== undefined));
  return node;
}

function render({ model, el }) {
  let page = 0, last = 0, cursor = 0, seq = 0, dead = false, wanted = null;
  let cells = []; // on screen, in order: {cell, img, image, group, word, label}
  let counts = null;
  const pages = new Map(); // page -> groups
  const pictures = new Map(); // item -> object URL of its thumbnail
  const marks = new Map(); // item -> "delete" | "keep"
  const labels = new Map(); // item -> label
  const pending = new Map(); // seq -> {timer, undo}
  const asked = new Set(); // thumbnails under way
  let compared = null;

  const button = (text, act, cls = "") =>
    h("button", { type: "button", textContent: text, className: cls, onclick: () => act() });
  const prev = button("‹ Previous", () => go(page - 1));
  const next = button("Next ›", () => go(page + 1));
  const apply = button("Apply…", () => ask({ type: "plan" }), "imgclean-apply");
  const status = h("span", { className: "imgclean-status", role: "status" });
  const banner = h("div", { className: "imgclean-banner", role: "alert", hidden: true });
  const live = h("div", { className: "imgclean-hidden", "aria-live": "polite" });
  const grid = h("div", { className: "imgclean-grid", role: "grid", "aria-label": "Groups of similar images" });
  const dialog = h("dialog", { className: "imgclean-dialog", onclose: () => { compared = null; focus(cursor); } });
  const single = model.get("single");
  const bar = h("div", { className: "imgclean-bar", role: "toolbar", "aria-label": "Review" }, prev, next,
    single ? null : button("Take suggestions on page", takePage), button("Undo", () => act("undo")),
    button("Redo", () => act("redo")), button("? Keys", help), apply, status);
  const root = h("div", { className: "imgclean" }, bar, banner, live, grid, dialog);
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
    if (dead) return;
    const before = Object.keys(guess).map((id) => [id, marks.get(Number(id)) ?? null]);
    setMarks(guess);
    const mine = ++seq;
    const timer = setTimeout(() => warn("No answer from the kernel yet: your last actions are not saved until it answers."), ACK_MS);
    pending.set(mine, { timer, back: () => setMarks(Object.fromEntries(before)) });
    post({ type: "do", do: what, seq: mine, ...details });
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
    if (!pending.size) banner.hidden = true;
    return waiting;
  }

  // ---- from Python

  const handlers = {
    page(m) {
      clearTimeout(wanted);
      if (!pending.size && !banner.classList.contains("imgclean-good")) banner.hidden = true;
      last = m.last;
      const before = shape(pages.get(m.page));
      pages.set(m.page, m.groups);
      for (const group of m.groups) for (const image of group.images) note(image);
      count(m.counts);
      if (m.page === page) before === shape(m.groups) && cells.length ? paint() : draw();
      // The next page is fetched while this one is looked at.
      if (m.page === page && page < last && !pages.has(page + 1)) post({ type: "page", page: page + 1 });
      if (m.page === page + 1) fetchPictures(m.groups);
    },
    pictures(m, buffers) {
      m.ids.forEach((id, k) => {
        const url = URL.createObjectURL(new Blob([buffers[k]], { type: "image/jpeg" }));
        if (m.full) showFull(id, url);
        else { pictures.set(id, url); asked.delete(id); cells.filter((c) => c.image.id === id).forEach(paintPicture); }
      });
      for (const [id, reason] of Object.entries(m.missing)) {
        for (const c of cells.filter((c) => c.image.id === Number(id))) {
          c.img.replaceWith(h("div", { className: "imgclean-missing", textContent: reason }));
        }
      }
    },
    changed(m) {
      for (const [id, label] of Object.entries(m.labels)) labels.set(Number(id), label);
      setMarks(m.marks);
      count(m.counts);
      if (m.do === "undo" || m.do === "redo") say(`${m.do === "undo" ? "undone" : "done again"}`);
    },
    reload() { pages.clear(); ask({ type: "page", page }); },
    done(m) { answered(m.seq); count(m.counts); if (m.note) { say(m.note); if (m.note.startsWith("wrote")) warn(m.note, "good"); } },
    refused(m) { answered(m.seq)?.back(); count(m.counts); warn(m.text); },
    plan: confirm,
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
    status.textContent = `page ${page + 1} of ${last + 1} · ${done}${c.delete} marked for deletion${changed}`;
    apply.textContent = c.delete + c.relabel ? `Apply ${c.delete + c.relabel}…` : "Apply…";
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
    cells = [];
    grid.replaceChildren(...(groups.length ? groups.map(row) : [h("p", { className: "imgclean-empty", textContent: "No similar images were found: nothing to review." })]));
    cursor = Math.max(0, Math.min(cursor, cells.length - 1));
    paint();
    fetchPictures(groups);
    if (hadFocus) focus(cursor);
  }

  function row(group) {
    const differs = (key) => new Set(group.images.map((image) => image[key])).size > 1;
    const head = h("div", { className: "imgclean-head", role: "rowheader" },
      h("span", { textContent: single ? `image ${group.id + 1}` : `group ${group.id + 1}` }),
      group.similarity === null ? null : h("b", { textContent: group.similarity.toFixed(3), title: "similarity of the weakest pair that holds the group together" }),
      single ? null : h("button", { type: "button", tabIndex: -1, textContent: "Compare", onclick: () => compare(cells.findIndex((c) => c.group === group)) }));
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
    const alike = k && image.similarity !== null ? h("span", { className: "imgclean-alike", textContent: image.similarity.toFixed(3), title: "similarity to the image with the star" }) : null;
    const node = h("div", { className: "imgclean-cell", role: "gridcell", tabIndex: -1, title: image.name, "data-id": image.id,
        onfocus: () => { if (cursor !== at) { cursor = at; paint(); } }, // screen readers move the focus themselves
        onclick: (e) => { focus(at); if (e.target !== label) toggle(at); } },
      img, h("div", {}, word, alike), h("div", {}, star, label), h("div", { className: "imgclean-facts" }, ...facts),
      h("div", { className: "imgclean-name" }, image.name),
      star && group.reason ? h("div", { className: "imgclean-reason", textContent: group.reason }) : null);
    const it = { cell: node, img, image, group, word, label, clash: differs("label") };
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
    cells.forEach((it, k) => {
      const mark = marks.get(it.image.id) ?? "";
      it.cell.dataset.mark = mark;
      it.cell.tabIndex = k === cursor ? 0 : -1;
      it.word.textContent = WORDS[mark] ?? "";
      const label = labels.get(it.image.id) ?? "";
      if (single) it.label.value = label;
      else { it.label.textContent = label; it.label.classList.toggle("imgclean-clash", it.clash); }
    });
    for (const r of grid.querySelectorAll(".imgclean-row")) {
      const group = pages.get(page)?.find((g) => g.id === Number(r.dataset.group));
      const all = group && group.images.length > 1 && group.images.every((image) => marks.get(image.id) === "delete");
      r.classList.toggle("imgclean-lost", Boolean(all));
    }
  }
  function paintPicture(it) { if (pictures.has(it.image.id)) it.img.src = pictures.get(it.image.id); }
  function fetchPictures(groups) {
    const ids = groups.flatMap((g) => g.images.map((i) => i.id)).filter((id) => !pictures.has(id) && !asked.has(id));
    ids.forEach((id) => asked.add(id));
    // The first row comes first: small answers show sooner than one large one.
    for (let k = 0; k < ids.length; k += 12) post({ type: "pictures", ids: ids.slice(k, k + 12) });
  }

  // ---- moving and deciding

  function focus(k) {
    if (!cells.length) return;
    cursor = Math.max(0, Math.min(k, cells.length - 1));
    paint();
    cells[cursor].cell.focus({ preventScroll: false });
  }
  function go(to, at = 0) {
    to = Math.max(0, Math.min(last, to));
    if (to === page) return;
    page = to;
    cursor = at;
    grid.parentElement.scrollTop = 0;
    if (pages.has(page)) { draw(); count(counts); }
    ask({ type: "page", page });
  }
  function stepGroup(by) {
    const first = cells.map((c, k) => [c, k]).filter(([c], k) => k === 0 || cells[k - 1].group !== c.group).map(([, k]) => k);
    const here = first.filter((k) => k <= cursor).length - 1;
    if (here + by >= first.length) return page < last ? go(page + 1) : undefined;
    if (here + by < 0) return page > 0 ? go(page - 1) : undefined;
    focus(first[here + by]);
  }
  function toggle(k) {
    const { image } = cells[k];
    const value = marks.get(image.id) === "delete" ? null : "delete";
    act("mark", { ids: [image.id], value }, { [image.id]: value });
    say(`${image.name}: ${value ?? "no mark"}`);
  }
  const guess = (group, mark) => Object.fromEntries(group.images.map((image, k) => [image.id, mark(image, k)]));
  const keepOnly = ({ image, group }) => act("keep_only", { ids: [image.id], group: group.id }, guess(group, (other) => (other === image ? "keep" : "delete")));
  const keepAll = ({ group }) => act("keep_all", { group: group.id }, guess(group, () => "keep"));
  const keepBest = (groups) => act("keep_best", { groups: groups.map((g) => g.id) }, Object.assign({}, ...groups.map((g) => guess(g, (_, k) => (k ? "delete" : "keep")))));
  function takePage() { if (pages.get(page)?.length) keepBest(pages.get(page)); focus(cursor); }
  function acceptAndGoOn({ group }) {
    if (group.more || group.images.some((image) => !marks.has(image.id))) act("accept", { group: group.id }, guess(group, (image) => marks.get(image.id) ?? "keep"));
    const open = cells.findIndex((c, k) => k > cursor && c.group !== group && c.group.images.some((image) => !marks.has(image.id)));
    if (open >= 0) focus(open);
    else if (page < last) go(page + 1);
    else focus(cells.length - 1);
  }

  const cellKeys = {
    ArrowRight: () => focus(cursor + 1), ArrowLeft: () => focus(cursor - 1),
    ArrowDown: () => stepGroup(1), ArrowUp: () => stepGroup(-1),
    PageDown: () => go(page + 1), PageUp: () => go(page - 1), Home: () => focus(0), End: () => focus(cells.length - 1),
    d: () => toggle(cursor), Delete: () => toggle(cursor), b: () => keepBest([cells[cursor].group]),
    k: () => keepOnly(cells[cursor]), a: () => keepAll(cells[cursor]),
    n: () => acceptAndGoOn(cells[cursor]), Enter: () => acceptAndGoOn(cells[cursor]),
    u: () => act("undo"), U: () => act("redo"), l: () => single && cells[cursor].label.focus(),
    " ": () => compare(cursor), "?": () => help(),
  };
  root.addEventListener("keydown", (e) => {
    // Ctrl+S, Tab and Shift+Enter belong to the notebook. No other key may reach it while the focus is here:
    // JupyterLab would take "d d" or "x" for "delete this cell".
    if (e.ctrlKey || e.metaKey || e.altKey || e.key === "Tab" || (e.key === "Enter" && e.shiftKey)) return;
    e.stopPropagation();
    if (dialog.open) return compared ? compareKey(e) : undefined;
    if (e.key === "Escape") {
      if (e.target.tagName === "SELECT") return focus(cursor);
      document.activeElement.blur();
      return el.closest(".jp-Cell")?.focus();
    }
    if (!e.target.classList.contains("imgclean-cell") || !cellKeys[e.key]) return;
    e.preventDefault();
    cellKeys[e.key]();
  });

  // ---- dialogs

  function open(...kids) {
    dialog.replaceChildren(...kids.filter((kid) => kid !== null));
    dialog.showModal();
  }
  function help() {
    const rows = KEYS.map(([key, what]) => h("tr", {}, h("td", {}, h("kbd", { textContent: key })), h("td", { textContent: what })));
    open(h("h3", { textContent: "Keys" }), h("table", {}, ...rows), button("Close", () => dialog.close()));
  }
  function confirm(plan) {
    clearTimeout(wanted);
    const lost = plan.lost.length;
    const agree = h("input", { type: "checkbox", onchange: () => { yes.disabled = lost > 0 && !agree.checked; } });
    const yes = button("Write cleaned.csv", () => { dialog.close(); act("apply", { lose_groups: agree.checked }); }, "imgclean-apply");
    yes.disabled = lost > 0;
    const groups = plan.lost.slice(0, 8).map((g) => `#${g + 1}`).join(", ") + (lost > 8 ? ", …" : "");
    const cancel = button("Cancel", () => dialog.close());
    open(h("h3", { textContent: "Apply the decisions?" }),
      h("p", { textContent: `${plan.csv} will list ${plan.images - plan.delete} of ${plan.images} images: ${plan.delete} are left out (${plan.bytes}), ${plan.relabel} carry a new label.` }),
      plan.unreadable ? h("p", { textContent: plan.unreadable === 1 ? "1 file that cannot be read is left out, too." : `${plan.unreadable} files that cannot be read are left out, too.` }) : null,
      h("p", { textContent: "No image file is touched. An existing cleaned.csv is kept in the folder .imgclean." }),
      lost ? h("label", { className: "imgclean-lose" }, agree, ` ${lost} group${lost > 1 ? "s" : ""} would lose every copy (${groups}). I mean it.`) : null,
      h("p", {}, cancel, " ", yes));
    cancel.focus();
  }

  function compare(k) {
    const it = cells[k];
    if (!it || dead) return;
    const rest = it.group.images.filter((image) => image !== it.image);
    compared = { left: it.image, rest, at: 0, mode: "side", full: new Map() };
    open(h("div", { className: "imgclean-caption" }), h("div", { className: "imgclean-stage", tabIndex: 0 }),
      h("p", {}, h("kbd", { textContent: "s" }), " side by side ", h("kbd", { textContent: "f" }), " flicker ", h("kbd", { textContent: "x" }), " difference ",
        h("kbd", { textContent: "← →" }), " other image ", h("kbd", { textContent: "d" }), " mark the right one ", button("Close", () => dialog.close())));
    showPair();
    dialog.querySelector(".imgclean-stage").focus();
  }
  function showPair() {
    const { left, rest, at, mode, full } = compared;
    const right = rest[at];
    const stage = dialog.querySelector(".imgclean-stage");
    stage.dataset.mode = mode;
    stage.classList.remove("imgclean-flip");
    const shown = right ? [left, right] : [left];
    const missing = shown.filter((image) => !full.has(image.id)).map((image) => image.id);
    stage.replaceChildren(...shown.map((image) => h("img", { alt: image.name, src: full.get(image.id) ?? pictures.get(image.id) ?? "", "data-id": image.id })));
    const say1 = (image) => `${image.name} (${image.pixels}, ${image.bytes})${marks.has(image.id) ? " " + WORDS[marks.get(image.id)] : ""}`;
    dialog.querySelector(".imgclean-caption").textContent = shown.map(say1).join("  |  ");
    if (missing.length) post({ type: "pictures", ids: missing, full: true });
  }
  function showFull(id, url) {
    if (!compared || compared.full.has(id)) return URL.revokeObjectURL(url);
    compared.full.set(id, url);
    const img = dialog.querySelector(`img[data-id="${id}"]`);
    if (img) img.src = url;
  }
  function compareKey(e) {
    const { rest } = compared;
    const modes = { s: "side", f: "flicker", x: "difference" };
    if (e.key === "f" && compared.mode === "flicker") { // flickers only as fast as a person presses (WCAG 2.3.1)
      dialog.querySelector(".imgclean-stage").classList.toggle("imgclean-flip");
    } else if (modes[e.key]) { compared.mode = modes[e.key]; showPair(); }
    else if (e.key === "ArrowRight" && rest.length) { compared.at = (compared.at + 1) % rest.length; showPair(); }
    else if (e.key === "ArrowLeft" && rest.length) { compared.at = (compared.at + rest.length - 1) % rest.length; showPair(); }
    else if (e.key === "d" && rest.length) { toggle(cells.findIndex((c) => c.image === rest[compared.at])); showPair(); }
    else if (e.key === " ") dialog.close();
    else return;
    e.preventDefault();
  }

  ask({ type: "page", page: 0 });
  return () => {
    model.off("msg:custom", receive);
    clearTimeout(wanted);
    pending.forEach(({ timer }) => clearTimeout(timer));
    pictures.forEach((url) => URL.revokeObjectURL(url));
  };
}

export default { render };
