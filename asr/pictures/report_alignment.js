"use strict";
// The texts of an utterance, word by word beside what was said.
const words = text => (text ? text.split(" ") : []);
const count = (text, letter) => {
  let n = 0;
  for (const one of text) n += one === letter;
  return n;
};

// An utterance's words side by side: for each word said what was written for it, and what was written between them.
function align(i, k) {
  const said = words(utterances.references[i]),
    heard = words(utterances.hypotheses[k][i]);
  const places = [],
    gaps = [[]];
  let at = 0;
  for (const edit of utterances.edits[k][i] || "=".repeat(said.length)) {
    if (edit === "i") {
      gaps.at(-1).push(at++);
      continue;
    }
    places.push(edit === "d" ? {edit} : {edit, at: at++});
    gaps.push([]);
  }
  return {said, heard, places, gaps};
}

function hasConfusion(i, {kind, texts, k}) {
  if (!nErrors[k][i]) return false;
  const {said, heard, places, gaps} = align(i, k);
  if (kind === "i") return gaps.some(gap => gap.some(at => heard[at] === texts[0]));
  return places.some(
    ({edit, at}, place) => edit === kind && said[place] === texts[0] && (kind === "d" || heard[at] === texts[1]),
  );
}

const MARKS = {s: ["sub", "S", "substituted"], d: ["del", "D", "deleted"], i: ["ins", "I", "inserted"]};

function mark(parent, text, edit, system, at) {
  const cell = element("span", edit === "=" ? "" : MARKS[edit][0], parent, shown(brief(text)));
  if (edit !== "=") element("sup", "", cell, MARKS[edit][1]);
  if (at === undefined) return;
  cell.dataset.system = system;
  cell.dataset.word = at;
  if (utterances.times[system] && utterances.times[system][utteranceOf(parent)]) cell.classList.add("timed");
}
const utteranceOf = node => Number(node.closest("tbody").dataset.utterance);

function texts(parent, i) {
  const pair = state.pair,
    right = pair.every(k => !nErrors[k][i]);
  const rows = pair.map(k => align(i, k)),
    said = words(utterances.references[i]),
    area = element("div", "aligned", parent);
  area.setAttribute("aria-hidden", "true");
  const names = element("span", "column names", area);
  element("span", "", names, right ? "all right" : "said");
  if (!right)
    for (const k of pair)
      element("span", "", names, shown(systems.length > 1 ? systems[k].name : "written")).title = shown(systems[k].name);
  for (let place = 0; place <= said.length; place++) {
    const inserted = Math.max(...rows.map(row => row.gaps[place].length));
    for (let n = 0; n < inserted; n++) {
      const column = element("span", "column", area);
      element("span", "none", column, "∗∗∗");
      rows.forEach((row, at) =>
        n < row.gaps[place].length
          ? mark(column, row.heard[row.gaps[place][n]], "i", pair[at], row.gaps[place][n])
          : element("span", "", column),
      );
    }
    if (place === said.length) break;
    const column = element("span", "column", area);
    if (right) {
      mark(column, said[place], "=", pair[0], place);
      continue;
    }
    element("span", "said", column, shown(brief(said[place])));
    rows.forEach((row, at) => {
      const {edit, at: word} = row.places[place];
      mark(column, edit === "d" ? "∗∗∗" : row.heard[word], edit, pair[at], word);
    });
  }
  element("span", "hidden", parent, aloud(i, pair, rows));
}

// The same for those who hear it.
function aloud(i, pair, rows) {
  const parts = [`said: ${shown(utterances.references[i]) || "nothing"}.`];
  pair.forEach((k, at) => {
    const {said, heard, places, gaps} = rows[at],
      errors = [];
    gaps.forEach((gap, place) => {
      for (const word of gap) errors.push(`${heard[word]} inserted`);
      const one = places[place];
      if (one && one.edit === "s") errors.push(`${said[place]} written ${heard[one.at]}`);
      if (one && one.edit === "d") errors.push(`${said[place]} deleted`);
    });
    parts.push(
      `${shown(systems[k].name)} wrote: ${shown(utterances.hypotheses[k][i]) || "nothing"}.`,
      errors.length ? shown(errors.join(", ")) + "." : "All right.",
    );
  });
  return parts.join(" ");
}
