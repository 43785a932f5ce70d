// The page of a report: stands in for Python behind the grid of cleaner.js, keeps decisions in the browser, exports them.
// It comes last in the page's module; the page's data are blocks of JSON and of base64 beside it.

const textOf = (id) => document.getElementById(`imgclean-${id}`)?.textContent;

// ---- where decisions are kept until they are exported

// Lines in the browser's storage, shared by all tabs that show this report; in memory where the browser refuses it.
function makeLog(key, refused) {
  let read = 0, stored = true;
  const memory = [];
  const at = (n) => `imgclean-report ${key} ${n}`;
  function fetch(n) {
    try {
      return JSON.parse(localStorage.getItem(at(n)));
    } catch { // no storage, or a line that somebody damaged: it ends there
      return null;
    }
  }
  function refuse() {
    if (stored) refused();
    stored = false;
  }
  try {
    localStorage.setItem("imgclean-report", "");
  } catch {
    refuse();
  }
  return {
    get stored() { return stored; },
    lines() {
      const found = [];
      for (let line = stored && fetch(read); line; line = fetch(read)) { found.push(line); read++; }
      return found.concat(memory.splice(0));
    },
    append(line) {
      try {
        if (stored) localStorage.setItem(at(read), JSON.stringify(line));
      } catch {
        refuse();
      }
      if (!stored) memory.push(line);
    },
  };
}

// ---- the file of decisions

// CRC-32 of a text of ASCII characters, as 8 hex digits.
function crc32(text) {
  const table = Array.from({ length: 256 }, (_, byte) => {
    for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
    return byte >>> 0;
  });
  let crc = 0xffffffff;
  for (let k = 0; k < text.length; k++) crc = (crc >>> 8) ^ table[(crc ^ text.charCodeAt(k)) & 255];
  return ((crc ^ 0xffffffff) >>> 0).toString(16).padStart(8, "0");
}

// What decisions.json holds: pure ASCII, whatever the names are, so that every reader sees the same text.
function decisionsText(session, data, rows) {
  const name = (k) => session.items.get(k).name;
  const names = (ks) => ks.map(name);
  const named = (pairs) => Object.fromEntries([...pairs].sort(([a], [b]) => a - b).map(([k, value]) => [name(k), value]));
  // The ledger has what the page began with: null says that it was taken back.
  const cleared = (pairs) => pairs.map(([k]) => [k, null]);
  const labels = [...new Map([...cleared(data.labels), ...session.labels])];
  const whole = {
    imgclean: "decisions", version: 1, root: data.root, dataset: data.dataset, rows, unreadable: data.unreadable,
    groups: session.groups.map((group) => ({ images: names(group.images), protected: names(group.protected) })),
    files: Object.fromEntries(data.items.map((item) => [item.name, [item.bytes, item.digest]])),
    mark: named([...cleared(data.marks), ...session.marks]), label: named(labels),
    from: named(labels.map(([k]) => [k, session.items.get(k).label])),
    apart: [...session.apart.relations.values()].map((sides) => sides.map(names)),
  };
  const text = JSON.stringify(whole).replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return `${text.slice(0, -1)},"checksum":"${crc32(text)}"}`;
}

