// The second line of the toolbar: which groups to see, in which order, and suggestions taken for many at once.

const SORTS = { found: "as found", similarity: "most similar first", label: "label", size: "largest groups first", grade: "surest first", clash: "different labels first" };

// `set(fields)` asks Python for another filter. Lone images are filtered where there are predictions of them, and by these alone.
function makeFilters({ vocab, grades, predicted, single, set }) {
  const controls = {};
  const choice = (name, options) => {
    controls[name] = h("select", { onchange: changed }, ...options.map(([value, text]) => h("option", { value, textContent: text })));
    return controls[name];
  };
  const labelled = (text, control) => h("label", {}, `${text} `, control);
  const box = (name, text) => {
    controls[name] = h("input", { type: "checkbox", onchange: changed });
    return h("label", {}, controls[name], ` ${text}`);
  };
  const value = (name) => controls[name]?.value || null;
  function changed() {
    if (single) return set({ state: value("state"), sort: value("sort"), predicted: value("predicted"), actual: value("actual") });
    const least = parseFloat(controls.min_similarity.value);
    set({
      state: value("state"), label: value("label"), grade: value("grade"),
      min_similarity: Number.isFinite(least) ? least : null, leak: controls.leak.checked, clash: controls.clash.checked, sort: value("sort"),
    });
  }
  const any = [["", "any"]];
  const named = (names) => [...any, ...names.map((name) => [name, name])];
  const state = (things) => labelled("Show", choice("state", [["all", `all ${things}`], ["undecided", "undecided"], ["decided", "decided"]]));
  const sort = (keys) => labelled("Sort", choice("sort", keys.map((key) => [key, SORTS[key]])));
  function ofGroups() {
    controls.min_similarity = h("input", { type: "number", min: 0, max: 1, step: 0.01, placeholder: "any", onchange: changed });
    return [state("groups"), labelled("Label", choice("label", named(vocab))), labelled("Grade", choice("grade", named(grades))),
      labelled(grades.length > 1 ? "Probability from" : "Similarity from", controls.min_similarity), box("clash", "labels differ"), box("leak", "across splits"), sort(Object.keys(SORTS))];
  }
  const ofImages = () => [state("images"), labelled("Predicted", choice("predicted", named(predicted))),
    labelled("Labelled", choice("actual", named(vocab))), sort(["found", "label"])];
  if (single && !predicted.length) return { bar: null, sync() {} };
  const bar = h("div", { className: "imgclean-bar imgclean-filters", role: "group", "aria-label": "Filters" }, ...(single ? ofImages() : ofGroups()));

  function sync(filter) { // what Python filters by, also for another view
    for (const [name, control] of Object.entries(controls)) {
      if (control.type === "checkbox") control.checked = Boolean(filter[name]);
      else control.value = filter[name] ?? "";
    }
  }
  return { bar, sync };
}
