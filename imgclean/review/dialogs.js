// The dialogs of the grid: keys, confirmation of Apply; compare.js adds the comparison. Joined with cleaner.js to one module.

const KEYS = [
  ["← → ↑ ↓", "move within a group, between groups"],
  ["Shift and arrows or click", "choose several images, for d, k, a, o, b and m; d also with Shift still held"],
  ["d, Delete, click", "mark for deletion, or take the mark away"],
  ["k", "keep this one, delete the rest of the group"],
  ["a", "keep all: these are not duplicates, and will not be shown together again"],
  ["o", "this one is another picture than the rest of the group"],
  ["b", "take the suggestion: keep the one with the star"],
  ["m", "labels differ: give all of the group the label that most of them have; where they tie, that of this one"],
  ["Shift+D", "delete the whole group, where no more than one image is chosen"],
  ["n, Enter", "keep what carries no mark, go to the next undecided group"],
  ["u, Shift+U", "undo, redo"],
  ["l", "change the label"],
  ["Space", "compare at full size: s side by side, f flicker, x difference, v overlay, + − zoom"],
  ["Space, then r", "which regions of the two agree, as the model sees them"],
  ["PageUp, PageDown, Home, End", "pages; first and last image of the page"],
  ["?, Esc", "this list; give the keyboard back to the notebook"],
];
// Only Shift makes a capital: with CapsLock, which turns it round on some systems, each key does what it does without.
function keyOf(e) {
  return e.key?.length !== 1 ? e.key : e.shiftKey ? e.key.toUpperCase() : e.key.toLowerCase();
}
const WORDS = { delete: "✕ DELETE", keep: "✓ KEEP" };
// What a screen reader hears of an action; of a mark, cleaner.js says whose.
const SAID = { keep_only: "this one is kept, not its copies", keep_all: "all kept", keep_best: "suggestion taken", accept: "kept what had no mark",
  not_duplicate: "told to be another picture", drop_all: "all of the group that may go is marked for deletion", undo: "undone", redo: "done again" };

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

// The grid lends its button, whether there is a model that explains, and what it does: plan(action), apply(details), back(), closed().
function makeDialogs({ button, plan, explains, apply, back, closed }) {
  const dialog = h("dialog", { className: "imgclean-dialog", onclose: () => { closed(); back(); } });

  function open(...kids) {
    closed();
    dialog.replaceChildren(...kids.filter((kid) => kid !== null));
    if (!dialog.open) dialog.showModal();
  }
  function help() {
    const rows = KEYS.filter(([key]) => explains || key !== "Space, then r").map(([key, what]) => h("tr", {}, h("td", {}, h("kbd", { textContent: key })), h("td", { textContent: what })));
    open(h("h3", { textContent: "Keys" }), h("table", {}, ...rows), button("Close", () => dialog.close()));
  }

  const ACTIONS = {
    csv: ["Write cleaned.csv", "only write cleaned.csv: no image file is touched"],
    quarantine: ["Write cleaned.csv and move", "also move the files to the folder .imgclean/quarantine, from where they can be restored"],
    trash: ["Write cleaned.csv and trash", "also send the files to the system's trash; what it does not take goes to the quarantine"],
  };
  const paragraph = (text) => (text ? h("p", { textContent: text }) : null);
  // The last button, and the tick that it waits for where groups would lose every copy.
  function agreement(text, n, groups, act) {
    const agree = h("input", { type: "checkbox", onchange: () => { yes.disabled = n > 0 && !agree.checked; } });
    const yes = button(text, () => { dialog.close(); act(agree.checked); }, "imgclean-apply");
    yes.disabled = n > 0;
    return [yes, n ? h("label", { className: "imgclean-lose" }, agree, ` ${n} group${n > 1 ? "s" : ""} would lose every copy (${groups}). I mean it.`) : null];
  }
  const shortened = (texts) => texts.slice(0, 8).join(", ") + (texts.length > 8 ? ", …" : "");

  function confirm(p) {
    if (p.exports) return confirmExport(p);
    const [yes, agree] = agreement(ACTIONS[p.action][0], p.lost.length, shortened(p.lost.map((g) => `#${g + 1}`)),
      (agreed) => apply({ action: p.action, lose_groups: agreed }));
    const cancel = button("Cancel", () => dialog.close());
    const ways = Object.entries(ACTIONS).map(([action, [, what]]) => h("label", {},
      h("input", { type: "radio", name: "imgclean-action", value: action, checked: action === p.action, onchange: () => plan(action) }), ` ${what}`));
    const refused = Object.entries(p.refused ?? {}).map(([name, why]) => h("li", { textContent: `${name}: ${why}` }));
    const more = (p.n_refused ?? 0) - refused.length;
    const again = dialog.open; // another way was chosen: the choice keeps the focus
    open(h("h3", { textContent: "Apply the decisions?" }),
      paragraph(`${p.csv} will list ${p.images - p.delete} of ${p.images} images: ${p.delete} are left out${p.action === "csv" ? ` (${p.bytes})` : ""}, ${p.relabel} carry a new label.`),
      h("fieldset", {}, h("legend", { textContent: "The image files" }), ...ways),
      p.action === "csv" ? null : paragraph(`${p.move} files (${p.bytes}) leave the folder.`),
      p.unreadable ? paragraph(p.unreadable === 1 ? "1 file that cannot be read is left out, too." : `${p.unreadable} files that cannot be read are left out, too.`) : null,
      refused.length ? h("div", {}, paragraph("Not done:"), h("ul", {}, ...refused, more > 0 ? h("li", { textContent: `and ${more} more` }) : "")) : null,
      paragraph("An existing cleaned.csv is kept in the folder .imgclean."),
      agree,
      h("p", {}, cancel, " ", yes));
    if (again) dialog.querySelector("input:checked").focus();
    else cancel.focus();
  }

  // Of the report, which has no Python at hand: a person takes the file to the command line.
  function confirmExport(p) {
    const [yes, agree] = agreement("Export decisions.json", p.lost.length, shortened(p.lost), (agreed) => apply({ lose_groups: agreed }));
    const cancel = button("Cancel", () => dialog.close());
    open(h("h3", { textContent: "Export the decisions?" }),
      paragraph(`Of ${p.images} images ${p.delete} are to be left out, ${p.keep} were chosen to be kept, ${p.relabel} carry a new label; what carries no mark stays.`),
      paragraph("A file decisions.json is downloaded; no image is touched. Then run, where the images are:"),
      h("pre", { textContent: "imgclean apply decisions.json --dry-run" }),
      agree, h("p", {}, cancel, " ", yes));
    cancel.focus();
  }

  return { dialog, open, help, confirm };
}
