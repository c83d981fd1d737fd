// The rooms' script: no library, nothing inline. Every page works without it but for drawing.
"use strict";

// A choice sends its form at once.
for (const form of document.querySelectorAll("form.tools")) {
  form.addEventListener("change", (event) => {
    if (event.target.matches("select, td input[type=checkbox]")) form.requestSubmit();
  });
}

// The viewer: stages of one image each, zoomed, moved and windowed together.
const viewer = document.querySelector(".viewer");
const MODE_KEYS = { w: "window", v: "move", b: "brush", e: "eraser" };
const ACTION_KEYS = { c: "contours", h: "heat", "+": "closer", "=": "closer", "-": "further", "0": "reset", z: "undo" };

class Viewer {
  constructor(root) {
    this.root = root;
    this.stages = [...root.querySelectorAll(".stage")];
    this.actions = {
      contours: (button) => this.toggle(button, ".outlines"),
      heat: (button) => this.toggle(button, ".heat"),
      closer: () => this.zoom(1.4),
      further: () => this.zoom(1 / 1.4),
      reset: () => this.reset(),
    };
    this.mode = "window";
    this.reset();
    root.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button?.dataset.do) this.actions[button.dataset.do]?.(button);
      if (button?.dataset.mode) this.setMode(button.dataset.mode);
    });
    root.addEventListener("input", (event) => {
      if (event.target.name === "centre" || event.target.name === "contrast") this.draw();
    });
    document.addEventListener("keydown", (event) => this.key(event));
    this.stages.forEach((stage) => this.listen(stage));
    this.load();
  }

  slider(name) { return this.root.querySelector(`input[name=${name}]`); }
  button(name) { return this.root.querySelector(`[data-do=${name}]`); }
  say(text) {
    const status = this.root.querySelector("[data-status]");
    if (status) status.textContent = text;
  }

  async load() {
    try {
      await Promise.all(this.stages.map((stage) => this.loadStage(stage)));
      this.say("");
    } catch (error) {
      this.say(error.message);
    }
  }

  async loadStage(stage) {
    const scene = await ask(`${stage.dataset.base}/scene.json`);
    const layers = stage.querySelector(".layers");
    layers.style.aspectRatio = `${scene.width} / ${scene.height}`;
    layers.style.maxWidth = `calc(78vh * ${scene.width / scene.height})`;
    stage.querySelector(".outlines").setAttribute("viewBox", `0 0 ${scene.width} ${scene.height}`);
    for (const [name, path] of Object.entries(scene.outlines)) {
      stage.querySelectorAll(`path.${name}`).forEach((drawn) => drawn.setAttribute("d", path));
    }
    if (scene.heat) {
      this.button("heat").hidden = false;
      stage.querySelector(".heat").dataset.src = `${stage.dataset.base}/heat.png`;
    }
    const facts = this.root.querySelector("[data-facts]");
    for (const [name, value] of facts ? scene.facts : []) {
      const pair = document.createElement("div");
      pair.append(Object.assign(document.createElement("dt"), { textContent: name }));
      pair.append(Object.assign(document.createElement("dd"), { textContent: value }));
      facts.append(pair);
    }
    stage.scene = scene;
    stage.dataset.ready = "";
  }

  toggle(button, layer) {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", on);
    for (const drawn of this.root.querySelectorAll(layer)) {
      if (drawn.dataset.src && !drawn.getAttribute("src")) drawn.src = drawn.dataset.src;
      drawn.toggleAttribute("hidden", !on);
    }
  }

  setMode(mode) {
    if (!this.root.querySelector(`[data-mode=${mode}]`)) return;
    this.mode = mode;
    for (const button of this.root.querySelectorAll("button[data-mode]")) {
      button.setAttribute("aria-pressed", button.dataset.mode === mode);
    }
    this.stages.forEach((stage) => { stage.dataset.mode = mode; });
    this.modeChanged?.();
  }

  reset() {
    [this.scale, this.x, this.y] = [1, 0, 0];
    for (const [name, value] of [["centre", 50], ["contrast", 0]]) this.slider(name).value = value;
    this.draw();
  }

  // Keep the point under (x, y), in pixels of a stage, where it is.
  zoom(factor, x, y) {
    const box = this.stages[0].getBoundingClientRect();
    [x, y] = [x ?? box.width / 2, y ?? box.height / 2];
    const scale = Math.min(40, Math.max(1, this.scale * factor));
    const left = this.stages[0].querySelector(".layers").offsetLeft - this.stages[0].offsetLeft;
    this.x = x - left - ((x - left - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    if (scale === 1) [this.x, this.y] = [0, 0];
    this.draw();
  }

  draw() {
    // Grey values from centre - width / 2 to centre + width / 2 are shown from black to white.
    const [centre, width] = [this.slider("centre").value / 100, 2 ** (-this.slider("contrast").value / 40)];
    for (const line of this.root.querySelectorAll("#window feComponentTransfer > *")) {
      line.setAttribute("slope", 1 / width);
      line.setAttribute("intercept", 0.5 - centre / width);
    }
    for (const stage of this.stages) {
      const layers = stage.querySelector(".layers");
      layers.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
      layers.classList.toggle("near", this.scale > 4);
    }
  }

  listen(stage) {
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = stage.getBoundingClientRect();
      this.zoom(2 ** (-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      stage.setPointerCapture(event.pointerId);
      this.last = [event.clientX, event.clientY];
      this.drawingStarts?.(stage, event);
    });
    stage.addEventListener("pointermove", (event) => {
      if (this.last && stage.hasPointerCapture(event.pointerId)) {
        const [dx, dy] = [event.clientX - this.last[0], event.clientY - this.last[1]];
        this.last = [event.clientX, event.clientY];
        if (this.mode === "move") [this.x, this.y] = [this.x + dx, this.y + dy];
        if (this.mode === "window") {
          this.slider("contrast").valueAsNumber += dx / 3;
          this.slider("centre").valueAsNumber += dy / 5;
        }
        this.draw();
      }
      this.pointerMoves?.(stage, event);
    });
    const ends = () => { this.last = null; this.drawingEnds?.(); };
    stage.addEventListener("pointerup", ends);
    stage.addEventListener("pointercancel", ends);
    stage.addEventListener("dragstart", (event) => event.preventDefault());
  }

  key(event) {
    if (event.altKey || event.metaKey || event.target.closest("input, textarea, select")) return;
    if (this.keyMoves?.(event)) return event.preventDefault();
    if (event.ctrlKey && event.key !== "z") return;
    const key = event.key.toLowerCase();
    const way = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
    if (way) document.querySelector(`.way a[rel=${way}]`)?.click();
    else if (MODE_KEYS[key]) this.setMode(MODE_KEYS[key]);
    else if (ACTION_KEYS[key]) {
      const button = this.button(ACTION_KEYS[key]);
      if (button && !button.hidden) button.click();
    } else if (this.otherKey?.(key)) { /* done */ } else return;
    event.preventDefault();
  }
}

// Ask the server; what went wrong is told in its own words.
async function ask(address, options = {}) {
  const answer = await fetch(address, { ...options, headers: { Accept: "application/json", ...options.headers } })
    .catch(() => { throw new Error("The server does not answer; is gcsam-med view still running?"); });
  const content = await answer.json().catch(() => ({ error: `The server answered with ${answer.status}.` }));
  if (!answer.ok) throw new Error(`${content.error} ${content.advice ?? ""}`.trim());
  return content;
}

// A viewer that takes what a person says about a prediction, and corrections of its mask.
class Review extends Viewer {
  constructor(root) {
    super(root);
    this.base = root.dataset.review;
    this.stage = this.stages[0];
    this.waiting = new Map(); // what is to be saved: one of a kind, the newest
    this.actions.undo = () => this.undo();
    const form = root.querySelector("form.review");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("click", (event) => {
      const verdict = event.target.closest("button")?.dataset.verdict;
      if (verdict) this.judge(verdict === this.verdict() ? "" : verdict);
    });
    form.addEventListener("change", (event) => {
      if (event.target.name === "label") this.judge(event.target.value ? "corrected" : "");
    });
    form.addEventListener("input", (event) => {
      if (event.target.name === "comment") this.judge(this.verdict());
    });
    addEventListener("beforeunload", (event) => { if (this.busy()) event.preventDefault(); });
    document.querySelector(".way").addEventListener("click", (event) => {
      const way = event.target.closest("a");
      if (!way || !this.busy()) return;
      event.preventDefault();
      this.saving.then(() => { if (!this.busy()) location = way.href; });
    });
  }

  verdict() { return this.root.querySelector("[data-verdict-shown]").dataset.now ?? this.shown(); }
  shown() {
    const text = this.root.querySelector("[data-verdict-shown]").textContent.toLowerCase();
    return text === "not reviewed" ? "" : text;
  }
  busy() { return this.waiting.size > 0 || this.sending; }

  judge(verdict) {
    this.show(verdict);
    this.save("review", () => ({
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        verdict,
        comment: this.root.querySelector("[name=comment]").value,
        label: verdict === "corrected" ? this.root.querySelector("[name=label]")?.value ?? "" : "",
      }),
    }));
  }

  show(verdict) {
    const shown = this.root.querySelector("[data-verdict-shown]");
    shown.dataset.now = verdict;
    shown.textContent = verdict ? verdict[0].toUpperCase() + verdict.slice(1) : "Not reviewed";
    for (const button of this.root.querySelectorAll("button[data-verdict]")) {
      button.setAttribute("aria-pressed", button.dataset.verdict === verdict);
    }
    const label = this.root.querySelector("[name=label]");
    if (label && verdict !== "corrected") label.value = "";
  }

  // One request at a time, so that the last word is the last to arrive.
  save(kind, request) {
    this.waiting.delete(kind);
    this.waiting.set(kind, request);
    this.say("Saving ...");
    this.saving = this.sending ? this.saving : this.send();
  }

  async send() {
    this.sending = true;
    try {
      while (this.waiting.size) {
        const [kind, request] = this.waiting.entries().next().value;
        this.waiting.delete(kind);
        await ask(`${this.base}/${kind}`, request());
        this.say(`Saved at ${new Date().toLocaleTimeString()}.`);
      }
    } catch (error) {
      this.say(`Not saved: ${error.message}`);
    } finally {
      this.sending = false;
    }
  }

  otherKey(key) {
    const button = this.root.querySelector(`[data-verdict=${{ a: "accepted", r: "rejected" }[key] ?? "none"}]`);
    button?.click();
    return Boolean(button);
  }

  // Correcting: the mask is an array of 0 and 1, drawn on a canvas over the picture.
  async modeChanged() {
    if (!["brush", "eraser"].includes(this.mode)) return this.cursor?.setAttribute("hidden", "");
    if (!this.mask) await this.startDrawing().catch((error) => this.say(error.message));
    this.cursor?.removeAttribute("hidden");
  }

  async loadStage(stage) {
    await super.loadStage(stage);
    if (this.root.hasAttribute("data-editable") && this.shown() === "corrected") await this.startDrawing();
  }

  startDrawing() {
    this.starting ??= this.prepareMask();
    return this.starting;
  }

  async prepareMask() {
    const [stage] = this.stages;
    const picture = new Image();
    picture.src = `${stage.dataset.base}/mask.png`;
    await picture.decode();
    const [width, height] = [picture.naturalWidth, picture.naturalHeight];
    this.canvas = Object.assign(document.createElement("canvas"), { width, height });
    this.pen = this.canvas.getContext("2d", { willReadFrequently: true });
    this.pen.drawImage(picture, 0, 0);
    const pixels = this.pen.getImageData(0, 0, width, height).data;
    this.mask = new Uint8Array(width * height);
    for (let i = 0; i < this.mask.length; i += 1) this.mask[i] = pixels[4 * i] > 127 ? 1 : 0;
    this.former = [];
    this.showMask(0, 0, width, height);
    stage.querySelector(".layers").insertBefore(this.canvas, stage.querySelector(".outlines"));
    this.cursor = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    this.cursor.classList.add("cursor");
    stage.querySelector(".outlines").append(this.cursor);
    this.moveCursor(width / 2, height / 2);
    stage.dataset.drawing = "";
  }

  radius() { return Math.max(0.5, (this.slider("size").value * Math.max(this.canvas.width, this.canvas.height)) / 1000); }

  // Show a part of the mask: green, half transparent.
  showMask(x0, y0, x1, y1) {
    if (x1 <= x0 || y1 <= y0) return;
    const part = this.pen.createImageData(x1 - x0, y1 - y0);
    for (let y = y0, i = 0; y < y1; y += 1) {
      for (let x = x0; x < x1; x += 1, i += 4) {
        if (this.mask[y * this.canvas.width + x]) part.data.set([60, 220, 160, 110], i);
      }
    }
    this.pen.putImageData(part, x0, y0);
  }

  // Set every pixel whose middle lies in a disc around a point.
  stamp(x, y) {
    const [r, value] = [this.radius(), this.mode === "brush" ? 1 : 0];
    const { width, height } = this.canvas;
    const [x0, x1] = [Math.max(0, Math.floor(x - r)), Math.min(width, Math.ceil(x + r) + 1)];
    const [y0, y1] = [Math.max(0, Math.floor(y - r)), Math.min(height, Math.ceil(y + r) + 1)];
    for (let j = y0; j < y1; j += 1) {
      for (let i = x0; i < x1; i += 1) {
        if ((i + 0.5 - x) ** 2 + (j + 0.5 - y) ** 2 <= r * r) this.mask[j * width + i] = value;
      }
    }
    this.showMask(x0, y0, x1, y1);
  }

  lineTo(x, y) {
    const [fx, fy] = this.at;
    const steps = Math.max(1, Math.ceil(Math.hypot(x - fx, y - fy) / Math.max(0.5, this.radius() / 2)));
    for (let k = 1; k <= steps; k += 1) this.stamp(fx + ((x - fx) * k) / steps, fy + ((y - fy) * k) / steps);
    this.at = [x, y];
  }

  pointOf(stage, event) {
    const box = stage.querySelector(".layers").getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * this.canvas.width,
      ((event.clientY - box.top) / box.height) * this.canvas.height,
    ];
  }

  penDown(x, y) {
    this.former.push(this.packed());
    if (this.former.length > 30) this.former.shift();
    this.down = true;
    this.at = [x, y];
    this.stamp(x, y);
  }

  penUp() {
    if (!this.down) return;
    this.down = false;
    this.button("undo").disabled = false;
    this.saveMask();
  }

  saveMask() {
    this.show("corrected");
    this.save("mask", () => ({
      method: "PUT",
      headers: { "Content-Type": "application/octet-stream" },
      body: this.packed(),
    }));
  }

  undo() {
    if (!this.former?.length) return;
    const bits = this.former.pop();
    for (let i = 0; i < this.mask.length; i += 1) this.mask[i] = (bits[i >> 3] >> (7 - (i & 7))) & 1;
    this.button("undo").disabled = !this.former.length;
    this.showMask(0, 0, this.canvas.width, this.canvas.height);
    this.saveMask();
  }

  // A bit a pixel, row by row, the first in the highest bit.
  packed() {
    const bits = new Uint8Array(Math.ceil(this.mask.length / 8));
    for (let i = 0; i < this.mask.length; i += 1) if (this.mask[i]) bits[i >> 3] |= 128 >> (i & 7);
    return bits;
  }

  moveCursor(x, y) {
    this.spot = [x, y];
    for (const [name, value] of [["cx", x], ["cy", y], ["r", this.radius()]]) this.cursor.setAttribute(name, value);
  }

  drawsWith(mode) { return this.mask && ["brush", "eraser"].includes(mode); }

  drawingStarts(stage, event) {
    if (this.drawsWith(this.mode)) this.penDown(...this.pointOf(stage, event));
  }

  pointerMoves(stage, event) {
    if (!this.drawsWith(this.mode)) return;
    const point = this.pointOf(stage, event);
    this.moveCursor(...point);
    if (this.down) this.lineTo(...point);
  }

  drawingEnds() { this.penUp(); }

  // The pen by keys: arrows move it, Space puts it down and lifts it.
  keyMoves(event) {
    if (!this.drawsWith(this.mode) || !event.target.closest(".stage")) return false;
    const far = event.shiftKey ? 10 : 1;
    const step = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] }[event.key];
    if (event.key === " ") {
      if (this.down) this.penUp();
      else this.penDown(...this.spot);
      return true;
    }
    if (!step) return false;
    this.moveCursor(this.spot[0] + step[0], this.spot[1] + step[1]);
    if (this.down) this.lineTo(...this.spot);
    return true;
  }
}

if (viewer) viewer.controls = viewer.dataset.review ? new Review(viewer) : new Viewer(viewer);

// Try: a file is sent as it is, by a drop or a choice; its name serves messages only.
const trial = document.querySelector("form.try");
if (trial) {
  const say = (text) => { trial.querySelector("[data-status]").textContent = text; };
  const send = async (file) => {
    if (!file) return;
    say("Computing ...");
    try {
      const { answer } = await ask(`/try/${trial.elements.run.value}`, {
        method: "POST",
        headers: { "Content-Type": "application/octet-stream", "X-File-Name": encodeURIComponent(file.name) },
        body: file,
      });
      location = answer;
    } catch (error) {
      say(error.message);
    }
  };
  trial.elements.file.addEventListener("change", (event) => send(event.target.files[0]));
  trial.addEventListener("submit", (event) => event.preventDefault());
  const drop = trial.querySelector(".drop");
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop") send(event.dataTransfer.files[0]);
    });
  }
}
