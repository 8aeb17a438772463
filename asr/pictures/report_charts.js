"use strict";
const byId = name => document.getElementById(name);
const data = JSON.parse(byId("data").textContent);
const systems = data.systems,
  utterances = data.utterances;

function element(name, className, parent, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// Control characters, and those that turn the direction of writing around, are seen and not obeyed.
const CONTROL = /[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
const shown = text =>
  text.replace(CONTROL, letter => {
    const code = letter.charCodeAt(0).toString(16);
    return code.length > 2 ? "\\u" + code.padStart(4, "0") : "\\x" + code.padStart(2, "0");
  });
const LONGEST = 200; // characters of a word that are shown
const brief = word => {
  const letters = Array.from(word);
  return letters.length > LONGEST ? `${letters.slice(0, LONGEST).join("")}… (${whole(letters.length)} characters)` : word;
};
const bdi = (parent, text, className = "") => element("bdi", className, parent, shown(text));
const whole = number => number.toLocaleString("en");
const percent = (share, digits = 2) => (share === null ? "undefined" : (100 * share).toFixed(digits));
const withRange = (one, digits) => (one.rate === null ? percent(null) : `${percent(one.rate, digits)} ${range(one, digits)}`);
const range = (one, digits = 2) =>
  one.low === null ? "undefined" : `[${percent(one.low, digits)}, ${percent(one.high, digits)}]`;
const colour = k => `var(--series-${k % data.n_colours})`;

function table(parent, title, heads) {
  const made = element("table", "", element("div", "scroll", parent));
  if (title) element("caption", "", made, title);
  const row = element("tr", "", element("thead", "", made));
  for (const [text, className] of heads) element("th", className, row, text).scope = "col";
  return element("tbody", "", made);
}

function nameOf(row, k) {
  const cell = element("th", "", row);
  cell.scope = "row";
  element("span", "swatch", cell).style.setProperty("--colour", colour(k));
  bdi(cell, systems[k].name);
}

// A value with its interval on an axis from `from` to `to`, which the cells beside it hold as text.
function draw(parent, one, {from = 0, to, k = 0, bar = false}) {
  const track = element("div", "track" + (k ? " second" : ""), parent),
    place = value => (100 * (value - from)) / (to - from) + "%";
  track.setAttribute("aria-hidden", "true");
  track.style.setProperty("--colour", colour(k));
  if (from < 0) track.classList.add("centred");
  if (from < 0) element("span", "zero", track).style.left = place(0);
  if (one.rate === null) return;
  if (bar) element("span", "bar", track).style.width = place(Math.min(to, one.rate));
  if (one.low !== null) {
    const whisker = element("span", "whisker", track);
    whisker.style.left = place(Math.max(from, one.low));
    whisker.style.right = `calc(100% - ${place(Math.min(to, one.high))})`;
  }
  if (!bar) element("span", "dot", track).style.left = place(Math.min(to, one.rate));
}

const farthest = rates => Math.max(1e-6, ...rates.flatMap(one => [one.rate || 0, one.high || 0]));

// What is too wide for the window is scrolled by the keyboard as well.
function makeReachable() {
  for (const box of document.querySelectorAll(".scroll:not(#wide)")) {
    const isWide = box.scrollWidth > box.clientWidth,
      caption = box.querySelector("caption");
    const given = {tabindex: "0", role: "group", "aria-label": caption ? caption.textContent : "table"};
    for (const [name, value] of Object.entries(given)) isWide ? box.setAttribute(name, value) : box.removeAttribute(name);
  }
}

function summary() {
  const parts = [
    ["wer", "Word error rate (WER)", ["S", "D", "I", "N"]],
    ["cer", "Character error rate (CER)", ["S", "D", "I", "N"]],
    ["ser", "Sentence error rate (SER): utterances with a word error", ["wrong", "N"]],
  ];
  for (const [key, title, counts] of parts) {
    const to = 1.05 * farthest(systems.map(one => one[key]));
    const heads = [["system"], ["%", "number"], ["95 % interval", "number"], [`0 to ${percent(to, 1)} %`, "drawn"]];
    const names = {S: "substituted", D: "deleted", I: "inserted", N: key === "ser" ? "utterances" : "in the reference"};
    const body = table(byId("summary"), title, [...heads, ...counts.map(letter => [names[letter] || letter, "number"])]);
    systems.forEach((system, k) => {
      const row = element("tr", "", body),
        one = system[key];
      nameOf(row, k);
      element("td", "number", row, percent(one.rate));
      element("td", "number", row, `${range(one)} over ${one.over}`);
      draw(element("td", "drawn", row), one, {to, k});
      for (const letter of counts) element("td", "number", row, whole(one[letter]));
    });
  }
}

function differences() {
  if (!data.differences.length) return;
  const section = byId("differences");
  section.hidden = false;
  element(
    "p",
    "note",
    section,
    "In points of WER; below 0 the system named first has fewer errors. p is for all comparisons together (Holm).",
  );
  const to = 1.05 * Math.max(1e-6, ...data.differences.flatMap(one => [one.low, one.high, one.rate].map(Math.abs)));
  const heads = [
    ["compared"],
    ["points", "number"],
    ["95 % interval", "number"],
    [`${percent(-to, 1)} to ${percent(to, 1)}`, "drawn"],
  ];
  const body = table(section, "", [...heads, ["p", "number"], ["test", "test"], ["verdict"]]);
  for (const one of data.differences) {
    const row = element("tr", "", body),
      cell = element("th", "", row);
    cell.scope = "row";
    bdi(cell, one.second);
    cell.append(" against ");
    bdi(cell, one.first);
    element("td", "number", row, (one.rate > 0 ? "+" : "") + percent(one.rate));
    element("td", "number", row, `${range(one)} over ${one.over}`);
    draw(element("td", "drawn", row), one, {from: -to, to, k: systems.findIndex(system => system.name === one.second)});
    element("td", "number", row, one.p === null ? "undefined" : one.p < 0.001 ? "< 0.001" : one.p.toFixed(3));
    element("td", "test", row, one.how);
    element(
      "span",
      "verdict" + (one.real ? " real" : ""),
      element("td", "", row),
      one.real ? "a real difference" : "chance would do",
    );
  }
  for (const one of data.differences) {
    for (const [title, better] of [
      ["right more", true],
      ["right less", false],
    ]) {
      const words = one.words
        .filter(([, n]) => n > 0 === better)
        .sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]))
        .slice(0, 20);
      if (!words.length) continue;
      const line = element("p", "words", section);
      bdi(line, one.second);
      line.append(` has these words ${title} often than `);
      bdi(line, one.first);
      line.append(": ");
      for (const [word, n] of words) {
        const button = element("button", "", line);
        button.type = "button";
        bdi(button, brief(word));
        button.append(` ${n > 0 ? "+" : "−"}${Math.abs(n)}`);
        button.addEventListener("click", () => searchFor(word));
      }
    }
  }
}

