// The second line of the toolbar: which groups to see, in which order, and suggestions taken for many at once.

const SORTS = { found: "as found", similarity: "most similar first", label: "label", size: "largest groups first", grade: "surest first", clash: "different labels first" };

// `set(fields)` asks Python for another filter.
function makeFilters({ vocab, grades, set }) {
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
  function changed() {
    const least = parseFloat(controls.min_similarity.value);
    set({
      state: controls.state.value, label: controls.label.value || null, grade: controls.grade.value || null,
      min_similarity: Number.isFinite(least) ? least : null, leak: controls.leak.checked, clash: controls.clash.checked, sort: controls.sort.value,
    });
  }
  const any = [["", "any"]];
  const similarity = h("input", { type: "number", min: 0, max: 1, step: 0.01, placeholder: "any", onchange: changed });
  controls.min_similarity = similarity;
  const bar = h("div", { className: "imgclean-bar imgclean-filters", role: "group", "aria-label": "Filters" },
    labelled("Show", choice("state", [["all", "all groups"], ["undecided", "undecided"], ["decided", "decided"]])),
    labelled("Label", choice("label", [...any, ...vocab.map((name) => [name, name])])),
    labelled("Grade", choice("grade", [...any, ...grades.map((grade) => [grade, grade])])),
    labelled("Similarity from", similarity), box("clash", "labels differ"), box("leak", "across splits"),
    labelled("Sort", choice("sort", Object.entries(SORTS))));

  function sync(filter) { // what Python filters by, also for another view
    for (const [name, control] of Object.entries(controls)) {
      if (control.type === "checkbox") control.checked = Boolean(filter[name]);
      else control.value = filter[name] ?? "";
    }
  }
  return { bar, sync };
}
