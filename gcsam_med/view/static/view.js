// The rooms' script: no library, nothing inline. Every page works without it but for drawing.
"use strict";

// A choice sends its form at once.
for (const form of document.querySelectorAll("form.tools")) {
  form.addEventListener("change", (event) => {
    if (event.target.matches("select, input[type=checkbox]")) form.requestSubmit();
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

if (viewer) new Viewer(viewer);
