"use strict";
// The utterances: which are shown, and in which order.
const total = utterances.ids.length,
  every = Array.from({length: total}, (_, i) => i);
const nErrors = systems.map((_, k) => utterances.edits[k].map(edits => edits.length - count(edits, "=")));
const nWords = utterances.references.map(text => words(text).length);
const state = {
  pair: systems.length > 1 ? [0, 1] : [0],
  order: every,
  key: null,
  down: false,
  page: 0,
  size: 25,
  confusion: null,
};
let columns = [],
  haystack = null;

function makeColumns() {
  const [a, b] = state.pair,
    name = k => (systems.length > 1 ? ", " + shown(systems[k].name) : "");
  const known = (key, title, digits) => utterances[key] && {key, title, digits, value: i => utterances[key][i]};
  columns = [
    {key: "id", title: "utterance", value: i => utterances.ids[i]},
    utterances.speakers && {
      key: "speaker",
      title: "speaker",
      value: i => utterances.speakers.names[utterances.speakers.index[i]],
    },
    known("duration_s", "seconds", 1),
    known("snr_db", "SNR (dB)", 1),
    {key: "words", title: "words", digits: 0, value: i => nWords[i]},
    ...state.pair.map(k => ({key: "errors" + k, title: "errors" + name(k), digits: 0, value: i => nErrors[k][i]})),
    b !== undefined && {
      key: "difference",
      title: "difference",
      digits: 0,
      signed: true,
      value: i => nErrors[b][i] - nErrors[a][i],
    },
    b === undefined && {
      key: "rate",
      title: "WER %",
      digits: 1,
      value: i => (nWords[i] ? (100 * nErrors[a][i]) / nWords[i] : null),
    },
    ...state.pair.map(
      k =>
        utterances.confidence[k] && {
          key: "confidence" + k,
          title: "confidence" + name(k),
          digits: 2,
          value: i => utterances.confidence[k][i],
        },
    ),
  ].filter(Boolean);
}

const COMPARED = {
  "": ["all", () => true],
  better: ["second better", (x, y) => y < x],
  worse: ["second worse", (x, y) => y > x],
  differ: ["different numbers of errors", (x, y) => x !== y],
  both: ["both wrong", (x, y) => x && y],
  neither: ["both right", (x, y) => !x && !y],
};

function choose() {
  const [a, b] = state.pair,
    text = byId("text").value.toLowerCase().trim(),
    speaker = byId("speaker").value;
  const [least, most] = byId("errors").value.split("-").map(Number),
    compare = COMPARED[byId("compared").value][1];
  if (text && !haystack)
    haystack = every.map(i =>
      [utterances.ids[i], utterances.references[i], ...utterances.hypotheses.map(list => list[i])].join("\n").toLowerCase(),
    );
  state.order = every.filter(i => {
    const found = Math.max(...state.pair.map(k => nErrors[k][i]));
    return (
      found >= least &&
      found <= most &&
      (!text || haystack[i].includes(text)) &&
      (!speaker || utterances.speakers.index[i] === Number(speaker)) &&
      (b === undefined || compare(nErrors[a][i], nErrors[b][i])) &&
      (!state.confusion || hasConfusion(i, state.confusion))
    );
  });
  order();
}

const collator = new Intl.Collator("en", {numeric: true});
function order() {
  const column = columns.find(one => one.key === state.key);
  if (column) {
    const keys = new Map(state.order.map(i => [i, column.value(i)])),
      sign = state.down ? -1 : 1;
    const compare = column.digits === undefined ? collator.compare : (x, y) => x - y;
    const last = value => value === null || value === undefined;
    state.order.sort((i, j) => {
      const x = keys.get(i),
        y = keys.get(j);
      return last(x) || last(y) ? last(x) - last(y) || i - j : sign * compare(x, y) || i - j;
    });
  }
  state.page = 0;
  show();
}

function heads() {
  const head = element("thead", ""),
    row = element("tr", "", head);
  for (const column of columns) {
    const cell = element("th", column.digits === undefined ? "" : "number", row),
      here = column.key === state.key;
    cell.scope = "col";
    cell.setAttribute("aria-sort", here ? (state.down ? "descending" : "ascending") : "none");
    const button = element("button", "", cell, column.title + " ");
    button.type = "button";
    element("span", "", button, here ? (state.down ? "▼" : "▲") : "↕").setAttribute("aria-hidden", "true");
    button.addEventListener("click", () => {
      state.down = here ? !state.down : column.digits !== undefined;
      state.key = column.key;
      order();
      [...byId("rows").querySelectorAll("thead button")][columns.indexOf(column)].focus();
    });
  }
  return head;
}

function utterance(i) {
  const body = element("tbody", ""),
    row = element("tr", "", body);
  body.dataset.utterance = i;
  row.tabIndex = -1;
  for (const column of columns) {
    const value = column.value(i),
      isText = column.digits === undefined;
    const cell = element(column.key === "id" ? "th" : "td", isText ? column.key : "number", row);
    if (column.key === "id") {
      cell.scope = "row";
      const button = element("button", "", cell);
      button.type = "button";
      button.setAttribute("aria-expanded", "false");
      element("span", "", button, "▸ ").setAttribute("aria-hidden", "true");
      bdi(button, value);
      button.addEventListener("click", () => toggle(body));
    } else if (isText) bdi(cell, value || "");
    else
      cell.textContent =
        value === null || value === undefined
          ? "–"
          : column.signed && value
            ? `${value > 0 ? "+" : "−"}${Math.abs(value)} ${value > 0 ? "worse" : "better"}`
            : value.toFixed(column.digits);
  }
  const cell = element("td", "", element("tr", "", body));
  cell.colSpan = columns.length;
  texts(cell, i);
  return body;
}

