"use strict";
// One utterance is open at a time for each row; one sound plays at a time.
const audio = new Audio();
let playing = null; // {body, i, start, duration}

function silence() {
  audio.pause();
  if (playing) reset(playing.body);
  playing = null;
}
function reset(body) {
  body.querySelectorAll(".spoken").forEach(one => one.classList.remove("spoken"));
  const button = body.querySelector(".play");
  if (button) button.textContent = "Play";
}

const embedded = i => {
  const made = byId("sound-" + i);
  return made && made.textContent.trim();
};
const hasSound = i => Boolean(byId("sound-" + i) || utterances.audio[i]);

function toggle(body) {
  const open = body.querySelector(".detail"),
    button = body.querySelector("th button"),
    i = Number(body.dataset.utterance);
  if (open) {
    if (playing && playing.body === body) silence();
    open.closest("tr").remove();
  } else detail(body, i);
  button.setAttribute("aria-expanded", String(!open));
  button.firstElementChild.textContent = open ? "▸ " : "▾ ";
}

function detail(body, i) {
  const cell = element("td", "detail", element("tr", "", body));
  cell.colSpan = columns.length;
  const player = element("div", "player", cell);
  if (hasSound(i)) {
    const button = element("button", "play", player, "Play"),
      place = element("input", "place", player);
    button.type = "button";
    button.addEventListener("click", () => playOrPause(body));
    Object.assign(place, {type: "range", min: 0, max: length(i), step: 0.01, value: 0});
    place.setAttribute("aria-label", "place in the sound (s)");
    place.addEventListener("input", () => seek(body, Number(place.value)));
    element("span", "clock", player, clock(0, length(i)));
    element("span", "failure", player).setAttribute("role", "status");
    if (byId("sound-" + i)) {
      const picture = element("button", "", player, "Spectrogram");
      picture.type = "button";
      picture.addEventListener("click", () => {
        picture.disabled = true;
        spectrogram(cell, i);
      });
    }
  } else element("span", "note", player, "The sound of this utterance is not known.");
  const facts = element("dl", "", cell);
  const add = (name, value) => {
    const pair = element("div", "", facts);
    element("dt", "", pair, name + " ");
    bdi(element("dd", "", pair), value);
  };
  const counts = k =>
    ["s", "d", "i"].map(letter => `${letter.toUpperCase()}=${count(utterances.edits[k][i], letter)}`).join(" ");
  state.pair.forEach(k => add(systems.length > 1 ? `errors of ${shown(systems[k].name)}` : "errors", counts(k)));
  if (utterances.audio[i]) add("file", readable(utterances.audio[i]));
  if (utterances.start_s && utterances.start_s[i]) add("begins at", utterances.start_s[i] + " s");
  cell.scrollIntoView({block: "nearest"});
}

// A name that is not UTF-8 stays as the address has it.
function readable(address) {
  try {
    return decodeURIComponent(address);
  } catch {
    return address;
  }
}

const length = i =>
  (utterances.duration_s && utterances.duration_s[i]) || (playing && playing.i === i && playing.duration) || 0;
const clock = (now, all) => `${now.toFixed(2)} / ${all ? all.toFixed(2) : "?"} s`;

function load(body) {
  const i = Number(body.dataset.utterance);
  if (playing && playing.body === body) return;
  silence();
  const kept = embedded(i);
  playing = {body, i, start: kept ? 0 : (utterances.start_s && utterances.start_s[i]) || 0, duration: length(i)};
  audio.src = kept ? "data:audio/mpeg;base64," + kept : utterances.audio[i];
  audio.currentTime = playing.start;
}

function playOrPause(body) {
  if (!hasSound(Number(body.dataset.utterance))) return;
  if (!body.querySelector(".detail")) toggle(body);
  if (playing && playing.body === body && !audio.paused) {
    audio.pause();
    return;
  }
  load(body);
  audio.play().catch(fail);
}

function fail() {
  if (!playing || !audio.error) return;
  const place = playing.body.querySelector(".failure");
  reset(playing.body);
  if (place)
    place.textContent = byId("sound-" + playing.i)
      ? "The browser cannot play this sound."
      : "The file is not there, or the browser cannot play it; --embed-audio brings the sound into the page.";
}

function seek(body, seconds) {
  load(body);
  audio.currentTime = playing.start + seconds;
  follow();
}

function tellPlace(body, now) {
  const place = body.querySelector(".place");
  if (!place) return;
  place.max = playing.duration;
  place.value = now;
  body.querySelector(".clock").textContent = clock(now, playing.duration);
  const cursor = body.querySelector(".cursor");
  if (cursor && playing.duration) cursor.style.left = (100 * now) / playing.duration + "%";
}

