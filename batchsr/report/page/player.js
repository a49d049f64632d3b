"use strict";
const $ = (id) => document.getElementById(id);
const make = (name, text, attributes = {}) => {
  const node = document.createElement(name);
  if (text !== undefined && text !== null) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const clock = (seconds) => {
  if (seconds === null || seconds === undefined) return "";
  const whole = Math.round(seconds), pad = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
};

// --- pictures ----------------------------------------------------------------------------------------------------
const COLOURS = Array.from({ length: 256 }, (_, i) => {
  const x = i / 255, s = (a, b) => Math.max(0, Math.min(1, (x - a) / (b - a)));
  return [255 * s(0.3, 0.75), 255 * (0.9 * s(0.55, 1)), 255 * (0.55 * s(0, 0.35) * (1 - s(0.45, 0.75)) + s(0.85, 1))];
});

function spectrogram(canvas, levels, columns, bins, cutoff) {
  canvas.width = columns;
  canvas.height = bins;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, bins);
  for (let bin = 0; bin < bins; bin++) for (let column = 0; column < columns; column++) {
    const colour = COLOURS[levels[bin * columns + column]], place = 4 * ((bins - 1 - bin) * columns + column);
    image.data.set([...colour, 255], place);
  }
  context.putImageData(image, 0, 0);
  if (cutoff && cutoff < 24000) {
    const y = Math.round(bins * (1 - cutoff / 24000)) + 0.5;
    context.strokeStyle = "#ffffff";
    context.setLineDash([4, 4]);
    context.beginPath();
    context.moveTo(0, y);
    context.lineTo(columns, y);
    context.stroke();
  }
}

function waveform(canvas, values, columns) {
  canvas.width = columns;
  canvas.height = 60;
  const context = canvas.getContext("2d"), signed = new Int8Array(values.buffer);
  context.fillStyle = getComputedStyle(document.body).getPropertyValue("--accent");
  for (let i = 0; i < columns; i++) {
    const low = signed[2 * i] / 127, high = signed[2 * i + 1] / 127;
    context.fillRect(i, 30 - 30 * high, 1, Math.max(1, 30 * (high - low)));
  }
}

// --- the player --------------------------------------------------------------------------------------------------
const WORDS = ["source", "restored", "difference"];
let players = [], now = null, guesses = 0, right = 0;

class Player {
  constructor(file, number) {
    this.file = file;
    this.swapped = false;
    this.word = "source";
    this.sounds = Object.fromEntries(WORDS.map((word) => {
      const sound = make("audio", null, { preload: "none" });
      sound.src = file.addresses ? file.addresses[word] : "data:audio/ogg;base64," + file.clips[word];
      sound.addEventListener("timeupdate", () => { if (word === this.word) this.seek.value = sound.currentTime; });
      sound.addEventListener("ended", () => this.show());
      sound.addEventListener("error", () => { this.said.textContent = "This browser cannot play Opus; the files are beside the outputs."; });
      return [word, sound];
    }));
    this.node = make("article", null, { "aria-labelledby": `file-${number}` });
    this.node.append(make("h3", file.name, { id: `file-${number}` }));
    this.node.append(make("p", `${file.why ? file.why + "; " : ""}${file.seconds} s from ${file.start}`, { class: "why" }));
    this.node.append(this.pictures(), this.controls(), this.facts());
    this.node.addEventListener("pointerdown", () => focusOn(this));
    this.node.addEventListener("focusin", () => focusOn(this));
  }

  pictures() {
    const both = make("div", null, { class: "pictures" });
    ["before", "after"].forEach((word, index) => {
      const figure = make("figure"), picture = make("canvas", null, { role: "img" }), wave = make("canvas", null, { class: "wave", role: "img" });
      const cutoff = this.file.cutoff_hz ? `, the dashed line is the recording's cutoff, ${Math.round(this.file.cutoff_hz).toLocaleString("en")} Hz` : "";
      picture.setAttribute("aria-label", `Spectrogram ${word}, 0 to 24 kHz${cutoff}`);
      wave.setAttribute("aria-label", `Waveform ${word}`);
      spectrogram(picture, bytes(this.file.spectrograms[index]), this.file.columns, this.file.bins, this.file.cutoff_hz);
      waveform(wave, bytes(this.file.waveforms[index]), this.file.columns);
      figure.append(make("figcaption", `${word === "before" ? "Before" : "After"}: 0 to 24 kHz${cutoff}`), picture, wave);
      both.append(figure);
    });
    return both;
  }