function show() {
  silence();
  const pages = Math.max(1, Math.ceil(state.order.length / state.size)),
    rows = byId("rows"),
    from = state.page * state.size;
  const shownRows = state.order.slice(from, from + state.size).map(utterance);
  rows.replaceChildren(
    element("caption", "hidden", null, "Utterances with what was said and what was written"),
    heads(),
    ...shownRows,
  );
  if (shownRows.length) shownRows[0].rows[0].tabIndex = 0;
  byId("count").textContent = `${whole(state.order.length)} of ${whole(total)} utterances`;
  byId("page").textContent = `page ${whole(state.page + 1)} of ${whole(pages)}`;
  byId("back").disabled = state.page === 0;
  byId("on").disabled = state.page + 1 >= pages;
  byId("chosen").hidden = !state.confusion;
}

function go(to) {
  if (to === "/") byId("text").focus();
  byId("utterances").scrollIntoView();
}
function searchFor(text) {
  byId("filters").reset();
  byId("text").value = text;
  state.confusion = null;
  choose();
  go("/");
}
function chooseConfusion(one) {
  byId("filters").reset();
  if (!state.pair.includes(one.k)) {
    byId("first").value = one.k;
    pick();
  }
  state.confusion = one;
  const kinds = {s: "substituted", d: "deleted", i: "inserted"},
    name = systems.length > 1 ? `, ${shown(systems[one.k].name)}` : "";
  byId("chosen").firstElementChild.textContent = `${kinds[one.kind]}: ${one.texts.map(shown).join(" > ")}${name}`;
  choose();
  go();
  byId("chosen").lastElementChild.focus();
}

function pick() {
  state.pair = [Number(byId("first").value), Number(byId("second").value)];
  if (state.pair[0] === state.pair[1]) state.pair.pop();
  byId("compared").value = "";
  byId("compared").parentElement.hidden = state.pair.length < 2;
  makeColumns();
  choose();
}

function controls() {
  const option = (name, value, text) => {
    element("option", "", byId(name), text).value = value;
  };
  const most = Number.MAX_SAFE_INTEGER;
  for (const [low, high, text] of [
    [0, most, "any"],
    [0, 0, "none"],
    [1, most, "1 or more"],
    [2, most, "2 or more"],
    [3, most, "3 or more"],
    [5, most, "5 or more"],
    [10, most, "10 or more"],
  ])
    option("errors", `${low}-${high}`, text);
  for (const [name, [text]] of Object.entries(COMPARED)) option("compared", name, text);
  if (utterances.speakers)
    utterances.speakers.names.forEach((name, at) => {
      if (name !== null) option("speaker", at, shown(name));
    });
  systems.forEach((system, k) => {
    for (const name of ["first", "second"]) option(name, k, shown(system.name));
  });
  byId("second").value = systems.length > 1 ? 1 : 0;
  byId("second").options[byId("second").selectedIndex].defaultSelected = true;
  byId("speaker").parentElement.hidden = !utterances.speakers;
  byId("compared").parentElement.hidden = systems.length < 2;
  for (const name of ["first", "second"]) {
    byId(name).parentElement.hidden = systems.length < 3;
    byId(name).addEventListener("change", pick);
  }
  for (const name of ["speaker", "errors", "compared"]) byId(name).addEventListener("change", choose);
  let waiting = 0;
  byId("text").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(choose, 120);
  });
  byId("filters").addEventListener("submit", event => event.preventDefault());
  byId("filters").addEventListener("reset", () =>
    setTimeout(() => {
      if (!state.confusion) pickOrChoose();
    }),
  );
  byId("filters")
    .querySelector("[type=reset]")
    .addEventListener("click", () => {
      state.confusion = null;
    });
  byId("chosen").lastElementChild.addEventListener("click", () => {
    state.confusion = null;
    choose();
    byId("text").focus();
  });
  byId("back").addEventListener("click", () => {
    state.page--;
    show();
    go();
  });
  byId("on").addEventListener("click", () => {
    state.page++;
    show();
    go();
  });
  byId("size").addEventListener("change", () => {
    state.size = Number(byId("size").value);
    state.page = 0;
    show();
  });
}
const pickOrChoose = () => (systems.length > 2 ? pick() : choose());

document.addEventListener("keydown", event => {
  const at = event.target,
    row = at.closest && at.closest("#rows tbody > tr:first-child");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(at.tagName)) {
    event.preventDefault();
    go("/");
    return;
  }
  if (event.key === "Escape" && at === byId("text")) {
    at.value = "";
    choose();
  }
  if (!row || at !== row) return;
  const bodies = [...byId("rows").tBodies],
    place = bodies.indexOf(row.parentElement);
  const next = {ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: bodies.length - 1}[event.key];
  if (next !== undefined) {
    event.preventDefault();
    if (!bodies[next]) return;
    row.tabIndex = -1;
    bodies[next].rows[0].tabIndex = 0;
    bodies[next].rows[0].focus();
  }
  if (event.key === "Enter") {
    event.preventDefault();
    toggle(row.parentElement);
  }
  if (event.key === " ") {
    event.preventDefault();
    playOrPause(row.parentElement);
  }
});
