// The page that needs no kernel. It stands after face_map.js and widgets.js in one module: the widgets draw it, and
// what Explore asks Python for is answered here from the data that the page carries.

const EACH_PAGE = 24;
const SORTS = [["iou", "supported, then highest IoU first"], ["lean", "strongest lean first"], ["unit", "by number"]];

// What a widget has to do with a kernel, without one: values by name, and who is told when one changes.
function held(values) {
  const idle = { busy: "", progress: 0, error: "", stop: false, page: 0, pages: 1, told: "", detail: {} };
  const heard = {}, now = { ...idle, ...values };
  return {
    get: (name) => now[name],
    set(name, value) {
      if (now[name] === value) return;
      now[name] = value;
      for (const react of heard[`change:${name}`] ?? []) react();
    },
    on(name, react) { (heard[name] ??= []).push(react); },
    save_changes() {},
  };
}

const offered = (rows, name) => [...new Set(rows.map((row) => row[name]))].map((value) => [value, value]);

// Sentences, those after the first three folded.
const said = (texts) => {
  const item = (textContent) => element("li", { textContent });
  const list = (some) => element("ul", { className: "findings" }, ...some.map(item));
  const head = element("summary", { textContent: `${texts.length - 3} more sentences` });
  return element("div", {}, list(texts.slice(0, 3)),
    ...(texts.length > 3 ? [element("details", {}, head, list(texts.slice(3)))] : []));
};

// Selects for the fields [name, label] in which `rows` differ. A choice that no row has together with the others moves
// these; `show(row)` gets the row that is chosen, at first the first one.
function selects(model, rows, fields, show) {
  let now = rows[0];
  const fits = (row) => fields.filter(([name]) => row[name] === now[name]).length;
  for (const [name] of fields) {
    model.set(`${name} offers`, offered(rows, name));
    model.set(name, now[name]);
    model.on(`change:${name}`, () => {
      if (model.get(name) === now[name]) return;
      now = rows.filter((row) => row[name] === model.get(name)).sort((a, b) => fits(b) - fits(a))[0];
      for (const [each] of fields) model.set(each, now[each]);
      show(now);
    });
  }
  const several = fields.filter(([name]) => offered(rows, name).length > 1);
  show(now);
  return element("div", { className: "controls" },
    ...several.map(([name, label]) => choice(model, name, label, `${name} offers`)));
}

// A page of `found` as small pictures.
function turn(model, found, told) {
  const pages = Math.max(1, Math.ceil(found.length / EACH_PAGE));
  const page = Math.min(Math.max(model.get("page"), 0), pages - 1);
  for (const [name, value] of Object.entries({ told, pages, page })) model.set(name, value);
  model.set("cards", found.slice(page * EACH_PAGE, (page + 1) * EACH_PAGE));
}

const OF_RESULT = [["model", "Model"], ["class", "Class"], ["method", "Method"]];

const regionsOf = ({ regions, behind, album, faces: { cards: known } }, open) => (model, body) => {
  const [elsewhere, left, right, exchanged, panel] = Array.from({ length: 5 }, () => element("div"));
  const words = element("div", { ariaLive: "polite" });
  let row;
  const about = (region) => {
    model.set("shown", { region: behind[row.behind].regions[region], uris: album });
    const same = regions.filter((other) => other.method === row.method && region in other.numbers);
    const most = Math.max(...same.map((one) => Math.abs(one.numbers[region][0]))) || 1;
    const bar = (one, [value, text]) => [`${one.model} · ${one.class}`, value / most, text, one === row];
    elsewhere.replaceChildren(...(same.length < 2 ? [] : [section(`The same by ${row.method} in every result`,
      bars(same.map((one) => bar(one, one.numbers[region]))))]));
  };
  const show = (chosen) => {
    row = chosen;
    if (!(model.get("region") in behind[row.behind].regions)) model.set("region", behind[row.behind].first);
    model.set("svg", row.svg);
    about(model.get("region"));
    words.replaceChildren(element("p", { className: "note", textContent: row.explanation }), said(row.said));
    exchanged.replaceChildren(...(row.exchanges ? exchanges(row.exchanges) : []));
  };
  const controls = selects(model, regions, OF_RESULT, show);
  model.on("change:region", () => about(model.get("region")));
  model.set("openable", new Set(known.map((card) => card.key)));
  model.on("change:opened", () => model.get("opened") && open(model.get("opened")));
  map(model, left);
  gallery(model, panel);
  left.append(words);
  right.append(panel, elsewhere);
  body.append(controls, element("div", { className: "split beside" }, left, right), exchanged);
};

const exchanges = ({ sentence, rows }) => {
  const figure = ({ uri, alt, title, value }) => element("figure", {}, image(uri, alt),
    element("figcaption", {}, `${title}: `, element("b", { textContent: value })));
  const all = rows.map((row) => element("div", { className: "exchange" }, ...row.map(figure)));
  return [element("h3", { textContent: "The exchange itself" }), element("p", { textContent: sentence }),
    element("div", { className: "exchanges" }, ...all)];
};

const BY = ["sort", "concept", "area", "leans", "least_iou"];