const SHOWN = 12; // of more groups, those with the most errors

function chart(parent, title, rows, shownSystems) {
  const all = rows.flatMap(row => row.rates),
    to = Math.min(1.05 * farthest(all), Math.max(1, 1.2 * Math.max(...all.map(one => one.rate || 0))));
  const box = element("div", "", parent),
    many = rows.length > SHOWN + 3;
  const heads = [["group"], ["utterances", "number"], [`0 to ${percent(to, 0)} %`, "drawn"]];
  const body = table(box, title, [
    ...heads,
    ...shownSystems.map(k => [systems.length > 1 ? `WER %, ${shown(systems[k].name)}` : "WER %", "number"]),
  ]);
  const fill = chosen => {
    body.textContent = "";
    for (const one of chosen) {
      const row = element("tr", "", body),
        head = element("th", "", row);
      head.scope = "row";
      bdi(head, one.label);
      element("td", "number", row, whole(one.n));
      const cell = element("td", "drawn", row);
      one.rates.forEach((rate, at) => draw(cell, rate, {to, k: shownSystems[at], bar: true}));
      for (const rate of one.rates) element("td", "number", row, withRange(rate, 1));
    }
  };
  const worst = [...rows].sort((a, b) => b.rates[0].rate - a.rates[0].rate).slice(0, SHOWN);
  fill(many ? worst : rows);
  if (!many) return;
  const button = element("button", "", box, `Show all ${rows.length}`);
  button.type = "button";
  button.addEventListener("click", () => {
    fill(rows);
    button.remove();
  });
}

function breakdown() {
  const grid = byId("breakdown").querySelector(".grid"),
    names = [...new Set(systems.flatMap(one => Object.keys(one.groups)))];
  byId("breakdown").hidden = !names.length;
  grid.classList.toggle("single", systems.length > 2);
  rightWords(grid);
  for (const name of names) {
    const having = systems.map((_, k) => k).filter(k => systems[k].groups[name]),
      title = "By " + (data.labels[name] || name);
    const key = k => JSON.stringify(systems[k].groups[name].map(group => [group.label, group.utterances]));
    const rowsOf = list =>
      systems[list[0]].groups[name].map((group, at) => ({
        label: group.label,
        n: group.utterances,
        rates: list.map(k => systems[k].groups[name][at].wer),
      }));
    // Where each parts them by its own values, as confidences, each has a chart.
    if (having.length === systems.length && having.every(k => key(k) === key(having[0])))
      chart(grid, title, rowsOf(having), having);
    else for (const k of having) chart(grid, `${title}: ${shown(systems[k].name)}`, rowsOf([k]), [k]);
  }
}

