// What draws the widgets. It stands after face_map.js in one module, and uses its element(), mount() and showRegion().

const set = (model, trait, value) => { model.set(trait, value); model.save_changes(); };
const on = (model, traits, react) => { for (const trait of traits) model.on(`change:${trait}`, react); react(); };
const button = (textContent, onclick, more = {}) => element("button", { type: "button", textContent, onclick, ...more });
const image = (src, alt = "", className = "") => element("img", { src, alt, className });
const covered = ({ picture, veil }, alt) =>
  (veil ? element("div", { className: "face" }, image(picture, alt), image(veil, "", "veil")) : image(picture, alt));
const section = (title, ...inside) =>
  element("div", { className: "part" }, element("h3", { textContent: title }), ...inside);

// Words on how long work will take that began at `since` and has come so far; none before that can be said.
function timeLeft(since, progress) {
  const seconds = (Date.now() - since) / 1000, left = seconds * (1 / progress - 1);
  if (progress >= 1 || progress < 0.02 || seconds < 3) return "";
  return left < 100 ? ` · about ${5 * Math.ceil(left / 5)} s left` : ` · about ${Math.round(left / 60)} min left`;
}

// Give what anywidget asks for: `draw(model, body)` fills the widget; work under way and errors stand above it.
const widget = (draw) => ({
  render({ model, el }) {
    const told = element("span"), bar = element("progress", { max: 1, ariaLabel: "how far it is" });
    const work = element("div", { className: "work", role: "status" }, told, bar,
      button("Stop", () => set(model, "stop", true)));
    const error = element("p", { className: "error", role: "alert" }), body = element("div", { className: "body" });
    el.classList.add("fx");
    const head = element("h2", { tabIndex: -1 });
    let since, busy = "";
    el.replaceChildren(head, work, error, body);
    on(model, ["title", "busy", "progress", "error"], () => {
      if (!busy || model.get("progress") < bar.value) since = Date.now();
      busy = model.get("busy");
      head.textContent = model.get("title");
      told.textContent = busy && busy + timeLeft(since, model.get("progress"));
      bar.value = model.get("progress");
      work.classList.toggle("idle", !model.get("busy"));
      error.textContent = model.get("error") && `⚠ ${model.get("error")}`;
      error.hidden = !model.get("error");
      body.ariaBusy = String(Boolean(model.get("busy")));
    });
    draw(model, body);
    const go = () => {
      if (!model.get("arrived")) return;
      if (!head.isConnected) return requestAnimationFrame(go);
      head.focus({ preventScroll: true });
      el.scrollIntoView({ block: "start" });
    };
    on(model, ["arrived"], go);
  },
});

// A select for `trait`; the trait `from` holds its [value, text] pairs.
function choice(model, trait, label, from) {
  const box = element("select", { ariaLabel: label });
  on(model, [trait, from], () => {
    box.replaceChildren(...model.get(from).map(([value, textContent]) => element("option", { value, textContent })));
    box.value = model.get(trait);
  });
  box.addEventListener("change", () => set(model, trait, box.value));
  return element("label", { className: "control" }, label, box);
}

// An input for `trait`, which follows the typing.
function field(model, trait, label, how = {}) {
  const box = element("input", { type: "search", ariaLabel: label, ...how });
  const value = () => (how.type === "number" ? Number(box.value) : box.value);
  let later;
  on(model, [trait], () => { if (document.activeElement !== box) box.value = model.get(trait); });
  box.addEventListener("input", () => { clearTimeout(later); later = setTimeout(() => set(model, trait, value()), 200); });
  return element("label", { className: "control" }, label, box);
}

