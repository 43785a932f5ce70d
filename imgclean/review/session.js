// The decisions of a report: what session.py, decisions.py, suggest.py, clash.py and filters.py do, in the browser.
// Each method does what the one of that name in Python does; tests drive both side by side.

// Python's order of texts: by code point, where JavaScript compares halves of them.
function compareTexts(a, b) {
  const [x, y] = [[...a], [...b]];
  const at = x.findIndex((c, k) => c !== y[k]);
  if (at < 0) return x.length - y.length;
  return at >= y.length ? 1 : x[at].codePointAt(0) - y[at].codePointAt(0);
}
const ascending = (ks) => [...new Set(ks)].sort((a, b) => a - b);
const isSubset = (ks, of) => { const all = new Set(of); return [...ks].every((k) => all.has(k)); };

// Images of the first side are other pictures than those of the second; sides as Relation in decisions.py sorts them.
function relationOf(one, others) {
  const [a, b] = [ascending(one), ascending(others)];
  const at = a.findIndex((k, i) => k !== b[i]);
  const first = at < 0 || (at < b.length && a[at] < b[at]);
  return first ? [a, b] : [b, a];
}
const relationItems = ([one, others]) => new Set([...one, ...others]);
const separates = ([one, others], i, j) => i !== j && ((one.includes(i) && others.includes(j)) || (one.includes(j) && others.includes(i)));

class Apart {
  relations = new Map(); // text of a relation -> it
  of = new Map(); // item -> texts of its relations

  set(relation, value) {
    const text = JSON.stringify(relation);
    if (value) this.relations.set(text, relation);
    else this.relations.delete(text);
    for (const k of relationItems(relation)) {
      if (!this.of.has(k)) this.of.set(k, new Set());
      value ? this.of.get(k).add(text) : this.of.get(k).delete(text);
    }
  }
  has = (relation) => this.relations.has(JSON.stringify(relation));
  differ = (i, j) => [...(this.of.get(i) ?? [])].some((text) => separates(this.relations.get(text), i, j));

  parts(group, also = null) {
    if (!also && !group.some((k) => this.of.get(k)?.size)) return [[...group]];
    const differ = (i, j) => this.differ(i, j) || (also !== null && separates(also, i, j));
    const parts = [];
    for (const k of group) {
      const home = parts.find((part) => !part.some((other) => differ(k, other)));
      home ? home.push(k) : parts.push([k]);
    }
    return parts;
  }
}

// A change is {marks: [[item, mark]], labels: [[item, label]], apart: [[relation, true]]}; null takes back.
const changedItems = ({ marks, labels, apart }) => [...new Set([...marks, ...labels].map(([k]) => k).concat(apart.flatMap(([r]) => [...relationItems(r)])))];

// `log` keeps the lines: lines() returns those that are new since the last call, append(line) adds one.
class ReportSession {
  marks = new Map();
  labels = new Map();
  apart = new Apart();
  done = [];
  undone = [];
  watchers = [];

  constructor(data, log) {
    this.items = new Map(data.items.map((item) => [item.id, item])); // {id, label in the dataset, …}
    this.groups = data.groups.map((g) => ({ ...g, shown: g.row.images, ...g.row, images: g.images }));
    this.protected = new Set(this.groups.flatMap((g) => g.protected));
    this.grades = data.grades;
    this.labelDelim = data.label_delim;
    this.log = log;
    this.nLines = 0;
    this.put({ marks: data.marks, labels: data.labels, apart: data.apart }); // of the ledger, when the report was made
    this.catchUp();
  }

  // ---- what is so