function download(text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  h("a", { href: url, download: "decisions.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

// ---- how pictures lie on each other: CSS's matrices [a, b, c, d, e, f], see Looks.alignment in looks.py

function inverse([a, b, c, d, e, f]) {
  const by = a * d - b * c;
  return by ? [d / by, -b / by, -c / by, a / by, (c * f - d * e) / by, (b * e - a * f) / by] : null;
}
const times = ([a, b, c, d, e, f], [p, q, r, s, t, u]) =>
  [a * p + c * q, b * p + d * q, a * r + c * s, b * r + d * s, a * t + c * u + e, b * t + d * u + f];

function alignment(group, left, right) {
  const onto = (k) => group.onto[group.shown.findIndex((image) => image.id === k)];
  const back = onto(left) && inverse(onto(left));
  return back && onto(right) ? times(back, onto(right)) : null;
}

// ---- the model that cleaner.js talks to

const FILTER = { state: "all", label: null, grade: null, min_similarity: null, leak: false, clash: false, predicted: null, actual: null, sort: "found" };

function makeModel(data, session, exported) {
  const listeners = [], size = data.traits.batch_size;
  let filter = FILTER, order = session.groups.map((_, g) => g);
  const emit = (message, buffers = []) => listeners.forEach((heard) => heard(message, buffers));
  const counts = () => ({ groups: session.groups.length, decided: session.nDecided, delete: session.deleted.length,
    relabel: session.labels.size, images: data.images, shown: order.length, apart: data.n_apart });

  function row(g) {
    const { row } = session.groups[g];
    const images = row.images.map((image) => ({ ...image, label: session.labelOf(image.id), relabeled: session.labels.has(image.id), mark: session.markOf(image.id) }));
    return { ...row, images, clash: session.clashInWords(g), apart: session.alone(g) };
  }
  function nextUndecided(after) { // on screen or behind it, in the order of the filter
    const here = order.indexOf(after) + 1;
    return [...order.slice(here), ...order.slice(0, here)].find((g) => !session.isDecided(g)) ?? null;
  }
  function groupOf(ks) { // the first group on the pages that shows one of them
    const changed = new Set(ks);
    const at = order.findIndex((g) => session.groups[g].images.some((k) => changed.has(k)));
    return at < 0 ? null : { id: order[at], page: Math.floor(at / size) };
  }
  function blockOf(id) { // once it is read to its end, which something follows
    const block = document.getElementById(`imgclean-picture-${session.items.get(id).picture}`);
    return block?.nextSibling ? block : null;
  }
  function picture(id) { // bytes of a JPEG, or why there are none
    const block = blockOf(id);
    if (!block) return "this page was cut off before the picture";
    return block.dataset.missing ?? Uint8Array.from(atob(block.textContent), (c) => c.charCodeAt(0));
  }

  const actions = {
    mark: (m) => session.mark(m.ids, m.value),
    relabel: (m) => session.relabel(m.ids, m.value),
    keep_only: (m) => session.keepOnly(m.ids, m.groups),
    keep_all: (m) => session.keepAll(m.groups),
    not_duplicate: (m) => session.notDuplicate(m.ids, m.group),
    keep_best: (m) => session.keepBest(m.groups),
    accept: (m) => session.accept(m.group),
    accept_suggestions: (m) => {
      session.catchUp();
      const open = session.select({ state: "undecided", grade: m.grade }).filter((g) => m.groups?.includes(g) ?? true);
      const left = open.length - session.agreed(open).length, before = session.deleted.length;
      const n = session.acceptSuggestions(m.groups, m.grade), gone = session.deleted.length - before;
      return (n ? `suggestions accepted: ${n - gone} to keep, ${gone} to delete; u or Undo takes it back` : "nothing was left to suggest")
        + (left ? `; ${left} left to you, whose labels differ` : "");
    },
    relabel_to_majority: (m) => {
      const n = session.relabelToMajority(m.groups, m.ids);
      return n ? `relabelled ${n} image${n > 1 ? "s" : ""}` : "nothing to relabel: the labels agree, or those of the chosen images tie as well";
    },
    drop_all: (m) => session.dropAll(m.groups),
    undo: () => session.undo(),
    redo: () => session.redo(),
    apply: (m) => {
      if (session.lost().length && !m.lose_groups) throw new Error("groups would lose every copy; export again and agree to it");
      download(decisionsText(session, data, JSON.parse(textOf("rows"))));
      exported();
      return "wrote decisions.json to your downloads; now run imgclean apply decisions.json --dry-run";
    },
  };
  const answers = {
    page(m) {
      const last = Math.max(0, Math.floor((order.length - 1) / size));
      const focus = "after" in m ? nextUndecided(m.after) : undefined;
      const asked = "after" in m ? Math.floor(order.indexOf(focus) / size) : m.page;
      const page = Math.min(Math.max(asked, 0), last);
      emit({ type: "page", page, last, groups: order.slice(page * size, (page + 1) * size).map(row), counts: counts(),
        shared: data.shared, filter, ...("after" in m ? { view: m.view, focus } : {}) });
    },
    filter(m) { // the order stays until the next filter: what is decided meanwhile does not vanish under the hand
      filter = { ...FILTER, ...m.fields };
      order = session.select(filter);
      emit({ type: "filtered", view: m.view, filter });
    },
    pictures(m) {
      const reading = document.readyState === "loading" && !m.ids.every(blockOf);
      if (reading) return document.addEventListener("DOMContentLoaded", () => answers.pictures(m), { once: true });
      const found = m.ids.map((id) => [id, picture(id)]);
      const missing = Object.fromEntries(found.filter(([, bytes]) => typeof bytes === "string"));
      const there = found.filter(([, bytes]) => typeof bytes !== "string");
      emit({ type: "pictures", full: Boolean(m.full), ids: there.map(([id]) => id), missing }, there.map(([, bytes]) => bytes));
    },
    align(m) {
      const group = session.groups[m.group];
      const sizeOf = (k) => group.shown.find((image) => image.id === k).pixels.split("×").map(Number);
      emit({ type: "aligned", left: m.left, right: m.right, sizes: [sizeOf(m.left), sizeOf(m.right)], matrix: alignment(group, m.left, m.right) });
    },
    plan(m) {
      const lost = session.lost().map((g) => `#${g + 1} ${session.items.get(session.groups[g].images[0]).name}`);
      emit({ type: "plan", view: m.view, exports: true, images: data.images, delete: session.deleted.length,
        keep: session.kept.length, relabel: session.labels.size, lost });
    },
    do(m) {
      const reply = { seq: m.seq, view: m.view };
      let answer;
      try {
        answer = actions[m.do](m);
      } catch (err) {
        return emit({ type: "refused", ...reply, text: err.message, counts: counts() });
      }
      const back = m.do === "undo" || m.do === "redo";
      const note = back ? (answer.length ? "" : `nothing to ${m.do}`) : answer ?? "";
      emit({ type: "done", ...reply, ...(back ? { group: groupOf(answer) } : {}), note, counts: counts() });
    },
  };
  session.watchers.push((line) => {
    if (line.apart.length || line.marks.length + line.labels.length > 500) return emit({ type: "reload" });
    const labels = line.labels.map(([k]) => [k, session.labelOf(k)]);
    emit({ type: "changed", do: line.do, marks: Object.fromEntries(line.marks), labels: Object.fromEntries(labels),
      clash: Object.fromEntries(session.clashesOf(changedItems(line))), counts: counts() });
  });
  return {
    get: (name) => data.traits[name],
    on: (_, heard) => listeners.push(heard),
    off: (_, heard) => listeners.splice(listeners.indexOf(heard), 1),
    send: (message) => queueMicrotask(() => answers[message.type]?.(message)), // as an answer from Python, never at once
  };
}

// ---- the page

function openReport() {
  const data = JSON.parse(textOf("data"));
  const alarm = h("p", { className: "imgclean-banner", role: "alert", hidden: true,
    textContent: "This browser keeps no decisions for this page: they are lost when it is closed. Export them before." });
  const log = makeLog(data.digest, () => { alarm.hidden = false; });
  const session = new ReportSession(data, log);
  let exportedLines = 0;
  const model = makeModel(data, session, () => { exportedLines = session.nLines; });
  const things = data.traits.single ? "images to look at" : "groups of similar images";
  document.title = `${data.groups.length} ${things}, imgclean`;
  const main = document.querySelector("main");
  main.append(
    h("h1", { textContent: `${data.groups.length} ${things} among ${data.looked_at}` }),
    h("p", {}, "Folder: ", h("code", { textContent: data.root }), `. Pictures in this page are copies of at most ${data.side} pixels, in the comparison, too; the files themselves are not in it. `,
      "Decisions are kept in this browser, and applied where you take the exported file; no image is touched here."),
    alarm);
  render({ model, el: main });
  let first = true;
  model.on("msg:custom", ({ type }) => { // so that keys act at once
    if (first && type === "page" && document.activeElement === document.body) main.querySelector(".imgclean-cell[tabindex='0']")?.focus({ preventScroll: true });
    first = first && type !== "page";
  });
  window.addEventListener("storage", () => session.catchUp()); // another tab with this report
  window.addEventListener("beforeunload", (e) => { if (!log.stored && session.nLines > exportedLines) e.preventDefault(); });
}
