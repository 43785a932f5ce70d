// The dialogs of the grid: keys, confirmation of Apply, comparison of two images. Joined with cleaner.js to one module.

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

// The grid lends its button, its maps of marks and pictures, and what it does: post, apply(lose), toggle(item), back().
function makeDialogs({ button, marks, pictures, post, apply, toggle, back }) {
  let compared = null; // {left, rest, at, mode, full} while two images are compared
  const dialog = h("dialog", { className: "imgclean-dialog", onclose: () => { compared = null; back(); } });

  function open(...kids) {
    compared = null;
    dialog.replaceChildren(...kids.filter((kid) => kid !== null));
    if (!dialog.open) dialog.showModal();
  }
  function help() {
    const rows = KEYS.map(([key, what]) => h("tr", {}, h("td", {}, h("kbd", { textContent: key })), h("td", { textContent: what })));
    open(h("h3", { textContent: "Keys" }), h("table", {}, ...rows), button("Close", () => dialog.close()));
  }
  function confirm(plan) {
    const lost = plan.lost.length;
    const agree = h("input", { type: "checkbox", onchange: () => { yes.disabled = lost > 0 && !agree.checked; } });
    const yes = button("Write cleaned.csv", () => { dialog.close(); apply(agree.checked); }, "imgclean-apply");
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

  function compare(left, images) {
    const rest = images.filter((image) => image.id !== left.id);
    open(h("div", { className: "imgclean-caption" }), h("div", { className: "imgclean-stage", tabIndex: 0 }),
      h("p", {}, h("kbd", { textContent: "s" }), " side by side ", h("kbd", { textContent: "f" }), " flicker ", h("kbd", { textContent: "x" }), " difference ",
        h("kbd", { textContent: "← →" }), " other image ", h("kbd", { textContent: "d" }), " mark the right one ", button("Close", () => dialog.close())));
    compared = { left, rest, at: 0, mode: "side", full: new Map() };
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
    const lacking = shown.filter((image) => !full.has(image.id)).map((image) => image.id);
    stage.replaceChildren(...shown.map((image) => h("img", { alt: image.name, src: full.get(image.id) ?? pictures.get(image.id) ?? "", "data-id": image.id })));
    const say1 = (image) => `${image.name} (${image.pixels}, ${image.bytes})${marks.has(image.id) ? " " + WORDS[marks.get(image.id)] : ""}`;
    dialog.querySelector(".imgclean-caption").textContent = shown.map(say1).join("  |  ");
    if (lacking.length) post({ type: "pictures", ids: lacking, full: true });
  }
  function showFull(id, url) {
    if (!compared || compared.full.has(id)) return URL.revokeObjectURL(url);
    compared.full.set(id, url);
    const img = dialog.querySelector(`img[data-id="${id}"]`);
    if (img) img.src = url;
  }
  function compareKey(e) {
    if (!compared) return;
    const { rest } = compared;
    const modes = { s: "side", f: "flicker", x: "difference" };
    if (e.key === "f" && compared.mode === "flicker") { // flickers only as fast as a person presses (WCAG 2.3.1)
      dialog.querySelector(".imgclean-stage").classList.toggle("imgclean-flip");
    } else if (modes[e.key]) { compared.mode = modes[e.key]; showPair(); }
    else if (e.key === "ArrowRight" && rest.length) { compared.at = (compared.at + 1) % rest.length; showPair(); }
    else if (e.key === "ArrowLeft" && rest.length) { compared.at = (compared.at + rest.length - 1) % rest.length; showPair(); }
    else if (e.key === "d" && rest.length) { toggle(rest[compared.at].id); showPair(); }
    else if (e.key === " ") dialog.close();
    else return;
    e.preventDefault();
  }

  return { dialog, help, confirm, compare, compareKey, showFull };
}
