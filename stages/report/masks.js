"use strict";

// Photographs with their masks laid over: what is chosen, drawn, pointed at.
const Masks = (() => {
  const GREY = 0.35; // how much of a photograph stays where another region is pointed at
  let pictures = { photographs: [], cycles: [] };
  let palette = [];
  let decoded = new Map(); // "cycle row" -> {width, height, labels, areas}
  let photographs = new Map(); // row -> Image
  let visible = new Set(); // figures on the screen
  let pointed = null; // {cycle, group, label}
  let views = []; // {canvas, cycle, photograph}
  const chosen = { cycle: null, beside: null, opacity: 0.55, without: new Set() }; // without: rows that are not shown
  let tellDrawn = null;
  const drawn = new Promise((resolve) => { tellDrawn = resolve; }); // the first photograph, or that none can be
  const byId = (id) => document.getElementById(id);

  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) visible.add(entry.target);
      else visible.delete(entry.target);
      if (entry.isIntersecting) views.filter((view) => view.figure === entry.target).forEach(draw);
    }
  }, { rootMargin: "300px" });

  function show(data) {
    const newest = pictures.cycles.length ? pictures.cycles[pictures.cycles.length - 1].cycle : null;
    const before = views.length ? JSON.stringify(inTheGrid()) : null;
    pictures = data.pictures;
    palette = data.palette;
    decoded = new Map();
    photographs = new Map();
    const cycles = pictures.cycles.map((each) => each.cycle);
    // Who looked at the newest cycle goes on to the one that came.
    if (!cycles.includes(chosen.cycle) || chosen.cycle === newest) chosen.cycle = cycles.length ? cycles[cycles.length - 1] : null;
    if (chosen.beside !== "photograph" && !cycles.includes(chosen.beside)) chosen.beside = null;
    byId("masks-controls").hidden = !cycles.length;
    byId("masks-hint").hidden = !cycles.length;
    byId("masks-note").textContent = cycles.length
      ? "Masks of a cycle, made before it trained. Colours are clusters of a group of photographs: they mean nothing across groups or cycles."
      : "No cycle has masks to show yet (of evaluate.pictures photographs).";
    drawChoices(cycles);
    if (before === null || before !== JSON.stringify(inTheGrid())) {
      pointed = null;
      drawGrid();
    }
    if (!views.length) tellDrawn();
  }

  function sides() {
    return [chosen.cycle, chosen.beside].filter((side) => side !== null);
  }

  function inTheGrid() {
    return [sides(), pictures.photographs, pictures.cycles.filter((each) => sides().includes(each.cycle))];
  }

  function drawChoices(cycles) {
    refill(byId("cycle-choice"), ...cycles.map((cycle) => {
      const input = element("input", { type: "radio", name: "cycle", value: cycle, checked: cycle === chosen.cycle });
      input.addEventListener("change", () => { chosen.cycle = cycle; pointed = null; drawGrid(); });
      return element("label", {}, input, ` ${cycle}`);
    }));
    refill(
      byId("beside"),
      element("option", { value: "" }, "nothing"),
      ...cycles.map((cycle) => element("option", { value: cycle, selected: cycle === chosen.beside }, `cycle ${cycle}`)),
      element("option", { value: "photograph", selected: chosen.beside === "photograph" }, "photograph"),
    );
    refill(byId("photograph-choice"), ...pictures.photographs.map((each) => {
      const input = element("input", { type: "checkbox", value: each.row, checked: !chosen.without.has(each.row) });
      input.addEventListener("change", () => { choose(input); drawGrid(); });
      return element("label", { "data-name": each.name, hidden: !isFound(each.name) }, input, ` ${each.name}`);
    }));
  }

  function choose(input) {
    if (input.checked) chosen.without.delete(Number(input.value)); else chosen.without.add(Number(input.value));
  }

  function isFound(name) {
    return name.toLowerCase().includes(byId("find").value.toLowerCase());
  }

  function drawGrid() {
    const shown = pictures.photographs.filter((each) => !chosen.without.has(each.row));
    byId("chosen-count").textContent = `${shown.length} of ${pictures.photographs.length} photographs`;
    const focused = byId("grid").contains(document.activeElement) ? document.activeElement.dataset.row : null;
    watcher.disconnect();
    visible = new Set();
    views = [];
    byId("grid").classList.toggle("two", sides().length > 1);
    byId("grid").replaceChildren(...(sides().length ? shown : []).map((photograph) => {
      const canvases = sides().map((side) => {
        const what = side === "photograph" ? "photograph" : `cycle ${side}`;
        const canvas = element("canvas", {
          width: 256, height: 192, tabindex: 0, role: "img", "aria-label": `${photograph.name}, ${what}`,
          "data-row": photograph.row, "data-side": side,
        });
        const view = { canvas, side, photograph, figure: null };
        views.push(view);
        listen(view);
        return canvas;
      });
      const figure = element("figure", {}, element("div", { class: "pair" }, ...canvases), element("figcaption", {}, photograph.name));
      views.filter((view) => view.photograph === photograph).forEach((view) => { view.figure = figure; });
      watcher.observe(figure);
      return figure;
    }));
    if (focused !== null) byId("grid").querySelector(`[data-row="${focused}"]`)?.focus({ preventScroll: true });
    tell();
  }

  function listen(view) {
    view.canvas.addEventListener("pointermove", async (event) => {
      const map = await labels(view.side, view.photograph.row);
      if (!map) return;
      const box = view.canvas.getBoundingClientRect();
      const column = Math.min(map.width - 1, Math.floor((event.clientX - box.left) / box.width * map.width));
      const row = Math.min(map.height - 1, Math.floor((event.clientY - box.top) / box.height * map.height));
      if (row >= 0 && column >= 0) point(view, map.labels[row * map.width + column]);
    });
    view.canvas.addEventListener("pointerleave", () => point(view, null));
    view.canvas.addEventListener("blur", () => point(view, null));
    view.canvas.addEventListener("keydown", async (event) => {
      const turn = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") { point(view, null); return; }
      if (!turn) return;
      event.preventDefault();
      const map = await labels(view.side, view.photograph.row);
      if (!map) return;
      const order = [...map.areas.keys()].sort((a, b) => map.areas.get(b) - map.areas.get(a) || a - b);
      const here = pointed && pointed.cycle === view.side ? order.indexOf(pointed.label) : -1;
      const next = here < 0 ? (turn > 0 ? 0 : order.length - 1) : (here + turn + order.length) % order.length;
      point(view, order[next]);
    });
  }

  function point(view, label) {
    const next = label === null ? null : { cycle: view.side, group: view.photograph.group, label, row: view.photograph.row };
    if (JSON.stringify(next) === JSON.stringify(pointed)) return;
    pointed = next;
    views.filter((each) => visible.has(each.figure)).forEach(draw);
    tell();
  }

  async function tell() {
    const line = byId("region");
    if (!pointed) { line.textContent = "\u00a0"; return; }
    const mine = pointed;
    const map = await labels(mine.cycle, mine.row);
    const group = pictures.photographs.filter((each) => each.group === mine.group);
    const maps = await Promise.all(group.map((each) => labels(mine.cycle, each.row)));
    if (mine !== pointed || !map) return;
    const among = maps.filter((each) => each && each.areas.has(mine.label)).length;
    const share = 100 * (map.areas.get(mine.label) || 0) / map.labels.length;
    line.textContent = `Region ${mine.label}: ${share.toFixed(share < 10 ? 1 : 0)} % of this photograph, which has ${map.areas.size}; in ${among} of the ${group.length} shown of its group`;
  }

  async function draw(view) {
    const [image, map] = await Promise.all([photograph(view.photograph), labels(view.side, view.photograph.row)]);
    const { canvas } = view;
    if (!image) {
      fault(view, "cannot be read");
      tellDrawn();
      return;
    }
    if (canvas.width !== image.naturalWidth || canvas.height !== image.naturalHeight) {
      canvas.width = image.naturalWidth;
      canvas.height = image.naturalHeight;
    }
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    canvas.dataset.drawn = `${view.side}`;
    tellDrawn();
    if (!map) {
      if (view.side !== "photograph") fault(view, `no masks of cycle ${view.side}`);
      return;
    }
    context.imageSmoothingEnabled = false;
    context.drawImage(overlay(map, view), 0, 0, canvas.width, canvas.height);
    canvas.setAttribute("aria-label", `${view.photograph.name}, cycle ${view.side}: ${map.areas.size} regions`);
  }

  function fault(view, words) {
    if (view.fault) return;
    view.fault = words;
    view.canvas.setAttribute("aria-label", `${view.photograph.name}: ${words}`);
    view.figure.lastElementChild.append(" ", element("span", { class: "problem" }, words));
  }

  function overlay(map, view) {
    const layer = element("canvas", { width: map.width, height: map.height });
    const context = layer.getContext("2d");
    const pixels = context.createImageData(map.width, map.height);
    const here = pointed && pointed.cycle === view.side && pointed.group === view.photograph.group;
    for (let i = 0; i < map.labels.length; i += 1) {
      const label = map.labels[i];
      const dim = here && label !== pointed.label;
      const [red, green, blue] = dim ? [0, 0, 0] : palette[label];
      pixels.data.set([red, green, blue, 255 * (dim ? 1 - GREY : here ? Math.max(chosen.opacity, 0.5) : chosen.opacity)], 4 * i);
    }
    context.putImageData(pixels, 0, 0);
    return layer;
  }

  function photograph(each) {
    if (!photographs.has(each.row)) photographs.set(each.row, loaded(each.picture));
    return photographs.get(each.row);
  }

  // Null for what the browser cannot read: its figure says so.
  async function loaded(url) {
    const image = new Image();
    image.src = url;
    return image.decode().then(() => image, () => null);
  }

  function labels(cycle, row) {
    const name = `${cycle} ${row}`;
    if (!decoded.has(name)) decoded.set(name, decode(cycle, row));
    return decoded.get(name);
  }

  async function decode(cycle, row) {
    const of = pictures.cycles.find((each) => each.cycle === cycle);
    const place = pictures.photographs.findIndex((each) => each.row === row);
    const url = of && of.labels[place];
    if (!url) return null;
    const image = await loaded(url);
    if (!image) return null;
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    const context = element("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const rgba = context.getImageData(0, 0, width, height).data;
    const found = new Uint8Array(width * height);
    const areas = new Map();
    for (let i = 0; i < found.length; i += 1) {
      found[i] = rgba[4 * i];
      areas.set(found[i], (areas.get(found[i]) || 0) + 1);
    }
    return { width, height, labels: found, areas };
  }

  function start() {
    byId("masks-controls").addEventListener("submit", (event) => event.preventDefault());
    byId("beside").addEventListener("change", (event) => {
      const value = event.target.value;
      chosen.beside = value === "" ? null : value === "photograph" ? value : Number(value);
      drawGrid();
    });
    byId("opacity").addEventListener("input", (event) => {
      chosen.opacity = event.target.value / 100;
      byId("opacity-shown").textContent = `${event.target.value} %`;
      views.filter((view) => visible.has(view.figure)).forEach(draw);
    });
    byId("find").addEventListener("input", () => {
      for (const label of byId("photograph-choice").children) label.hidden = !isFound(label.dataset.name);
    });
    for (const [id, checked] of [["all", true], ["none", false]]) {
      byId(id).addEventListener("click", () => {
        for (const label of byId("photograph-choice").children) {
          if (label.hidden) continue;
          label.firstElementChild.checked = checked;
          choose(label.firstElementChild);
        }
        drawGrid();
      });
    }
  }

  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === false) continue;
      made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  }

  // Only what differs is replaced: a reader keeps focus and selection in the rest.
  function refill(parent, ...children) {
    const fresh = [...element("div", {}, ...children).childNodes];
    fresh.forEach((child, place) => {
      const old = parent.childNodes[place];
      if (!old) parent.append(child);
      else if (old.isEqualNode(child)) return;
      else if (child.children?.length && old.cloneNode(false).isEqualNode(child.cloneNode(false))) refill(old, ...child.childNodes);
      else {
        const focused = old.contains(document.activeElement);
        old.replaceWith(child);
        if (focused) (child.querySelector?.("a, input") || child).focus?.();
      }
    });
    while (parent.childNodes.length > fresh.length) parent.lastChild.remove();
  }

  return { show, start, element, refill, drawn };
})();