// Small pictures to choose from, a page of them in the trait `cards`; `chosen` is the trait that holds the key of one.
function cards(model, chosen) {
  const list = element("ul", { className: "cards" }), told = element("span", { role: "status" });
  const turn = (step) => () => set(model, "page", model.get("page") + step);
  const back = button("← Previous", turn(-1)), next = button("Next →", turn(1));
  const mark = () => {
    for (const one of list.querySelectorAll("button")) one.ariaPressed = String(one.value === String(model.get(chosen)));
  };
  on(model, ["cards"], () => {
    list.replaceChildren(...model.get("cards").map((one) => element("li", {}, element("button",
      { type: "button", className: "card", value: String(one.key), onclick: () => set(model, chosen, one.key) },
      covered(one), element("b", { textContent: one.title }), element("span", { textContent: one.text })))));
    mark();
  });
  model.on(`change:${chosen}`, mark);
  on(model, ["page", "pages", "told"], () => {
    back.disabled = model.get("page") <= 0;
    next.disabled = model.get("page") >= model.get("pages") - 1;
    told.textContent = `${model.get("told")}; page ${model.get("page") + 1} of ${model.get("pages")}`;
  });
  return [list, element("div", { className: "pager" }, back, told, next)];
}

// Numbers as bars: rows of [name, share of the width, text, whether it stands out].
const bars = (rows) => element("table", { className: "bars" }, element("tbody", {},
  ...rows.map(([name, share, text, strong]) => element("tr", { className: strong ? "strong" : "" },
    element("th", { scope: "row", textContent: name }),
    element("td", {}, element("i", { style: `width:${Math.max(0, Math.min(1, share)) * 100}%` })),
    element("td", { textContent: text })))));

// A face, large, with its map as a veil, the outlines of its regions, and what is known of it.
function showFace(panel, one) {
  const slider = element("input", { type: "range", min: 0, max: 100, value: 65 });
  slider.addEventListener("input", () => panel.style.setProperty("--veil", slider.value / 100));
  const face = element("div", { className: "face" }, image(one.face, `face ${one.name}`)), controls = [];
  if (one.veil) {
    face.append(image(one.veil, "", "veil"));
    controls.push(element("label", { className: "slider" }, "Dim what the map does not mark", slider));
  }
  if (one.outlines) {
    const lines = element("input", { type: "checkbox", checked: true }), outlines = image(one.outlines, "", "veil outlines");
    lines.addEventListener("change", () => { outlines.hidden = !lines.checked; });
    face.append(outlines);
    controls.push(element("label", { className: "slider" }, lines, "Outlines of the regions"));
  }
  panel.replaceChildren(element("h3", { textContent: one.name }), element("p", { textContent: one.said }),
    element("div", { className: "large" }, element("div", {}, face, ...controls),
      element("div", {}, ...one.tables.map(([title, rows]) => section(title, bars(rows))))));
}

function layers(model, body) {
  const tree = element("div", { className: "tree", role: "group", ariaLabel: "Layers" });
  const group = `layer-${Math.random()}`, about = element("p", { className: "note" });
  const row = (one) => element("label", { className: "layer", title: one.name },
    element("input", { type: "radio", name: group, value: one.name, disabled: Boolean(one.problem),
      onchange: () => set(model, "layer", one.name) }),
    element("b", { textContent: one.name.split(".").pop() }), element("span", { textContent: one.type }),
    element("span", { textContent: one.problem ? `✕ ${one.problem}` : one.shape }),
    element("span", { textContent: one.problem ? "" : `${one.parameters} parameters` }));
  const fill = (parent, rows, above) => {
    for (const one of rows.filter((r) => r.parent === above)) {
      const inside = element("div", { className: "inside" }), toggle = button("", () => show(inside.hidden));
      const show = (open) => {
        Object.assign(toggle, { ariaExpanded: String(open), ariaLabel: `inside ${one.name}`, textContent: open ? "▾" : "▸" });
        inside.hidden = !open;
      };
      show(Boolean(model.get("search")) || model.get("layer").startsWith(`${one.name}.`));
      fill(inside, rows, one.name);
      parent.append(element("div", { className: "branch" }, ...(inside.firstChild ? [toggle] : []), row(one), inside));
    }
  };
  on(model, ["layers", "search"], () => {
    const words = model.get("search").toLowerCase(), all = model.get("layers");
    const hit = (r) => `${r.name} ${r.type}`.toLowerCase().includes(words);
    const rows = all.filter((r) => hit(r) || all.some((o) => hit(o) && o.name.startsWith(`${r.name}.`)));
    tree.replaceChildren();
    fill(tree, rows, "");
    const none = `No layer has “${model.get("search")}” in its name or type.`;
    if (!rows.length) tree.append(element("p", { textContent: none }));
    mark();
  });
  function mark() {
    for (const box of tree.querySelectorAll("input")) box.checked = box.value === model.get("layer");
    about.textContent = model.get("told");
  }
  on(model, ["layer", "told"], mark);
  body.append(field(model, "search", "Search"), tree, about);
}