  markOf = (k) => this.marks.get(k) ?? null;
  labelOf = (k) => (this.labels.has(k) ? this.labels.get(k) : this.items.get(k).label);
  get deleted() { return ascending([...this.marks.keys()].filter((k) => this.marks.get(k) === "delete")); }
  get kept() { return ascending([...this.marks.keys()].filter((k) => this.marks.get(k) === "keep")); }
  parts = (g) => this.apart.parts(this.groups[g].images);
  isDecided(g) {
    const { images } = this.groups[g];
    return images.every((k) => this.marks.has(k)) || (images.length === 1 && this.labels.has(images[0]));
  }
  get nDecided() { return this.groups.filter((_, g) => this.isDecided(g)).length; }
  lost() { // groups that would keep no image, or one of whose pictures would
    const gone = (part) => part.length > 1 && part.every((k) => this.marks.get(k) === "delete");
    return this.groups.flatMap(({ images }, g) => (gone(images) || this.parts(g).some(gone) ? [g] : []));
  }
  alone(g) { // told to be other pictures than all the others
    const parts = this.parts(g);
    return parts.length > 1 ? parts.filter((part) => part.length === 1).map(([k]) => k) : [];
  }

  // ---- labels that differ

  votes(part) { // meaning of a label -> {label in its first spelling, n}
    const staying = part.filter((k) => this.marks.get(k) !== "delete");
    const found = new Map();
    for (const label of (staying.length ? staying : part).map(this.labelOf)) {
      if (label === null) continue;
      const vote = found.get(this.meaning(label)) ?? { label, n: 0 };
      found.set(this.meaning(label), { ...vote, n: vote.n + 1 });
    }
    return [...found.values()];
  }
  meaning(label) {
    if (!this.labelDelim) return label;
    return JSON.stringify([...new Set(label.split(this.labelDelim))].filter(Boolean).sort());
  }
  most(votes) {
    const [first, second] = [...votes].sort((a, b) => b.n - a.n);
    return first && first.n > (second?.n ?? 0) ? first.label : null;
  }
  clashInWords(g) {
    const words = (votes) => {
      const counted = [...votes].sort((a, b) => b.n - a.n || compareTexts(a.label, b.label)).map(({ label, n }) => `${n} ${label}`).join(", ");
      const most = this.most(votes);
      return most ? `labels differ, most say ${most}: ${counted}` : `labels differ and tie: ${counted}`;
    };
    return this.parts(g).map((part) => this.votes(part)).filter((votes) => votes.length > 1).map(words).join("; ");
  }
  isClash = (g) => this.parts(g).some((part) => this.votes(part).length > 1);
  agreed(gs) {
    const clashing = new Set(this.groups.flatMap(({ images }, g) => (this.isClash(g) ? images : [])));
    return gs.filter((g) => !this.groups[g].images.some((k) => clashing.has(k)));
  }
  clashesOf(ks) {
    const some = new Set(ks);
    return this.groups.flatMap(({ images }, g) => (images.some((k) => some.has(k)) ? [[g, this.clashInWords(g)]] : []));
  }

  // ---- suggestions and filters

  suggestedMarks(gs, fixed, whole = false) {
    const marks = new Map([...gs.flatMap((g) => this.groups[g].protected.map((k) => [k, "keep"])), ...fixed]);
    for (const g of gs) {
      for (const part of whole ? [this.groups[g].images] : this.parts(g)) {
        let kept = part.filter((k) => marks.get(k) === "keep");
        if (!kept.length) kept = part.filter((k) => !marks.has(k)).slice(0, 1);
        if (!kept.length) kept = part.filter((k) => !fixed.has(k)).slice(0, 1);
        for (const k of part) if (!marks.has(k)) marks.set(k, "delete");
        for (const k of kept) marks.set(k, "keep");
      }
    }
    return [...marks].filter(([k]) => !fixed.has(k));
  }
  select({ state = "all", label = null, grade = null, min_similarity: least = null, leak = false, clash = false, predicted = null, actual = null, sort = "found" }) {
    const fits = (group, g) => (state === "all" || this.isDecided(g) === (state === "decided"))
      && (label === null || group.images.some((k) => this.labelOf(k) === label))
      && (least === null || (group.similarity !== null && group.similarity >= least))
      && (predicted === null || predicted === group.predicted)
      && (actual === null || actual === this.items.get(group.images[0]).label)
      && (!leak || group.leak) && (!clash || this.isClash(g))
      && (grade === null || group.grade === grade);
    const chosen = this.groups.flatMap((group, g) => (fits(group, g) ? [g] : []));
    const by = (key) => chosen.map((g) => [key(g), g]).sort(([a], [b]) => (typeof a === "string" ? compareTexts(a, b) : a - b)).map(([, g]) => g);
    const keys = {
      similarity: (g) => -(this.groups[g].similarity ?? 0), label: (g) => this.labelOf(this.groups[g].images[0]) ?? "",
      size: (g) => -this.groups[g].images.length, clash: (g) => (this.isClash(g) ? 0 : 1), grade: (g) => this.rank(this.groups[g].grade),
    };
    return sort === "found" ? chosen : by(keys[sort]);
  }
  rank = (grade) => (this.grades.includes(grade) ? this.grades.indexOf(grade) : this.grades.length);

