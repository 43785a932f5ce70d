// What a row says of an image beside the first, and of all its images together: that every copy would go, that their labels differ.

// Grade, and what was done to a copy, as the second look says it.
function lookOf(image) {
  if (!image.grade) return null;
  const said = image.what && image.what !== image.grade ? `: ${image.what}` : "";
  return h("div", { className: "imgclean-what" }, h("span", { className: "imgclean-grade", textContent: image.grade }), said);
}

function paintRows(grid, groups, marks) {
  for (const row of grid.querySelectorAll(".imgclean-row")) {
    const group = groups.find((g) => g.id === Number(row.dataset.group));
    const all = group && group.images.length > 1 && group.images.every((image) => marks.get(image.id) === "delete");
    row.classList.toggle("imgclean-lost", Boolean(all));
    const differ = row.querySelector(".imgclean-differ");
    differ.textContent = group?.clash ?? "";
    differ.hidden = !differ.textContent;
  }
}