// Of the words that are alike in how often they are said, or in being in the vocabulary, how many are right.
function rightWords(grid) {
  const labels = [...new Set(systems.flatMap(one => one.words.filter(group => group.words).map(group => group.label)))];
  if (!labels.length) return;
  const box = element("div", "", grid),
    columns = systems.map((system, k) => [systems.length > 1 ? `right %, ${shown(system.name)}` : "right %", "number"]);
  const body = table(box, "Words of the references that are right", [
    ["words"],
    ["times", "number"],
    ["0 to 100 %", "drawn"],
    ...columns,
  ]);
  for (const label of labels) {
    const row = element("tr", "", body),
      head = element("th", "", row, label);
    const groups = systems.map(system => system.words.find(group => group.label === label));
    const rates = groups.map(group => ({rate: group && group.words ? group.right / group.words : null, low: null}));
    head.scope = "row";
    element("td", "number", row, whole(groups.find(Boolean).words));
    const cell = element("td", "drawn", row);
    rates.forEach((rate, k) => draw(cell, rate, {to: 1, k, bar: true}));
    for (const {rate} of rates) element("td", "number", row, percent(rate, 1));
  }
}

function confusions() {
  const section = byId("confusions"),
    parent = section.querySelector("div");
  systems.forEach((system, k) => {
    const parts = ["substituted", "deleted", "inserted"].filter(kind => system.confusions[kind].length);
    if (!parts.length) return;
    section.hidden = false;
    if (systems.length > 1) bdi(element("h3", "", parent), system.name);
    const sounds = system.confusions.of === "sounds";
    if (sounds) byId("h-confusions").textContent = "Confused sounds";
    const grid = element("div", "confusions", parent);
    for (const kind of parts) {
      const box = element("div", "", grid),
        body = table(box, `Most often ${kind}`, [[kind === "substituted" ? "said > written" : sounds ? "sound" : "word"], ["times", "number"]]);
      const rows = system.confusions[kind];
      const add = row => {
        const line = element("tr", "", body),
          texts = row.slice(0, -1),
          button = element(sounds ? "span" : "button", "", element("td", "", line)); // utterances are aligned by words
        if (!sounds) button.type = "button";
        texts.forEach((text, at) => {
          if (at) button.append(" > ");
          bdi(button, brief(text));
        });
        element("td", "number", line, whole(row.at(-1)));
        if (!sounds) button.addEventListener("click", () => chooseConfusion({kind: kind[0], texts, k}));
      };
      rows.slice(0, SHOWN).forEach(add);
      if (rows.length <= SHOWN) continue;
      const more = element("button", "", box, `Show ${rows.length}`);
      more.type = "button";
      more.addEventListener("click", () => {
        rows.slice(SHOWN).forEach(add);
        more.remove();
      });
    }
  });
}

// Values over steps as lines: [name, [[step, value], ...]].
function curves() {
  byId("curves").hidden = !data.curves.length;
  const grid = byId("curves").querySelector(".grid"),
    width = 480,
    height = 190,
    left = 60,
    bottom = 22;
  for (const {title, lines} of data.curves) {
    const box = element("div", "", grid),
      points = lines.flatMap(([, values]) => values);
    const [x0, x1] = [0, 1].map(end => (end ? Math.max : Math.min)(...points.map(([step]) => step)));
    const [y0, y1] = [0, 1].map(end => (end ? Math.max : Math.min)(...points.map(([, value]) => value)));
    const toX = step => left + ((width - left - 8) * (step - x0)) / Math.max(1e-9, x1 - x0);
    const toY = value => 8 + (height - bottom - 8) * (1 - (value - y0) / Math.max(1e-9, y1 - y0));
    const make = (name, values, parent) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
      parent.append(made);
      return made;
    };
    element("h3", "", box, title);
    const last = lines.map(([name, values]) => `${name}: ${values.at(-1)[1]} at step ${values.at(-1)[0]}`).join("; ");
    const svg = make(
      "svg",
      {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title} over steps. ${last}`},
      box,
    );
    for (const value of [y0, (y0 + y1) / 2, y1]) {
      make("line", {class: "axis", x1: left, x2: width - 8, y1: toY(value), y2: toY(value)}, svg);
      make("text", {x: left - 6, y: toY(value) + 4, "text-anchor": "end"}, svg).textContent = Number(value.toPrecision(2));
    }
    for (const step of [x0, x1])
      make("text", {x: toX(step), y: height - 6, "text-anchor": step === x0 ? "start" : "end"}, svg).textContent = whole(step);
    lines.forEach(([, values], k) =>
      make(
        "polyline",
        {
          style: `stroke: ${colour(k)}`,
          "stroke-dasharray": k ? "5 3" : "none",
          points: values.map(([step, value]) => `${toX(step).toFixed(1)},${toY(value).toFixed(1)}`).join(" "),
        },
        svg,
      ),
    );
    const note = element("p", "note", box);
    lines.forEach(([name, values], k) => {
      element("span", "swatch", note).style.setProperty("--colour", colour(k));
      note.append(`${name} (${k ? "dashed" : "solid"}): at the end ${values.at(-1)[1]}  `);
    });
  }
}
