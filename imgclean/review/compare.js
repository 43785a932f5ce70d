// The comparison of two images at full size: side by side, flicker, difference or overlay, one zoom and pan for both.
// Positions are pixels of the left image's file; the right one is laid on it by the matrix that Python sends.

const MODES = { s: "side", f: "flicker", x: "difference", v: "overlay", r: "regions" };
const COMPARE_KEYS = [["s", "side by side"], ["f", "flicker"], ["x", "difference"], ["v", "overlay"], ["r", "regions that agree"], ["g", "aligned or as it is"],
  ["+ − 0 1", "zoom, fit, 1:1"], ["← →", "other image"], ["d", "mark the right one"], ["o", "other picture"]];

// The grid lends its button, its maps of marks and pictures, whether there is a model that explains, and what it does:
// post, toggle(item), other(item).
function makeCompare({ dialog, open, button, marks, pictures, post, explains, toggle, other }) {
  let now = null; // {group, left, rest, at, mode, aligned, full, known, regions, view: {scale, x, y} | null}
  const offered = (key) => key !== "r" || explains;

  function compare(left, group) {
    const rest = group.images.filter((image) => image.id !== left.id);
    const stage = h("div", { className: "imgclean-stage", tabIndex: 0, role: "group", "aria-label": "the two images",
      onwheel: wheel, onpointerdown: grab, ondblclick: () => { now.view = null; place(); } });
    const keys = COMPARE_KEYS.filter(([key]) => offered(key)).flatMap(([key, what]) => [h("kbd", { textContent: key }), ` ${what} `]);
    open(h("div", { className: "imgclean-caption", "aria-live": "polite" }), stage, h("p", { className: "imgclean-keys" }, ...keys, button("Close", () => dialog.close())));
    now = { group: group.id, left, rest, at: 0, mode: "side", aligned: true, full: new Map(), known: new Map(), regions: new Map(), view: null };
    show();
    stage.focus();
  }
  function closed() {
    now?.full.forEach((url) => URL.revokeObjectURL(url));
    now?.regions.forEach(({ urls }) => urls.forEach((url) => URL.revokeObjectURL(url)));
    now = null;
  }
  const right = () => now.rest[now.at];
  const regions = () => now.regions.get(right()?.id); // {urls of the maps, note}
  const beside = () => now.mode === "side" || now.mode === "regions";

  function show() {
    const { left, mode, full } = now;
    const stage = dialog.querySelector(".imgclean-stage");
    stage.dataset.mode = mode;
    stage.classList.remove("imgclean-flip");
    const shown = right() ? [left, right()] : [left];
    const img = (image) => h("img", { alt: image.name, draggable: false, src: full.get(image.id) ?? pictures.get(image.id) ?? "", "data-id": image.id });
    const pane = (...images) => h("div", { className: "imgclean-pane" }, ...images);
    const map = (image, k) => (mode === "regions" && regions()?.urls[k] ? h("img", { className: "imgclean-map", alt: "", draggable: false, src: regions().urls[k], "data-id": image.id }) : null);
    stage.replaceChildren(...(beside() ? shown.map((image, k) => pane(img(image), map(image, k))) : [pane(...shown.map(img))]));
    place();
    const lacking = shown.filter((image) => !full.has(image.id)).map((image) => image.id);
    if (lacking.length) post({ type: "pictures", ids: lacking, full: true });
    if (right() && !now.known.has(right().id)) post({ type: "align", left: left.id, right: right().id, group: now.group });
    if (right() && mode === "regions" && !regions()) {
      now.regions.set(right().id, { urls: [], note: "computing which regions agree …" });
      post({ type: "explain", left: left.id, right: right().id });
    }
    caption();
  }
  function caption() {
    const say1 = (image) => `${image.name} (${image.pixels}, ${image.bytes})${marks.has(image.id) ? " " + WORDS[marks.get(image.id)] : ""}`;
    const found = right() && now.known.get(right().id);
    const lies = !found || beside() && !now.aligned ? "" : found.matrix ? (now.aligned ? "aligned" : "not aligned: g aligns them") : "how they lie on each other is not known: both are fitted";
    const what = right()?.grade ? `${right().grade}${right().what && right().what !== right().grade ? ": " + right().what : ""}` : "";
    const lines = [(right() ? [now.left, right()] : [now.left]).map(say1).join("  |  "), [now.mode, now.mode === "regions" && regions()?.note, what, lies].filter(Boolean).join(" · ")];
    dialog.querySelector(".imgclean-caption").replaceChildren(...lines.map((line) => h("div", { textContent: line })));
  }

  // ---- where the pictures are

  function place() {
    if (!now) return;
    const panes = [...dialog.querySelectorAll(".imgclean-pane")];
    const size = now.known.get(right()?.id)?.sizes ?? [natural(now.left), right() ? natural(right()) : [1, 1]];
    const [w, ht] = size[0];
    const box = panes[0].getBoundingClientRect();
    if (!box.width || !(w > 0) || !(ht > 0)) return;
    const fit = Math.min(box.width / w, box.height / ht);
    const { scale, x, y } = now.view ?? { scale: fit, x: (box.width - w * fit) / 2, y: (box.height - ht * fit) / 2 };
    const view = new DOMMatrix([scale, 0, 0, scale, x, y]);
    now.shown = { scale, x, y };
    const found = now.known.get(right()?.id);
    for (const img of dialog.querySelectorAll(".imgclean-pane img")) {
      const isLeft = Number(img.dataset.id) === now.left.id;
      const [iw, ih] = isLeft ? size[0] : size[1];
      const onto = isLeft ? new DOMMatrix() : now.aligned && found?.matrix ? new DOMMatrix(found.matrix) : fitted(size);
      img.style.width = `${iw}px`;
      img.style.height = `${ih}px`;
      img.style.transform = view.multiply(onto).toString();
      img.classList.toggle("imgclean-tiny", scale > 3);
    }
  }
  const natural = (image) => image.pixels.split("×").map(Number);
  function fitted([[w, ht], [rw, rh]]) { // the right picture as large as the left one's frame allows
    const by = Math.min(w / rw, ht / rh);
    return new DOMMatrix([by, 0, 0, by, (w - rw * by) / 2, (ht - rh * by) / 2]);
  }
  function zoom(by, px, py) { // keeps the place under (px, py), pixels of a pane, where it is
    const { scale, x, y } = now.shown ?? {};
    if (!scale) return;
    const to = Math.min(40, Math.max(0.02, scale * by));
    now.view = { scale: to, x: px - (px - x) * (to / scale), y: py - (py - y) * (to / scale) };
    place();
  }
  function middle() {
    const box = dialog.querySelector(".imgclean-pane").getBoundingClientRect();
    return [box.width / 2, box.height / 2];
  }
  function wheel(e) {
    e.preventDefault();
    const box = (e.target.closest(".imgclean-pane") ?? e.currentTarget).getBoundingClientRect();
    zoom(Math.exp(-e.deltaY / 400), e.clientX - box.left, e.clientY - box.top);
  }
  function grab(e) {
    if (e.button || !now.shown) return;
    const from = { ...now.shown }, [px, py] = [e.clientX, e.clientY], stage = e.currentTarget;
    stage.setPointerCapture(e.pointerId);
    stage.onpointermove = (m) => { if (now) { now.view = { ...from, x: from.x + m.clientX - px, y: from.y + m.clientY - py }; place(); } };
    stage.onpointerup = stage.onpointercancel = () => { stage.onpointermove = null; };
  }

  // ---- from Python and from the keyboard

  function showFull(id, url) {
    if (!now || now.full.has(id)) return URL.revokeObjectURL(url);
    now.full.set(id, url);
    const img = dialog.querySelector(`img[data-id="${id}"]`);
    if (img) img.src = url;
  }
  function aligned({ left, right: id, sizes, matrix }) {
    if (!now || now.left.id !== left) return;
    now.known.set(id, { sizes, matrix });
    place();
    caption();
  }
  function explained({ left, right: id, error, low, high }, buffers) {
    const maps = buffers.map((png) => URL.createObjectURL(new Blob([png], { type: "image/png" })));
    if (!now || now.left.id !== left || now.regions.get(id)?.urls.length) return maps.forEach((url) => URL.revokeObjectURL(url));
    const note = error ? `no map: ${error}` : `yellow: the other one has the like somewhere, blue: it has not (cosines ${low.toFixed(2)} to ${high.toFixed(2)})`;
    now.regions.set(id, { urls: maps, note });
    if (now.mode === "regions" && right()?.id === id) show();
  }
  function turn(by) {
    now.at = (now.at + by + now.rest.length) % now.rest.length;
    show();
  }
  const acts = {
    f: () => dialog.querySelector(".imgclean-stage").classList.toggle("imgclean-flip"), // only as fast as a person presses (WCAG 2.3.1)
    g: () => { now.aligned = !now.aligned; place(); caption(); },
    "+": () => zoom(1.4, ...middle()), "=": () => zoom(1.4, ...middle()), "-": () => zoom(1 / 1.4, ...middle()),
    0: () => { now.view = null; place(); }, 1: () => zoom(1 / (now.shown?.scale ?? 1), ...middle()),
    ArrowRight: () => now.rest.length && turn(1), ArrowLeft: () => now.rest.length && turn(-1),
    d: () => { if (right()) { toggle(right().id); caption(); } },
    o: () => { if (right()) { other(right().id); caption(); } },
    " ": () => dialog.close(),
  };
  function compareKey(e, key) {
    if (!now) return;
    if (MODES[key] && offered(key) && now.mode !== MODES[key]) { now.mode = MODES[key]; show(); }
    else if (acts[key]) acts[key]();
    else return;
    e.preventDefault();
  }

  return { compare, compareKey, showFull, aligned, explained, closed, place };
}
