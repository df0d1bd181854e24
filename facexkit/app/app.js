// What draws the app's own widgets. It stands after widgets.js in one module, and uses its element(), on(), set() and button().

const OWN = "\u0000own";
const option = ([value, textContent]) => element("option", { value, textContent });

// A select: its choices stand below the headings that they have; where `own` is given, one's own words can be written there.
function select(field, id, changed, own) {
  const groups = Map.groupBy(field.choices, (choice) => choice[2] ?? "");
  const box = element("select", { id }, ...[...groups].flatMap(([label, choices]) =>
    (label ? [element("optgroup", { label }, ...choices.map(option))] : choices.map(option))));
  const written = own && element("input", { type: "text", ariaLabel: `${field.label} Write it`, onchange: changed });
  if (own) box.append(option([OWN, "another: write it …"]));
  const show = () => { if (own) written.hidden = box.value !== OWN; };
  box.addEventListener("change", () => { show(); if (own && box.value === OWN) written.focus(); else changed(); });
  return {
    box, parts: own ? [box, written] : [box],
    read: () => (box.value === OWN ? written.value : box.value),
    write: (value) => {
      box.value = own && !field.choices.some((choice) => choice[0] === value) ? OWN : value;
      if (own) written.value = value;
      show();
    },
  };
}

// By kind, how a question is answered: `parts` to show, `read` and `write` its answer; `box` where one element has it all.
const KINDS = {
  choice: select,
  open: (field, id, changed) => select(field, id, changed, true),
  text: (field, id, changed) => {
    const box = element("input", { type: "text", id, onchange: changed });
    return { box, parts: [box], read: () => box.value, write: (value) => { box.value = value; } };
  },
  code: (field, id, changed) => {
    const box = element("textarea", { id, rows: 8, spellcheck: false, onchange: changed });
    const file = element("input", { type: "file", ariaLabel: `${field.label}, from a file` });
    file.addEventListener("change", async () => { if (file.files[0]) { box.value = await file.files[0].text(); changed(); } });
    return { box, parts: [box, file], read: () => box.value, write: (value) => { box.value = value; } };
  },
  ticks: (field, id, changed) => {
    const boxes = field.choices.map(([value]) => element("input", { type: "checkbox", value, onchange: changed }));
    const none = element("p", { className: "note", textContent: "Nothing is known of the photographs that makes groups." });
    return {
      parts: boxes.length ? boxes.map((box, k) => element("label", { className: "inline" }, box, field.choices[k][1])) : [none],
      read: () => JSON.stringify(boxes.filter((box) => box.checked).map((box) => box.value)),
      write: (value) => { for (const box of boxes) box.checked = JSON.parse(value).includes(box.value); },
    };
  },
  place: (field, id, changed) => {
    let chosen = "";
    const pick = (value) => () => { chosen = value; changed(); };
    const list = field.choices.map(([value, text]) => element("li", {}, button(text, pick(value), { value })));
    return {
      parts: [element("ul", { className: "place" }, ...list)],
      read: () => chosen,
      write: (value) => {
        chosen = value;
        for (const { firstChild } of list) firstChild.ariaPressed = String(firstChild.value === value);
      },
    };
  },
};

// Where the focus goes in a question: to what is chosen, else to what comes first.
const first = (node) =>
  node.querySelector("[aria-pressed=true]") ?? node.querySelector("select, input, textarea, button") ?? node;

// A question with its help and its error; `answer` is what its kind gives.
function question(field, id, changed) {
  const answer = KINDS[field.kind](field, id, changed);
  const help = element("small", { id: `${id}-help`, textContent: field.help });
  const wrong = element("p", { className: "error", id: `${id}-wrong`, hidden: true });
  const said = { textContent: field.label };
  const node = answer.box
    ? element("div", { className: "control" }, element("label", { htmlFor: id, ...said }), help, ...answer.parts, wrong)
    : element("fieldset", { className: "control" }, element("legend", said), help, ...answer.parts, wrong);
  (answer.box ?? node).setAttribute("aria-describedby", `${help.id} ${wrong.id}`);
  return { ...answer, node, wrong };
}