  controls() {
    const line = make("div", null, { class: "player" });
    this.play = make("button", "Play", { type: "button", "aria-pressed": "false" });
    this.play.addEventListener("click", () => this.toggle());
    line.append(this.play);
    this.buttons = WORDS.map((word, index) => {
      const button = make("button", null, { type: "button", "aria-pressed": "false" });
      button.addEventListener("click", () => this.choose(index));
      line.append(button);
      return button;
    });
    this.seek = make("input", null, { type: "range", min: 0, max: this.file.seconds, step: 0.01, value: 0, "aria-label": "Place in the excerpt, seconds" });
    this.seek.addEventListener("input", () => { for (const sound of Object.values(this.sounds)) sound.currentTime = Number(this.seek.value); });
    this.guess = make("span", null, { hidden: "" });
    for (const [index, text] of ["A is the restoration", "B is the restoration"].entries()) {
      const button = make("button", text, { type: "button" });
      button.addEventListener("click", () => this.judge(index));
      this.guess.append(button, " ");
    }
    this.said = make("span", null, { role: "status" });
    line.append(this.seek, this.guess, this.said);
    return line;
  }

  facts() {
    const details = make("details"), list = make("dl");
    details.append(make("summary", "What was done to it"));
    for (const [label, value] of this.file.facts) list.append(make("dt", label), make("dd", value));
    details.append(list);
    return details;
  }

  wordOf(index) {
    if (index === 2) return "difference";
    return this.swapped === (index === 0) ? "restored" : "source";
  }

  choose(index) {
    const word = this.wordOf(index), before = this.sounds[this.word], after = this.sounds[word];
    if (word !== this.word) {
      const playing = !before.paused;
      const place = before.currentTime || Number(this.seek.value);
      before.pause();
      this.word = word;
      after.currentTime = place;
      if (playing) after.play();
    }
    this.show();
  }

  async toggle() {
    const sound = this.sounds[this.word];
    for (const other of players) if (other !== this) other.stop();
    if (sound.paused) { try { await sound.play(); } catch (e) { /* the error event says why */ } } else sound.pause();
    this.show();
  }

  stop() {
    for (const sound of Object.values(this.sounds)) sound.pause();
    this.show();
  }

  blind(on) {
    this.swapped = on && Math.random() < 0.5;
    this.guess.hidden = !on;
    this.buttons[2].hidden = on;
    this.said.textContent = "";
    this.node.querySelector(".pictures").hidden = on;
    this.choose(0);
  }

  judge(index) {
    if (this.guess.hidden) return;
    const hit = this.wordOf(index) === "restored";
    guesses += 1;
    right += hit ? 1 : 0;
    this.said.textContent = `${hit ? "Right" : "No"}: ${this.wordOf(0) === "restored" ? "A" : "B"} was the restoration.`;
    $("score").textContent = `${right} of ${guesses} right`;
    this.swapped = Math.random() < 0.5;
    this.choose(0);
  }

  show() {
    const hidden = $("blind").checked;
    this.play.textContent = this.sounds[this.word].paused ? "Play" : "Stop";
    this.play.setAttribute("aria-pressed", String(!this.sounds[this.word].paused));
    this.buttons.forEach((button, index) => {
      button.textContent = hidden ? "AB "[index] : ["Source", "Restored", "Difference"][index];
      button.setAttribute("aria-pressed", String(this.wordOf(index) === this.word));
    });
  }
}

function focusOn(player) {
  now = player;
  for (const other of players) other.node.classList.toggle("now", other === player);
}

function keys(event) {
  const typing = event.target.closest("input[type=search], select, textarea") || event.ctrlKey || event.metaKey || event.altKey;
  if (typing || !players.length) return;
  if (!now) focusOn(players[0]);
  const index = players.indexOf(now);
  if ("123".includes(event.key)) now.choose(Number(event.key) - 1);
  else if (event.key === " " && !event.target.closest("button, summary, input")) { event.preventDefault(); now.toggle(); }
  else if ((event.key === "ArrowRight" || event.key === "ArrowLeft") && !event.target.closest("input")) {
    const next = players[index + (event.key === "ArrowRight" ? 1 : -1)];
    if (!next) return;
    now.stop();
    focusOn(next);
    next.node.scrollIntoView({ block: "nearest" });
  }
}

function listening(heard) {
  $("listening").hidden = !heard.length;
  players = heard.map((file, number) => new Player(file, number));
  $("files").append(...players.map((player) => player.node));
  for (const player of players) player.show();
  $("blind").addEventListener("change", () => { guesses = right = 0; $("score").textContent = ""; for (const player of players) player.blind($("blind").checked); });
  document.addEventListener("keydown", keys);
}