function follow() {
  if (!playing) return;
  const {body, i, start} = playing,
    now = Math.max(0, audio.currentTime - start);
  if (!playing.duration && Number.isFinite(audio.duration)) playing.duration = audio.duration - start;
  if (playing.duration && now >= playing.duration) {
    audio.pause();
    audio.currentTime = start;
    reset(body);
    tellPlace(body, 0);
    return;
  }
  tellPlace(body, now);
  for (const cell of body.querySelectorAll(".timed")) {
    const times = utterances.times[cell.dataset.system][i],
      at = 2 * Number(cell.dataset.word);
    cell.classList.toggle("spoken", times[at] <= now && now < times[at + 1]);
  }
  if (!audio.paused) requestAnimationFrame(follow);
}

audio.addEventListener("play", () => {
  if (playing) playing.body.querySelector(".play").textContent = "Pause";
  follow();
});
audio.addEventListener("pause", () => {
  if (playing) playing.body.querySelector(".play").textContent = "Play";
});
audio.addEventListener("ended", () => {
  if (playing) reset(playing.body);
});
audio.addEventListener("error", fail);
byId("rows").addEventListener("click", event => {
  const cell = event.target.closest(".timed");
  if (!cell) return;
  const body = cell.closest("tbody"),
    i = Number(body.dataset.utterance);
  if (!hasSound(i)) return;
  if (!body.querySelector(".detail")) toggle(body);
  seek(body, utterances.times[cell.dataset.system][i][2 * Number(cell.dataset.word)]);
  audio.play().catch(fail);
});

const RATE = 16000,
  SIZE = 512,
  WINDOW = 400,
  STEP = 160,
  RANGE_DB = 80;

async function spectrogram(cell, i) {
  const box = element("div", "picture", cell);
  try {
    const bytes = Uint8Array.from(atob(embedded(i)), letter => letter.charCodeAt(0));
    const sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes.buffer);
    const levels = spectrum(sound.getChannelData(0)),
      canvas = element("canvas", "", box),
      rows = SIZE / 2;
    Object.assign(canvas, {width: levels.length, height: rows});
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `spectrogram, 0 to ${RATE / 2} Hz over ${sound.duration.toFixed(2)} s`);
    const context = canvas.getContext("2d"),
      image = context.createImageData(levels.length, rows),
      colours = data.sequential;
    const parts = colours.map(text => [1, 3, 5].map(at => parseInt(text.slice(at, at + 2), 16)));
    const top = levels.reduce((most, column) => Math.max(most, ...column), -300);
    levels.forEach((column, x) =>
      column.forEach((level, row) => {
        const share = Math.min(1, Math.max(0, (level - top + RANGE_DB) / RANGE_DB)) * (parts.length - 1);
        const low = Math.min(Math.floor(share), parts.length - 2),
          at = 4 * ((rows - 1 - row) * levels.length + x);
        for (let c = 0; c < 3; c++) image.data[at + c] = parts[low][c] + (parts[low + 1][c] - parts[low][c]) * (share - low);
        image.data[at + 3] = 255;
      }),
    );
    context.putImageData(image, 0, 0);
    element("span", "cursor", box).style.left = "0%";
    element("p", "note", cell, `0 to ${RATE / 2000} kHz, the loudest ${RANGE_DB} dB`);
  } catch (error) {
    box.textContent = "The browser cannot decode this sound.";
  }
}

// Levels (dB) of each 10 ms.
function spectrum(samples) {
  const frames = Math.max(1, Math.floor((samples.length - WINDOW) / STEP) + 1),
    levels = [];
  for (let frame = 0; frame < frames; frame++) {
    const real = new Float64Array(SIZE),
      imaginary = new Float64Array(SIZE);
    for (let n = 0; n < WINDOW; n++)
      real[n] = (samples[frame * STEP + n] || 0) * (0.5 - 0.5 * Math.cos((2 * Math.PI * n) / WINDOW));
    transform(real, imaginary);
    levels.push(Array.from({length: SIZE / 2}, (_, k) => 10 * Math.log10(real[k] ** 2 + imaginary[k] ** 2 + 1e-12)));
  }
  return levels;
}

// The fast Fourier transform, in place (Cooley and Tukey, 1965).
function transform(real, imaginary) {
  const n = real.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let size = 2; size <= n; size *= 2) {
    for (let start = 0; start < n; start += size) {
      for (let k = 0; k < size / 2; k++) {
        const angle = (-2 * Math.PI * k) / size,
          c = Math.cos(angle),
          s = Math.sin(angle),
          a = start + k,
          b = a + size / 2;
        const x = c * real[b] - s * imaginary[b],
          y = c * imaginary[b] + s * real[b];
        real[b] = real[a] - x;
        imaginary[b] = imaginary[a] - y;
        real[a] += x;
        imaginary[a] += y;
      }
    }
  }
}

document.title = "asr report: " + shown(data.title);
byId("title").textContent = shown(data.title);
for (const note of data.notes) bdi(element("li", "", byId("notes")), note);
summary();
differences();
curves();
breakdown();
confusions();
makeReachable();
addEventListener("resize", makeReachable);
controls();
makeColumns();
state.key = "errors0";
state.down = true;
choose();