function map(model, body) {
  const holder = element("div", { className: "view" }), readout = element("p", { className: "readout" });
  const numbers = element("ol", { className: "numbers-below", ariaLabel: "The numbers, the largest first" });
  let mounted;
  on(model, ["svg"], () => {
    if (!model.get("svg")) return;
    mounted = mount(holder, { svg: model.get("svg"), readout }, (region) => set(model, "region", region));
    mounted.select(model.get("region"));
    numbers.replaceChildren(...mounted.numbers.map(([name, text]) => element("li", {}, element("span", {}, name), element("b", {}, text))));
  });
  model.on("change:region", () => mounted?.select(model.get("region")));
  readout.textContent = "Point at a region, or reach it with Tab, for its number; click, Enter or Space selects it.";
  body.append(readout, holder, numbers);
}

function classes(model, body) {
  const controls = [["target_class", "Class", "classes"], ["method", "Method", "methods"], ["group", "Faces", "groups"],
    ["compare", "Compare with", "compares"]].map((each) => choice(model, ...each));
  const compared = element("div", { className: "compared" });
  on(model, ["compared"], () => {
    compared.innerHTML = model.get("compared").map((svg) => `<div>${svg}</div>`).join("");
  });
  const face = element("div");
  map(model, face);
  body.append(element("div", { className: "controls" }, ...controls), face, compared);
}

function gallery(model, body) {
  const panel = element("div", { className: "behind", ariaLive: "polite" });
  const large = element("div", { className: "opened", tabIndex: -1 });
  const open = (name) => { set(model, "opened", ""); set(model, "opened", name); };
  on(model, ["shown"], () => {
    const { region, uris } = model.get("shown");
    if (!region) return panel.replaceChildren(element("p", { textContent: "Nothing was scored yet." }));
    showRegion(panel, region, uris);
    for (const [list, rows] of [[".examples", region.examples], [".patches", region.patches]]) {
      panel.querySelectorAll(`${list} figure`).forEach((figure, k) => {
        if (model.get("openable")?.has(rows[k].name) === false) return;
        const told = { className: "opener", ariaLabel: `open ${rows[k].name} large` };
        const opener = button("", () => open(rows[k].name), told);
        figure.prepend(opener);
        opener.append(...[...figure.children].filter((part) => part !== opener && part.tagName !== "FIGCAPTION"));
      });
    }
    const slider = panel.querySelector(".slider input");
    if (!slider) return;
    slider.value = 100 * model.get("opacity");
    slider.addEventListener("change", () => set(model, "opacity", slider.value / 100));
  });
  on(model, ["opacity"], () => body.style.setProperty("--veil", model.get("opacity")));
  on(model, ["detail"], () => {
    if (!model.get("detail").name) return large.replaceChildren();
    showFace(large, model.get("detail"));
    large.prepend(button("✕ Close", () => set(model, "opened", ""), { className: "close" }));
    large.focus({ preventScroll: true });
    large.scrollIntoView({ block: "nearest" });
  });
  body.append(large, panel);
}

