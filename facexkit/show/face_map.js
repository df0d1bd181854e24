// The one script of the face map: the report inlines it, a widget calls mount() on its own element.

// Wire the face map in `root`. `data.svg` is drawn into it if given; `data.readout` is the element that tells the
// number of the region under pointer or focus; `onSelect(region)` is called on click, Enter and Space.
export function mount(root, data = {}, onSelect = () => {}) {
  if (data.svg) root.innerHTML = data.svg;
  const map = root.querySelector("svg.face-map");
  // A button stands for all its members: for both lips, or for what the masks cannot tell from the background.
  const regions = [...map.querySelectorAll("[data-members]")];
  const holds = (region, name) => region.dataset.region === name || region.dataset.members.split(" ").includes(name);
  const at = (name) => regions.find((region) => holds(region, name));
  const outline = (name) => [...map.querySelectorAll(`.region[data-region="${name}"] path`)].map((path) => path.getAttribute("d")).join("");
  const rank = (region) => (region.dataset.value === "" ? -Infinity : Number(region.dataset.value));
  const order = [...regions].sort((a, b) => rank(b) - rank(a));
  const rings = Object.fromEntries(["pointed", "selected"].map((kind) => {
    const ring = document.createElementNS("http://www.w3.org/2000/svg", "path");
    ring.setAttribute("class", `ring ${kind}`);
    map.querySelector(".face").append(ring);
    return [kind, ring];
  }));
  const mark = (kind, name) => {
    const part = at(name)?.dataset.region;
    rings[kind].setAttribute("d", outline(part));
    for (const label of map.querySelectorAll(".label")) label.classList.toggle(kind, label.dataset.region === part);
  };
  const tell = (name) => {
    if (!at(name) || !data.readout) return;
    data.readout.textContent = at(name).getAttribute("aria-label");
    data.readout.dataset.told = name;
  };
  let pointed;
  const point = (name) => {
    mark("pointed", pointed = name);
    tell(name);
  };
  const select = (name) => {
    mark("selected", name);
    for (const region of regions) region.setAttribute("aria-pressed", String(holds(region, name)));
    if (data.readout?.dataset.told && !root.hidden) tell(name); // it told a number of another map, perhaps of another method
  };
  const choose = (name) => { select(name); onSelect(name); };
  const named = (event) => event.target.closest("[data-region]")?.dataset.region;
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  // Not pointerover, which also comes when the page scrolls under a resting pointer while the keyboard moves the focus.
  map.addEventListener("pointermove", (event) => named(event) !== pointed && point(named(event)));
  map.addEventListener("pointerleave", () => point(document.activeElement?.closest?.(".region")?.dataset.region));
  // On the root, as a picture that listens for the focus gets it; a map that was replaced has nothing to tell.
  root.addEventListener("focusin", (event) => map.isConnected && point(named(event)));
  root.addEventListener("focusout", () => map.isConnected && point());
  map.addEventListener("click", (event) => named(event) && choose(named(event)));
  map.addEventListener("keydown", (event) => {
    const name = named(event);
    if (!name) return;
    if (event.key === "Enter" || event.key === " ") choose(name);
    else if (event.key === "Home") order[0].focus();
    else if (event.key in steps) order.at((order.indexOf(at(name)) + steps[event.key]) % order.length).focus();
    else return;
    event.preventDefault();
  });
  const rows = order.map((region) => map.querySelector(`.label[data-region="${region.dataset.region}"]`)).filter(Boolean);
  return { select, numbers: rows.map((label) => [...label.querySelectorAll("text")].map((text) => text.textContent)) };
}

const element = (tag, attributes = {}, ...inside) => {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...inside);
  return made;
};

// Fill `panel` with a region's numbers, patches and examples; `uris[k]` is picture k.
export function showRegion(panel, region, uris) {
  const numbers = region.numbers.map((n) => element("div", {},
    element("dt", { textContent: n.method }), element("dd", { className: "value", textContent: n.text }),
    element("dd", { textContent: n.behind })));
  const framed = (one, ...pictures) => element("li", {}, element("figure", {}, ...pictures,
    element("figcaption", { title: one.name }, element("b", { textContent: one.value }),
      element("span", { textContent: one.name.split("/").pop() }))));
  const picture = (number, alt, className = "") => element("img", { src: uris[number], alt, className });
  const patches = region.patches.map((one) => framed(one, picture(one.picture, `patch of ${one.name}`)));
  const examples = region.examples.map((one) => framed(one, element("div", { className: "face" },
    picture(one.picture, `face ${one.name}`), picture(one.veil, "", "veil"))));
  const slider = element("input", { type: "range", min: 0, max: 100, value: 65 });
  slider.addEventListener("input", () => panel.style.setProperty("--veil", slider.value / 100));
  panel.replaceChildren(element("h2", { textContent: region.title }));
  panel.append(element("dl", { className: "numbers" }, ...numbers));
  if (examples.length) panel.append(element("h3", { textContent: "Faces with the highest attribution here" }),
    element("ul", { className: "examples" }, ...examples),
    element("label", { className: "slider" }, "Dim what the map does not mark", slider));
  if (patches.length) panel.append(element("h3", { textContent: "Patches with the highest impact" }),
    element("ol", { className: "patches" }, ...patches));
  if (!examples.length && !patches.length) {
    panel.append(element("p", { textContent: "There are no patches: no attribution map was made, or none marks it." }));
  }
}

// Wire a whole report: the switches for class and method, every map, the panel and the table.
export function mountReport(page) {
  const { subjects, uris } = JSON.parse(page.getElementById("data").textContent);
  const panel = page.querySelector(".panel"), readout = page.querySelector(".readout");
  const state = { subject: "0", method: page.querySelector(".view").dataset.method, region: subjects[0].first };
  const views = [...page.querySelectorAll(".view")];
  const choose = (region) => { state.region = region; draw(); };
  const maps = views.map((view) => mount(view, { readout }, choose));
  function draw() {
    const subject = subjects[state.subject];
    if (!subject.methods.includes(state.method)) state.method = subject.methods[0];
    const shown = (part) => ["subject", "method"].every((key) => (part.dataset[key] ?? state[key]) === state[key]);
    for (const part of page.querySelectorAll("[data-subject], [data-method]")) part.hidden = !shown(part);
    for (const box of page.querySelectorAll(".switches input")) box.checked = box.value === state[box.name];
    for (const row of page.querySelectorAll("tbody tr")) {
      row.classList.toggle("selected", row.dataset.row === state.region);
    }
    for (const map of maps) map.select(state.region);
    showRegion(panel, subject.regions[state.region], uris);
  }
  for (const box of page.querySelectorAll(".switches input")) {
    box.addEventListener("change", () => { state[box.name] = box.value; draw(); });
  }
  for (const button of page.querySelectorAll("table button")) {
    button.addEventListener("click", () => (button.value ? choose(button.value) : sortBy(button)));
  }
  draw();
}

function sortBy(button) {
  const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
  const down = head.getAttribute("aria-sort") !== "descending";
  const key = (row) => row.cells[head.cellIndex].dataset.sort;
  const compare = (a, b) => (isNaN(key(a) || "x") ? key(a).localeCompare(key(b)) : key(a) - key(b));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...[...body.rows].sort((a, b) => (key(a) === "") - (key(b) === "") || compare(a, b) * (down ? -1 : 1)));
}
