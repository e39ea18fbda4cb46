"use strict";

// Charts by Plotly, in the page's colours, light or dark; each is drawn when it comes near the screen. Plotly takes a
// second to start: it does so once a photograph stands there, or somebody comes to a chart.
const Charts = (() => {
  const COLOURS = ["#2f7fd0", "#d9822b", "#2f9e62", "#b05cc6", "#c8404a", "#1fa3a8", "#8a7a2e", "#7a86e0"];
  const PATIENCE_MILLISECONDS = 100; // for the other photographs on the screen
  const LONGEST_MILLISECONDS = 1000; // to wait for the first
  const FEW = 40; // points of a line, each of which gets a dot
  const FEW_TICKS = 8; // whole numbers, each of which gets a tick
  const SHORT = 5; // points between two gaps; shorter pieces are joined
  const OPTIONS = { displayModeBar: false, responsive: true };
  const drawn = new Map(); // place -> charts of it
  const waiting = new Map(); // plot -> chart that it does not show yet
  const shown = new Map(); // plot -> JSON of the chart that it shows
  const near = new Set();
  let tellWanted = null;
  const wanted = new Promise((resolve) => { tellWanted = resolve; }); // the first plot near the screen

  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) near.add(target); else near.delete(target);
      if (isIntersecting) tellWanted();
      draw(target);
    }
  }, { rootMargin: "400px" });

  function draw(plot) {
    const chart = waiting.get(plot);
    if (!chart || !near.has(plot) || !window.Plotly) return;
    waiting.delete(plot);
    Plotly.react(plot, traces(chart), layout(chart), OPTIONS);
  }

  function layout(chart) {
    const style = getComputedStyle(document.documentElement);
    const [ink, line] = ["--ink", "--line"].map((name) => style.getPropertyValue(name).trim());
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line };
    return {
      margin: { l: 52, r: 12, t: 8, b: 42 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, size: 12 },
      xaxis: { ...axis, ...whole(chart), title: { text: chart.x, standoff: 6 }, zeroline: false },
      yaxis: { ...axis, ...around(chart), zeroline: false, automargin: true },
      showlegend: chart.lines.length > 1,
      legend: { orientation: "h", y: 1.16, font: { size: 11 } },
      hovermode: "x unified",
      hoverlabel: { bgcolor: style.getPropertyValue("--soft").trim(), font: { color: ink } },
      shapes: [
        ...chart.marks.map((x) => ({
          type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { color: ink, width: 1, dash: "dot" }, opacity: 0.5,
        })),
        ...levels(chart).map(({ value }) => ({
          type: "line", x0: 0, x1: 1, xref: "paper", y0: value, y1: value, line: { color: ink, width: 1, dash: "dash" }, opacity: 0.6,
        })),
      ],
      annotations: levels(chart).map(({ value, title }) => ({
        text: title, x: 1, xref: "paper", xanchor: "right", y: value, yanchor: "bottom", showarrow: false, font: { size: 11 },
      })),
    };
  }

  // Cycles, steps and epochs are whole; between a few of them Plotly would have halves.
  function whole(chart) {
    const places = chart.lines.flatMap((line) => line.x);
    return Math.max(...places) - Math.min(...places) <= FEW_TICKS ? { dtick: 1, tick0: 0, tickformat: "d" } : {};
  }

  // A figure that does not change stands in the middle: by itself Plotly shows it between 1 less and 1 more.
  function around(chart) {
    const known = chart.lines.flatMap((line) => line.y.filter((value) => value !== null));
    const value = known[0];
    if (!value || levels(chart).length || known.some((each) => each !== value)) return {};
    return { range: [value - Math.abs(value) / 2, value + Math.abs(value) / 2] };
  }

  // From where on a figure is bad.
  function levels(chart) {
    return chart.levels || [];
  }

  function traces(chart) {
    return chart.lines.map((line, number) => {
      const isKnown = (place) => line.y[place] !== null && line.y[place] !== undefined;
      const places = [...line.y.keys()].filter(isKnown);
      const begins = places.filter((place) => !isKnown(place - 1));
      // What is computed every few steps is one line; where it is computed over longer pieces, gaps stay gaps.
      const kept = places.length < SHORT * begins.length ? places : [...line.y.keys()];
      const alone = (at) => !isKnown(kept[at - 1]) && !isKnown(kept[at + 1]);
      const dots = kept.map((place, at) => (places.length < FEW || alone(at) ? 5 : 0));
      return {
        x: kept.map((place) => line.x[place]), y: kept.map((place) => line.y[place]),
        name: line.name, type: "scatter", connectgaps: false,
        mode: dots.some(Boolean) ? "lines+markers" : "lines",
        line: { color: COLOURS[number % COLOURS.length], width: 1.6 }, marker: { size: dots, opacity: 1 },
      };
    });
  }

  function summary(chart) {
    const ends = chart.lines.map((line) => {
      const known = line.y.filter((value) => value !== null);
      return known.length ? `${line.name}: ${known[0]} to ${known[known.length - 1]}` : "";
    });
    const limits = levels(chart).map(({ value, title }) => `${title} at ${value}`);
    return `${chart.title} over ${chart.x}. ${[...ends, ...limits].filter(Boolean).join("; ")}`;
  }

  function show(place, charts) {
    const parent = document.getElementById(place);
    const same = (drawn.get(place) || []).map((each) => each.title).join("\n") === charts.map((each) => each.title).join("\n");
    drawn.set(place, charts);
    if (!same) {
      for (const plot of parent.querySelectorAll(".plot")) {
        watcher.unobserve(plot);
        near.delete(plot);
        waiting.delete(plot);
        shown.delete(plot);
      }
      parent.replaceChildren(...charts.map((chart) => Masks.element(
        "div", { class: "chart" },
        Masks.element("h3", {}, chart.title),
        Masks.element("p", { class: "note" }, chart.note),
        Masks.element("div", { class: "plot", role: "img" }),
      )));
    }
    charts.forEach((chart, number) => {
      const plot = parent.children[number].querySelector(".plot");
      const text = JSON.stringify(chart);
      if (shown.get(plot) === text) return;
      shown.set(plot, text);
      plot.setAttribute("aria-label", summary(chart));
      waiting.set(plot, chart);
      watcher.observe(plot);
      draw(plot);
    });
  }

  function start() {
    const patience = new Promise((resolve) => { setTimeout(resolve, LONGEST_MILLISECONDS); });
    Promise.race([Masks.drawn, wanted, patience]).then(() => setTimeout(() => {
      document.body.append(Masks.element("script", {}, document.getElementById("charting").textContent));
      near.forEach(draw);
    }, PATIENCE_MILLISECONDS));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      shown.clear();
      for (const [place, charts] of drawn) show(place, charts);
    });
  }

  return { show, start };
})();