const unitsOf = ({ units: layers }) => (model, body) => {
  let layer;
  const list = () => {
    const [sort, concept, area, leans, least] = BY.map((name) => model.get(name));
    const found = layer.units.filter((one) => (!concept || one.concept === concept) && (!area || one.area === area)
      && (!leans || one.leans.includes(leans)) && one.iou >= least);
    const lean = (one) => (leans ? one.lean[leans.split(": ")[0]] : Math.max(0, ...Object.values(one.lean)));
    const by = { iou: () => 0, lean: (a, b) => lean(b) - lean(a), unit: (a, b) => a.key - b.key }[sort];
    const unsure = found.filter((one) => one.unsure).length;
    turn(model, found.sort(by), `${found.length} of ${layer.of} units, ${unsure} of them without a supported label`);
  };
  const show = (chosen) => {
    layer = chosen;
    const first = { concept: "", area: "", leans: "", page: 0, unit: -1, detail: {}, title: `Units of ${layer.layer}` };
    for (const name of ["concepts", "areas", "groups"]) model.set(name, layer[name]);
    for (const [name, value] of Object.entries(first)) model.set(name, value);
    list();
  };
  body.append(selects(model, layers, [["model", "Model"], ["layer", "Layer"]], show));
  for (const name of [...BY, "page"]) model.on(`change:${name}`, list);
  model.on("change:unit", () => {
    const one = layer.units.find((each) => each.key === model.get("unit"));
    model.set("detail", one ? { ...one.detail, fixed: true } : {});
  });
  units(model, body);
};

const numbersOf = (rows, findings) => (model, body) => {
  const drawn = element("div", { ariaLive: "polite", className: "long" });
  const show = (row) => drawn.replaceChildren(bars(row.rows));
  body.append(selects(model, rows, [["attribute", "Of"], ["metric", "Number"]], show), drawn, said(findings));
};

const facesOf = ({ faces: { cards: all, of }, regions }) => (model, body) => {
  const results = regions.map((row, place) => ({ ...row, place }));
  let row = results[0];
  const look = () => {
    const one = all.find((card) => card.key === model.get("path")), found = one && row && one.scores[row.place];
    const about = row ? found?.said ?? "It is none of the faces of this result." : "";
    model.set("detail", one ? {
      name: one.key, face: one.picture, said: `${about} ${one.labels.join(", ")}`,
      tables: found ? [[`${row.method} of its regions, ${row.model} · ${row.class}`, found.rows]] : [],
    } : {});
  };
  const list = () => {
    const word = model.get("search").toLowerCase(), group = model.get("group");
    const fits = ({ key, labels }) => key.toLowerCase().includes(word) && (!group || labels.includes(group));
    const found = all.filter(fits), here = all.length < of ? `, of which ${all.length} are in this page` : "";
    turn(model, found, `${found.length} of ${of} faces${here}`);
  };
  for (const name of ["search", "group", "page"]) model.on(`change:${name}`, list);
  model.on("change:path", look);
  model.on("change:random", () => model.set("path", all[Math.floor(Math.random() * all.length)].key));
  if (results.length) body.append(selects(model, results, OF_RESULT, (chosen) => { row = chosen; look(); }));
  list();
  faces(model, body);
};

const stagesOf = ({ stages: rows }) => (model, body) => {
  const drawn = element("div");
  body.append(selects(model, rows, [["title", "Stage"]], (row) => drawn.replaceChildren(said(row.said),
    ...row.pictures.map(([src, alt]) => element("div", { className: "wide", tabIndex: 0 }, image(src, alt))))), drawn);
};

// Draw the page: a part at a time, the one that the address names, or the first.
export function mountExplorer(page) {
  const uris = JSON.parse(page.getElementById("uris").textContent);
  const restored = (_, value) => (typeof value?.uri === "number" ? uris[value.uri] : value);
  const data = JSON.parse(page.getElementById("data").textContent, restored), findings = (name) => data.said[name] ?? [];
  const regions = held({ title: "Which regions drive the class", opacity: 0.65 });
  const units = held({ sorts: SORTS, sort: "iou", least_iou: 0, cards: [], ablated: false, effect: {} });
  const first = { search: "", group: "", groups: data.faces.groups, random: 0, path: "", cards: [] };
  const single = held({ title: "Single faces", ...first }), mended = held({ title: "Before and after the repair" });
  const open = (path) => { location.hash = "faces"; single.set("path", path); };
  const parts = {
    regions: ["Regions", data.regions, regionsOf(data, open), regions],
    units: ["Units", data.units, unitsOf(data), units],
    groups: ["Groups", data.groups, numbersOf(data.groups, findings("audit")), held({ title: "Whom it treats worse" })],
    faces: ["Faces", data.faces.cards, facesOf(data), single],
    repair: ["Repair", data.repair, numbersOf(data.repair, findings("repair")), mended],
    stages: ["Pictures", data.stages, stagesOf(data), held({ title: "What each stage found" })],
  };
  const there = Object.entries(parts).filter(([, [, rows]]) => rows.length);
  const nav = page.querySelector("nav"), main = page.querySelector("main");
  for (const [name, [text]] of there) nav.append(element("a", { href: `#${name}`, textContent: text }));
  const drawn = {};
  const show = () => {
    const asked = location.hash.slice(1), name = there.some(([each]) => each === asked) ? asked : there[0]?.[0];
    if (!name) return;
    const [, , draw, model] = parts[name];
    if (!drawn[name]) {
      main.append(drawn[name] = element("section", {}));
      widget(draw).render({ model, el: drawn[name] });
    }
    for (const [each, el] of Object.entries(drawn)) el.hidden = each !== name;
    for (const link of nav.children) link.ariaCurrent = link.hash === `#${name}` ? "page" : null;
  };
  window.addEventListener("hashchange", show);
  show();
}
