// The traces of the page: filters, a list of them, and what became of the one that is open.
// Whatever a trace says is put into the page as text, never as markup.
"use strict";
(() => {
  const source = document.getElementById("data");
  if (!source) return;
  const PAGE = 50;
  const KINDS = {
    answer: "the answer that was judged",
    loop: "said over and over until the end",
    repeat: "said before",
    found: "what the step that dropped it found",
  };
  const SORTS = {
    "": (a, b) => a.row - b.row,
    longest: (a, b) => b.tokens - a.tokens || a.row - b.row,
    shortest: (a, b) => a.tokens - b.tokens || a.row - b.row,
    loop: (a, b) => b.loop - a.loop || a.row - b.row,
    problem: (a, b) => a.problem - b.problem || a.sample - b.sample,
    hardest: (a, b) => (a.of.rate ?? 2) - (b.of.rate ?? 2) || a.problem - b.problem,
  };
  const KEYS = ["q", "reason", "outcome", "step", "task", "finish", "only", "min", "max", "rate", "sort"];
  const $ = (id) => document.getElementById(id);
  const spaced = (text) => text.replaceAll("_", " ");
  const number = (value) => value.toLocaleString("en");
  let problems, rows, found = [], state = {}, open = null, beside = null, page = 0;

  function make(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  function read() {
    const data = JSON.parse(source.textContent);
    const shared = new Set(data.shared);
    problems = data.problems.map(([task, prompt, reference, rate]) =>
      ({ task, prompt, reference, rate, rows: [] }));
    rows = data.rows.map((values, row) => {
      const one = { row };
      data.columns.forEach((name, at) => {
        one[name] = shared.has(name) ? data.strings[values[at]] : values[at];
      });
      one.of = problems[one.problem];
      one.of.rows.push(one);
      return one;
    });
    for (const one of problems) {
      one.both = one.rows.some(kept) && !one.rows.every(kept);
    }
  }

  const kept = (one) => one.reason === "kept";
  const plain = (pieces) => pieces.map((piece) => (typeof piece === "string" ? piece : piece[1])).join("");
  const text = (one) => (one.text ??= [one.id, plain(one.of.prompt), plain(one.reasoning), plain(one.answer),
    one.dropped, one.error].join("\n").toLowerCase());
  function title(one) { // prompts of one template differ at their ends
    const line = plain(one.of.prompt).replace(/\s+/g, " ").trim();
    return line.length > 110 ? `${line.slice(0, 45)} … ${line.slice(-60)}` : line;
  }

  // Filters.
  function options() {
    const count = (of) => {
      const counts = new Map();
      for (const one of rows) if (of(one)) counts.set(of(one), (counts.get(of(one)) ?? 0) + 1);
      return [...counts].sort((a, b) => b[1] - a[1]);
    };
    const fill = (name, of) => {
      for (const [value, n] of count(of)) {
        $(`f-${name}`).append(make("option", { value }, `${spaced(value)} (${number(n)})`));
      }
    };
    for (const point of document.querySelectorAll("svg [data-row]")) {
      const one = rows[Number(point.dataset.row)];
      point.dataset.tip = `${spaced(one.reason)}, ${number(one.tokens)} tokens, pass rate ${Math.round(one.of.rate * 100)}%: open it`;
    }
    fill("reason", (one) => (kept(one) ? "" : one.reason));
    fill("outcome", (one) => one.outcome);
    fill("step", (one) => one.step);
    fill("task", (one) => one.of.task);
    fill("finish", (one) => one.finish);
    for (const [id, is] of [["only-disputed", (one) => one.disputed], ["only-loop", (one) => one.loop]]) {
      if (!rows.some(is)) $(id).remove();
    }
    if (!rows.some((one) => one.loop)) $("quick-loop").remove();
  }

  function fits(one) {
    const { reason, q } = state;
    if (reason === "dropped" ? kept(one) : reason && one.reason !== reason) return false;
    for (const name of ["outcome", "step", "finish"]) if (state[name] && one[name] !== state[name]) return false;
    if (state.task && one.of.task !== state.task) return false;
    if (state.min && one.tokens < Number(state.min)) return false;
    if (state.max && one.tokens > Number(state.max)) return false;
    if (state.rate && !inside(one.of.rate)) return false;
    if (state.only === "both" && !one.of.both) return false;
    if (state.only === "disputed" && !one.disputed) return false;
    if (state.only === "loop" && !one.loop) return false;
    return !q || text(one).includes(q.toLowerCase());
  }

  function inside(rate) { // a tenth, or one rate
    const [low, high] = state.rate.split("-").map(Number);
    if (rate === null) return false;
    return low === high ? Math.abs(rate - low) < 1e-4 : rate >= low && (rate < high || high === 1);
  }

  function sift(first) {
    found = rows.filter(fits).sort(SORTS[state.sort] ?? SORTS[""]);
    page = 0;
    const target = first ? found[0] : found.includes(open) ? open : found[0];
    show(target ?? null);
  }

  function list() {
    const part = found.slice(page * PAGE, (page + 1) * PAGE);
    $("list").replaceChildren(...part.map((one) =>
      make("div", { role: "option", id: `t-${one.row}`, "aria-selected": String(one === open) },
        tag(one), make("span", { class: "title" }, title(one)),
        make("span", { class: "soft" }, `${number(one.tokens)} tokens`))));
    if (open) $("list").setAttribute("aria-activedescendant", `t-${open.row}`);
    else $("list").removeAttribute("aria-activedescendant");
    const from = page * PAGE;
    $("count").textContent = found.length
      ? `${number(from + 1)} to ${number(from + part.length)} of ${number(found.length)} traces`
      : "No trace here fits these filters.";
    $("before").disabled = page === 0;
    $("next").disabled = from + PAGE >= found.length;
  }

  function show(one, near = null) {
    open = one;
    const place = found.indexOf(one);
    if (place >= 0) page = Math.floor(place / PAGE);
    beside = near ?? (one && one.of.rows.find((other) => kept(other) !== kept(one))) ?? null;
    list();
    const option = $(`t-${one?.row}`); // only the list is moved, not the page
    if (option) {
      const above = option.offsetTop - $("list").offsetTop, below = above + option.offsetHeight;
      if (above < $("list").scrollTop) $("list").scrollTop = above;
      if (below > $("list").scrollTop + $("list").clientHeight) $("list").scrollTop = below - $("list").clientHeight;
    }
    $("open").replaceChildren(...(one ? [article(one, false)] : []), ...(beside ? [article(beside, true)] : []));
    remember();
  }

  function remember() {
    const values = KEYS.filter((name) => state[name]).map((name) => [name, state[name]]);
    if (open) values.push(["trace", open.id]);
    if (beside) values.push(["beside", beside.id]);
    const hash = `#${new URLSearchParams(values)}`;
    $("link").href = hash;
    if (ready) history.replaceState(null, "", hash);
  }

  // One trace.
  const tag = (one) => make("span", { class: kept(one) ? "tag kept" : "tag" }, spaced(one.reason));

  function marked(pieces) {
    return pieces.map((piece) => {
      if (typeof piece === "string") return piece;
      const [kind, said] = piece;
      if (kind === "cut") return make("span", { class: "cut" }, ` … ${said} characters are left out here … `);
      return make("mark", { class: kind, title: KINDS[kind] }, make("span", { class: "vh" }, `${KINDS[kind]}: `), said);
    });
  }

  function article(one, second) {
    const others = one.of.rows.filter((other) => other !== one);
    const fate = make("dl", {}, ...line("verdict", one.verdict + one.judged));
    if (one.passed.length) fate.append(...line("passed", one.passed.join(", ")));
    if (one.dropped) fate.append(...line(one.step, one.dropped, "bad"));
    if (one.disputed) fate.append(...line("disputed", one.disputed, "bad"));
    fate.append(...line("student", one.student));
    const facts = make("dl", {}, ...line("trace", one.id), ...line("task", one.of.task),
      ...line("teacher", `${one.teacher}, sample ${one.sample}`),
      ...line("length", `${number(one.tokens)} tokens, finish ${one.finish}${one.error ? `: ${one.error}` : ""}`));
    if (one.loop) facts.append(...line("loop", `its end is said ${one.times} times, over ${number(one.loop)} characters`));
    if (one.of.rate !== null) facts.append(...line("pass rate", `${Math.round(one.of.rate * 100)}% of this problem's samples`));
    const near = others.map((other) => {
      const button = make("button", { type: "button" }, tag(other), `sample ${other.sample}, ${number(other.tokens)} tokens`);
      button.addEventListener("click", () => show(open, other));
      return button;
    });
    return make("article", { class: "card", "aria-label": second ? "Another trace of the same problem" : "The open trace" },
      make("h3", {}, tag(one), second ? "Beside it: the same problem" : title(one)),
      make("h4", {}, "what became of it"), fate,
      ...(second ? [] : [make("h4", {}, "problem"), make("pre", {}, ...marked(one.of.prompt)),
        make("h4", {}, "reference"), make("pre", {}, one.of.reference || "(empty)")]),
      make("h4", {}, "reasoning"), make("pre", {}, ...(one.reasoning.length ? marked(one.reasoning) : ["(none)"])),
      make("h4", {}, "answer"), make("pre", {}, ...(one.answer.length ? marked(one.answer) : ["(none)"])),
      make("h4", {}, "facts"), facts,
      !second && near.length ? make("h4", {}, "other traces of this problem, to set beside it") : null,
      !second && near.length ? make("div", { class: "bar" }, ...near) : null);
  }

  function line(name, said, kind = "") {
    return [make("dt", {}, name), make("dd", kind ? { class: kind } : {}, said)];
  }

  // From the address, the filters, the plots and the keyboard.
  function apply(values, first) {
    state = Object.fromEntries(KEYS.map((name) => [name, values.get(name) ?? ""]));
    for (const name of KEYS) if ($(`f-${name}`)) $(`f-${name}`).value = state[name];
    $("rate").hidden = !state.rate;
    $("rate").textContent = `Pass rate ${[...new Set(state.rate.split("-"))].map((end) => `${Math.round(end * 100)}%`).join(" to ")} ✕`;
    sift(first);
  }

  function move(by) {
    const place = found.indexOf(open) + by;
    if (place >= 0 && place < found.length) show(found[place]);
  }

  function fromAddress() {
    const values = new URLSearchParams(location.hash.slice(1));
    const [one, near] = ["trace", "beside"].map((name) => rows.find((row) => row.id === values.get(name)));
    if (!location.hash.includes("=")) return apply(new URLSearchParams(), true);
    apply(values, true);
    if (one) show(one, near);
    $("traces").scrollIntoView();
  }

  function toTraces() { $("traces").scrollIntoView(); }

  function listen() {
    for (const name of KEYS) {
      $(`f-${name}`)?.addEventListener("input", (event) => { state[name] = event.target.value.trim(); sift(false); });
    }
    $("clear").addEventListener("click", () => apply(new URLSearchParams(), true));
    $("rate").addEventListener("click", () => { state.rate = ""; $("rate").hidden = true; sift(false); });
    $("before").addEventListener("click", () => show(found[(page - 1) * PAGE]));
    $("next").addEventListener("click", () => show(found[(page + 1) * PAGE]));
    $("list").addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) show(rows[Number(option.id.slice(2))]);
    });
    $("link").addEventListener("click", async (event) => {
      event.preventDefault();
      await navigator.clipboard?.writeText($("link").href).catch(() => undefined);
      $("said").textContent = "It is in the address bar and, where the browser allows it, copied.";
    });
    document.addEventListener("browse", ({ detail }) => {
      if (detail.row) { apply(new URLSearchParams(), true); show(rows[Number(detail.row)]); }
      else apply(new URLSearchParams(detail.filter ?? detail.quick), true);
      toTraces();
    });
    addEventListener("hashchange", fromAddress);
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const typing = event.target.matches("input, select, textarea");
      if (event.key === "Escape" && typing) return event.target.blur();
      if (typing) return;
      const by = { j: 1, k: -1 }[event.key] ?? (event.target === $("list") ? { ArrowDown: 1, ArrowUp: -1 }[event.key] : undefined);
      if (by) { event.preventDefault(); move(by); }
      if (event.key === "/") { event.preventDefault(); toTraces(); $("f-q").focus(); }
    });
  }

  let ready = false;
  function begin() {
    read();
    options();
    listen();
    fromAddress();
    ready = true;
    document.body.dataset.ready = "yes";
  }
  requestAnimationFrame(() => setTimeout(begin)); // once the page is painted
})();