// Questions in `fields`, their answers in `values`; Enter or the button submits, and an error stands beside the one `at`.
function form(model, body) {
  const controls = element("div", { className: "controls" }), folded = element("div", { className: "controls" });
  const more = element("details", {}, element("summary", { textContent: "More, where it is needed" }), folded);
  const asked = new Map();
  const answers = () => Object.fromEntries(model.get("fields").map(({ name }) => [name, asked.get(name).read()]));
  const changed = () => set(model, "values", answers());
  on(model, ["fields"], () => {
    for (const field of model.get("fields")) {
      const before = asked.get(field.name), now = JSON.stringify(field);
      if (before?.now === now) continue;
      const focused = before?.node.contains(document.activeElement);
      const one = { ...question(field, `${field.name}-${model.get("key")}`, changed), now };
      one.write(model.get("values")[field.name]);
      if (before) before.node.replaceWith(one.node);
      else (field.more ? folded : controls).append(one.node);
      asked.set(field.name, one);
      if (focused) first(one.node).focus();
    }
    more.hidden = !folded.firstChild;
  });
  on(model, ["values"], () => { for (const [name, one] of asked) one.write(model.get("values")[name]); });
  const whole = body.parentElement, work = whole.querySelector(".work");
  on(model, ["error", "at"], () => {
    whole.classList.toggle("beside", Boolean(model.get("error")) && asked.has(model.get("at")));
    for (const [name, { wrong, node }] of asked) {
      const here = model.get("error") && name === model.get("at");
      wrong.textContent = here ? `⚠ ${model.get("error")}` : "";
      wrong.hidden = !here;
      if (!here) continue;
      more.open ||= folded.contains(node);
      first(node).focus();
    }
  });
  const take = (event) => {
    event.preventDefault();
    model.set("values", answers());
    set(model, "submitted", model.get("submitted") + 1);
  };
  const done = element("p", { className: "done", role: "status" });
  on(model, ["done"], () => { done.textContent = model.get("done"); });
  const submit = element("button", { type: "submit", className: "main", textContent: model.get("submit") });
  body.append(element("form", { onsubmit: take }, controls, more, submit, work), done);
  model.send({ shown: true });
}

// Stages to tick, [name, title] pairs in `stages`, those `chosen`, a button that runs them, and the run's page in its place.
function stages(model, body) {
  const ticks = model.get("stages").map(([value, title]) => {
    const box = element("input", { type: "checkbox", value, checked: model.get("chosen").includes(value) });
    return element("label", { className: "inline" }, box, title);
  });
  const findings = element("ul", { className: "findings" }), whole = element("div", { role: "status" });
  const start = () => {
    const ticked = ticks.map((tick) => tick.firstChild).filter((box) => box.checked);
    model.set("chosen", ticked.map((box) => box.value));
    set(model, "start", model.get("start") + 1);
  };
  const run = button("Make the report", start, { className: "main" });
  on(model, ["busy"], () => { run.disabled = Boolean(model.get("busy")); });
  on(model, ["findings"], () => {
    findings.replaceChildren(...model.get("findings").map((textContent) => element("li", { textContent })));
  });
  on(model, ["link", "written"], () => {
    const href = model.get("link"), about = element("p", { className: "note", textContent: model.get("written") });
    const page = element("iframe", { src: href, title: "The run's page", className: "page" });
    const link = element("a", { href, target: "_blank", textContent: "Open it in a tab of its own" });
    whole.replaceChildren(...(href ? [page, link] : []), about);
  });
  model.on("change:link", () => {
    whole.querySelector("iframe")?.focus({ preventScroll: true });
    if (model.get("link")) findings.scrollIntoView({ block: "start" });
  });
  body.append(element("p", { textContent: "Each ticked part is a notebook, run with the answers above; it leaves a page, tables and "
    + "pictures in the run's folder. It may take minutes; keep this page open until it is done, or press Stop." }),
  element("fieldset", { className: "stages" }, element("legend", { textContent: "What it tells" }), ...ticks),
  element("div", { className: "pager" }, run, body.parentElement.querySelector(".work")), findings, whole);
}