function units(model, body) {
  const detail = element("div", { className: "detail" }), effect = element("div", { ariaLive: "polite" });
  const box = element("input", { type: "checkbox", onchange: () => set(model, "ablated", box.checked) });
  const off = element("label", { className: "control inline" }, box, "Switch this unit off, and see what changes");
  const controls = [["sort", "Order", "sorts"], ["concept", "Concept", "concepts"], ["area", "Face area", "areas"],
    ["leans", "Leans to", "groups"]].map((each) => choice(model, ...each));
  controls.push(field(model, "least_iou", "IoU at least", { type: "number", min: 0, max: 1, step: 0.01 }));
  on(model, ["detail"], () => {
    const one = model.get("detail");
    if (!one.title) return detail.replaceChildren();
    const tops = one.tops.map((top) => element("li", {}, element("figure", {},
      covered(top, `active area of ${one.title} lit on ${top.name}`),
      element("figcaption", {}, element("b", { textContent: top.text }), element("span", { textContent: top.after })))));
    detail.replaceChildren(element("h3", { textContent: one.title }), element("p", { textContent: one.said }),
      element("ul", { className: "examples" }, ...tops), ...(one.fixed ? [] : [off, effect]),
      element("div", { className: "tables" }, ...one.tables.map(([title, rows]) => section(title, bars(rows)))));
  });
  on(model, ["ablated", "effect"], () => {
    box.checked = model.get("ablated");
    const { said, rows } = model.get("effect");
    effect.replaceChildren(...(said ? [element("p", { textContent: said }), bars(rows)] : []));
  });
  const [list, pager] = cards(model, "unit");
  body.append(element("div", { className: "controls" }, ...controls),
    element("div", { className: "split" }, element("div", {}, list, pager), detail));
  model.on("change:detail", () => detail.scrollIntoView({ block: "nearest" }));
}

function faces(model, body) {
  const detail = element("div", { className: "detail", ariaLive: "polite" });
  const file = element("input", { type: "file", accept: "image/*", ariaLabel: "Your own picture" });
  file.addEventListener("change", async () => {
    const [one] = file.files;
    if (!one) return;
    const most = model.get("largest"), megabytes = (one.size / 1e6).toFixed(1);
    const error = `${one.name} has ${megabytes} MB; at most ${most / 1e6} MB can be taken.`;
    if (one.size > most) return model.set("error", error);
    model.set("upload_name", one.name);
    set(model, "upload", new DataView(await one.arrayBuffer()));
    file.value = "";
  });
  on(model, ["detail"], () => {
    if (model.get("detail").name) showFace(detail, model.get("detail"));
    else detail.replaceChildren();
  });
  const [list, pager] = cards(model, "path");
  body.append(element("div", { className: "controls" },
    field(model, "search", "Name"), choice(model, "group", "Faces", "groups"),
    button("A face at random", () => set(model, "random", model.get("random") + 1)),
    ...(model.get("largest") ? [element("label", { className: "control" }, "Your own picture", file)] : [])),
  element("div", { className: "split" }, element("div", {}, list, pager), detail));
  model.on("change:detail", () => detail.scrollIntoView({ block: "nearest" }));
}

// Words that follow a selection, and buttons: [name, text] pairs in `buttons`; a file that comes with a message is saved.
function summary(model, body) {
  const said = element("ul", { className: "findings", ariaLive: "polite" });
  const note = element("p", { className: "note", role: "status" });
  const sentences = (texts) => texts.map((textContent) => element("li", { textContent }));
  on(model, ["said"], () => said.replaceChildren(...sentences(model.get("said"))));
  on(model, ["note"], () => { note.textContent = model.get("note"); });
  const press = (name) => () => { model.set("pressed", name); set(model, "presses", model.get("presses") + 1); };
  model.on("msg:custom", ({ name }, [content]) => {
    const href = URL.createObjectURL(new Blob([content], { type: "text/html" }));
    element("a", { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  });
  const { findings = [], pictures = [] } = model.get("audit");
  const audit = element("details", { className: "audit" },
    element("summary", { textContent: "Whom it treats worse: the run's audit" }),
    element("ul", { className: "findings" }, ...sentences(findings)),
    ...pictures.map(([src, alt]) => element("div", { className: "wide", tabIndex: 0 }, image(src, alt))));
  const buttons = model.get("buttons").map(([name, text]) => button(text, press(name)));
  body.append(said, ...(findings.length ? [audit] : []), element("div", { className: "pager" }, ...buttons), note);
}
