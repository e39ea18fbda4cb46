"use strict";

// The page from its data; where a server stands behind it, again from news.
(() => {
  const { element, refill } = Masks;
  const POLL_MILLISECONDS = 2000;
  const LONGEST_MILLISECONDS = 60000; // for an answer
  const byId = (id) => document.getElementById(id);

  function span(seconds) {
    if (seconds < 90) return `${seconds.toFixed(1)} s`;
    return seconds < 5400 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
  }

  function number(value) {
    return typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value);
  }

  function table(id, caption, header, rows) {
    const cells = (kind, row) => row.map((cell) => element(kind, kind === "th" ? { scope: "col" } : {}, ...[cell].flat()));
    refill(
      byId(id),
      element("caption", {}, caption),
      element("thead", {}, element("tr", {}, ...cells("th", header))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...cells("td", row)))),
    );
  }

  // A part of the page with its link.
  function present(id, is) {
    byId(id).hidden = !is;
    document.querySelector(`nav a[href="#${id}"]`).hidden = !is;
  }

  function say(id, text) {
    if (byId(id).textContent !== text) byId(id).textContent = text;
  }

  function about(data) {
    const { run } = data;
    say("name", run.place);
    refill(
      byId("about"),
      element("code", {}, run.url),
      ` · config ${run.name} · ${run.photographs.toLocaleString("en")} photographs · ${run.network}, ${run.epochs} epochs, seed ${run.seed} · created ${run.created}`,
    );
    const done = data.stages.filter((stage) => stage.state === "done").length;
    const running = data.stages.filter((stage) => stage.state === "running");
    const paused = data.stages.filter((stage) => stage.state === "paused");
    say("state", [
      `${done} of ${data.stages.length} stages done`,
      ...running.map((stage) => `${stage.name} runs`), ...paused.map((stage) => `${stage.name} is paused`),
    ].join("; "));
    // Apart, since the line above is read aloud whenever it changes.
    say("progress", running.map((stage) => stage.progress).filter(Boolean).join("; "));
  }

  function warnings(data) {
    byId("warnings").hidden = !data.warnings.length;
    refill(byId("warnings").querySelector("ul"), ...data.warnings.map((each) => element("li", {}, `${each.stage}: ${each.text}`)));
  }

  function stages(data) {
    table("stage-table", "In the order in which they run; of one that was stopped and went on, the time of its last attempt", ["stage", "state", "took", "ended", "where", "figures"], data.stages.map((stage) => [
      stage.name,
      element("span", { class: stage.problem ? "problem" : stage.state }, stage.problem ? "damaged" : stage.state),
      stage.seconds === undefined ? "" : span(stage.seconds),
      stage.finished || "",
      stage.where || "",
      stage.problem || (stage.share !== undefined
        ? [element("progress", { max: 1, value: stage.share, "aria-label": `${stage.name}` }), ` ${stage.progress}`]
        : Object.entries(stage.figures || {}).map(([name, value]) => `${name.replaceAll("_", " ")} ${number(value)}`).join(", ")),
    ]));
  }

  function health(data) {
    const { figures, cycles } = data.health;
    present("health", figures.length);
    table("health-table", "One column a cycle", ["", ...cycles.map((row) => `cycle ${row.cycle}`)], [
      ...figures.map(({ name, title, note }) => [
        element("span", { title: note }, title),
        ...cycles.map((row) => (name in row.figures ? number(row.figures[name]) : "–")),
      ]),
      ...(cycles.some((row) => "kept_from" in row)
        ? [["Kept by masks.keep_if_worse", ...cycles.map((row) => ("kept_from" in row ? `those of cycle ${row.kept_from}` : ""))]]
        : []),
    ]);
    Charts.show("health-charts", cycles.length < 2 ? [] : figures.map(({ name, title, note }) => {
      const rows = cycles.filter((row) => name in row.figures);
      return { title, note, x: "cycle", marks: [], lines: [{ name: title, x: rows.map((row) => row.cycle), y: rows.map((row) => row.figures[name]) }] };
    }));
  }

  function lineage(data) {
    refill(byId("lineage-list"), ...data.lineage.map((each) => element(
      "li", { id: `made-${each.name.replaceAll(" ", "-")}` },
      element("strong", {}, each.name), " ", element("code", {}, each.digest.slice(0, 16)),
      ...(each.from.length ? [" from ", ...each.from.flatMap((name, place) => [
        place ? ", " : "", element("a", { href: `#made-${name.replaceAll(" ", "-")}` }, name),
      ])] : []),
      element("br", {}), element("code", {}, each.place), each.code ? ` by cyborgs ${each.code}` : "",
    )));
  }

  function config(data) {
    table("difference-table", `${data.differences.length} of them`, ["setting", "here", "paper"], data.differences.map((each) => [
      element("code", {}, each.setting), each.here, each.paper,
    ]));
    say("config-text", data.config);
  }

  function show(data) {
    about(data);
    warnings(data);
    stages(data);
    health(data);
    present("evaluations", data.evaluations.length);
    Charts.show("evaluation-charts", data.evaluations);
    present("curves", data.curves.length);
    Charts.show("training-charts", data.curves);
    lineage(data);
    config(data);
    present("masks", data.run.masks !== false); // some methods have none
    if (data.pictures) Masks.show(data);
    document.documentElement.dataset.fingerprint = data.fingerprint;
  }

  // News, or null where there is none.
  async function ask(version, fingerprint) {
    const answer = await fetch(`data.json?version=${version}&pictures=${fingerprint}`, {
      cache: "no-store", signal: AbortSignal.timeout(LONGEST_MILLISECONDS),
    }).catch(() => { throw new Error("No answer from `cyborgs watch`"); });
    if (!answer.ok) throw new Error(`\`cyborgs watch\` says: ${await reason(answer)}`);
    return answer.status === 204 ? null : { version: answer.headers.get("ETag") || "", data: await answer.json() };
  }

  // Why there is none: the last line of the server's page, or all that it says.
  async function reason(answer) {
    const text = await answer.text();
    const isPage = (answer.headers.get("Content-Type") || "").startsWith("text/html");
    const lines = isPage ? [...new DOMParser().parseFromString(text, "text/html").querySelectorAll("p")].map((line) => line.textContent) : [text];
    return (lines.pop() || "").replace(/^Error code explanation: (\S+ - )?/, "").trim().replace(/\.$/, "") || answer.statusText;
  }

  async function follow(data) {
    let [version, fingerprint] = ["", data.fingerprint];
    for (;;) {
      await new Promise((resolve) => { setTimeout(resolve, POLL_MILLISECONDS); });
      try {
        const news = await ask(version, fingerprint);
        if (news) {
          show(news.data);
          [version, fingerprint] = [news.version, news.data.fingerprint];
        }
        say("fault", "");
      } catch (error) {
        version = "";
        say("fault", `${error.message}: what stands here is what it said last.`);
      }
    }
  }

  const data = JSON.parse(byId("data").textContent);
  Masks.start();
  Charts.start();
  show(data);
  if (document.body.hasAttribute("data-live")) follow(data);
})();