  // ---- actions: each is one step of undo

  mark(ks, value) {
    const safe = ks.find((k) => this.protected.has(k));
    if (value === "delete" && safe !== undefined) throw new Error(`${this.items.get(safe).name} is protected; to delete it, find the groups without protecting it`);
    this.act("mark", { marks: ks.map((k) => [k, value]) });
  }
  keepOnly(ks, gs) {
    const back = gs.length === 1 ? this.reunited(gs[0]) : [];
    const marks = new Map();
    for (const g of gs) {
      const { images } = this.groups[g];
      for (const k of ks.filter((k) => images.includes(k))) {
        for (const c of images) if (back.length || !this.apart.differ(c, k)) marks.set(c, this.protected.has(c) ? "keep" : "delete");
      }
    }
    for (const k of ks) marks.set(k, "keep");
    this.act("keep only", { marks: [...marks], apart: back });
  }
  keepAll(gs) {
    const groups = gs.map((g) => this.groups[g].images);
    const apart = groups.filter((group) => new Set(group).size > 1).map((group) => [relationOf(group, group), true]);
    this.act("keep all", { marks: groups.flat().map((k) => [k, "keep"]), apart });
  }
  notDuplicate(ks, g) {
    const group = this.groups[g].images;
    if (!isSubset(ks, group) || isSubset(group, ks)) throw new Error("all images of the group are chosen, or some of another one; choose some of one group");
    const relation = relationOf(ks, group.filter((k) => !ks.includes(k)));
    const alone = this.apart.parts(group, relation).filter((part) => part.length === 1);
    this.act("not duplicate", { marks: alone.map(([k]) => [k, "keep"]), apart: [[relation, true]] });
  }
  keepBest(gs) {
    const back = gs.length === 1 ? this.reunited(gs[0]) : [];
    this.act("keep best", { marks: this.suggestedMarks(gs, new Map(), back.length > 0), apart: back });
  }
  acceptSuggestions(gs, grade) { // number of images marked
    const all = gs ?? this.groups.map((_, g) => g);
    const listed = all.filter((g) => grade === null || this.groups[g].grade === grade);
    const marks = this.suggestedMarks(this.agreed(listed), new Map(this.marks));
    this.act("accept suggestions", { marks });
    return marks.length;
  }
  accept(g) {
    const unmarked = this.groups[g].images.filter((k) => !this.marks.has(k));
    this.act("accept", { marks: unmarked.map((k) => [k, "keep"]) });
  }
  relabel(ks, label) { this.act("relabel", { labels: ks.map((k) => [k, this.own(k, label)]) }); }
  relabelToMajority(gs, ks) { // number of images with another label than before
    const fresh = new Map();
    for (const part of gs.flatMap((g) => this.parts(g))) {
      const label = this.most(this.votes(part)) || this.most(this.votes(part.filter((k) => ks.includes(k))));
      if (label === null) continue;
      for (const k of part) if (this.labelOf(k) !== null && this.meaning(this.labelOf(k)) !== this.meaning(label)) fresh.set(k, label);
    }
    this.act("relabel", { labels: [...fresh].map(([k, label]) => [k, this.own(k, label)]) });
    return fresh.size;
  }
  dropAll(gs) {
    const images = gs.flatMap((g) => this.groups[g].images).filter((k) => !this.protected.has(k));
    this.act("drop all", { marks: images.map((k) => [k, "delete"]) });
  }
  undo() { return this.repeat("undo", this.done); }
  redo() { return this.repeat("redo", this.undone); }

  // ---- inside

  own(k, label) { return label === this.items.get(k).label ? null : label; }
  reunited(g) { // what tells all images of the group apart
    const { images } = this.groups[g];
    if (images.length < 2 || this.parts(g).length < images.length) return [];
    return [...this.apart.relations.values()].filter((r) => isSubset(relationItems(r), images)).map((r) => [r, null]);
  }
  differing({ marks = [], labels = [], apart = [] }) {
    const last = (pairs) => [...new Map(pairs)];
    return {
      marks: last(marks).filter(([k, v]) => this.markOf(k) !== v),
      labels: last(labels).filter(([k, v]) => (this.labels.get(k) ?? null) !== v),
      apart: last(apart).filter(([r, v]) => this.apart.has(r) !== Boolean(v)),
    };
  }
  act(what, wanted) {
    this.catchUp();
    const change = this.differing(wanted);
    if (changedItems(change).length) this.record({ do: what, ...change });
  }
  repeat(what, steps) { // the items that changed
    this.catchUp();
    const step = steps.at(-1);
    if (!step) return [];
    const change = what === "undo" ? step.before : step.after;
    this.record({ do: what, of: step.id, ...change });
    return changedItems(change);
  }
  record(line) {
    this.log.append(line);
    this.catchUp();
  }
  catchUp() { for (const line of this.log.lines()) if (this.isSound(line)) this.take(line); }
  isSound({ marks, labels, apart }) { // other pages may write where the browser keeps the lines
    const pairs = (found, fits) => Array.isArray(found) && found.every((pair) => Array.isArray(pair) && fits(pair));
    const known = (ks) => Array.isArray(ks) && ks.every((k) => this.items.has(k));
    return pairs(marks, ([k, mark]) => this.items.has(k) && ["delete", "keep", null].includes(mark))
      && pairs(labels, ([k, label]) => this.items.has(k) && (label === null || typeof label === "string"))
      && pairs(apart, ([sides, value]) => Array.isArray(sides) && sides.length === 2 && sides.every(known) && [true, null].includes(value));
  }
  take(line) {
    const before = {
      marks: line.marks.map(([k]) => [k, this.markOf(k)]),
      labels: line.labels.map(([k]) => [k, this.labels.get(k) ?? null]),
      apart: line.apart.map(([r]) => [r, this.apart.has(r) || null]),
    };
    const after = { marks: line.marks, labels: line.labels, apart: line.apart };
    this.put(after);
    this.remember(line, { id: this.nLines++, before, after });
    for (const watcher of this.watchers) watcher(line);
  }
  put({ marks, labels, apart }) {
    for (const [state, pairs] of [[this.marks, marks], [this.labels, labels]]) {
      for (const [k, value] of pairs) value === null ? state.delete(k) : state.set(k, value);
    }
    for (const [relation, value] of apart) this.apart.set(relation, value);
  }
  remember(line, step) {
    if (line.do !== "undo" && line.do !== "redo") {
      this.done.push(step);
      this.undone = [];
      return;
    }
    const [source, target] = line.do === "undo" ? [this.done, this.undone] : [this.undone, this.done];
    const at = source.findIndex((known) => known.id === line.of);
    if (at >= 0) target.push(...source.splice(at, 1));
  }
}
