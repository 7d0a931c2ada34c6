// The table of a run's traces, filtered, searched and sorted.
import { get } from "/static/api.js";
import { count, el, put, share, tag } from "/static/dom.js";

const EACH = 50;
const SORTS = [
  ["place", "as sampled"], ["problem", "problem"], ["shortest", "shortest first"], ["longest", "longest first"],
  ["hardest", "lowest pass rate first"], ["easiest", "highest pass rate first"],
];
const FACETS = [
  ["reason", "What became of it"], ["step", "Dropped by step"], ["outcome", "Verdict"], ["task", "Task"],
  ["finish", "Finish"],
];
const AGAIN = 1000; // milliseconds until an index that is being built is asked again

export async function tracesPage(main, context) {
  const { run, values, address } = context;
  const status = el("p", { class: "soft", role: "status", id: "count" });
  const indexed = el("p", { class: "soft", id: "indexed" });
  const body = el("tbody");
  const previous = el("button", { type: "button", id: "previous", click: () => turn(-EACH) }, "Previous");
  const next = el("button", { type: "button", id: "next", click: () => turn(EACH) }, "Next");
  const selects = {};
  let offset = Math.max(0, Number(values.offset) || 0);
  let latest = new AbortController();
  let timer = 0;
  context.signal.addEventListener("abort", () => { clearTimeout(timer); latest.abort(); });

  const labelled = (text, input, wide = false) => el("label", { class: wide ? "wide" : null }, text, input);
  const changed = () => { offset = 0; look(); };
  const search = el("input", { type: "search", id: "f-q", value: values.q ?? "", maxlength: 1000,
    placeholder: "words, \"words in a row\", begin*", input: later });
  const number = (name) => el("input", { type: "number", min: 0, id: `f-${name}`, value: values[name] ?? "", input: later });
  const least = number("least");
  const most = number("most");
  const sort = el("select", { id: "f-sort", change: changed },
    SORTS.map(([value, text]) => el("option", { value }, text)));
  sort.value = values.sort ?? "place";
  const filters = el("form", { class: "filters", submit: (event) => { event.preventDefault(); changed(); } },
    labelled("Words in prompts, reasoning and answers", search, true));
  for (const [name, text] of FACETS) {
    const given = values[name] ?? ""; // the others are known once there is an index
    selects[name] = el("select", { id: `f-${name}`, change: changed }, el("option", { value: "" }, "any"),
      given ? el("option", { value: given, selected: true }, given) : null);
    filters.append(labelled(text, selects[name]));
  }
  filters.append(labelled("Tokens, at least", least), labelled("Tokens, at most", most), labelled("Sorted by", sort));
  filters.append(el("button", { type: "button", id: "clear", click: clear }, "Clear"));
  put(main,
    el("h1", {}, "Traces"), filters, indexed,
    el("div", { class: "bar" }, status, previous, next),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Traces" }, el("table", { class: "list", id: "table" },
      el("thead", {}, el("tr", {},
        el("th", { scope: "col" }, "Problem"), el("th", { scope: "col", class: "wide" }, "Task"),
        el("th", { scope: "col", class: "number wide" }, "Sample"), el("th", { scope: "col", class: "number" }, "Tokens"),
        el("th", { scope: "col", class: "wide" }, "Finish"), el("th", { scope: "col", class: "wide" }, "Verdict"),
        el("th", { scope: "col", class: "wide" }, "Read as"), el("th", { scope: "col", class: "number wide" }, "Pass rate"),
        el("th", { scope: "col" }, "What became of it"))),
      body)));

  function asked() {
    const wanted = { q: search.value, least: least.value, most: most.value, sort: sort.value === "place" ? "" : sort.value };
    for (const [name] of FACETS) wanted[name] = selects[name].value;
    return wanted;
  }

  function later() {
    clearTimeout(timer);
    timer = setTimeout(changed, 200);
  }

  function clear() {
    for (const input of [search, least, most, ...Object.values(selects)]) input.value = "";
    sort.value = "place";
    changed();
  }

  function turn(by) {
    offset = Math.max(0, offset + by);
    look();
  }

  async function look() {
    clearTimeout(timer);
    latest.abort();
    latest = new AbortController();
    const wanted = asked();
    history.replaceState(null, "", address(run, "traces", "", { ...wanted, offset: offset || "" }));
    try {
      const found = await get(`runs/${run}/traces`, { ...wanted, offset, limit: EACH }, latest.signal);
      context.fine();
      draw(found);
    } catch (error) {
      context.tell(error);
    }
  }

  function draw(found) {
    const rows = found.rows;
    previous.disabled = offset === 0;
    next.disabled = offset + rows.length >= found.total;
    const searching = found.searched !== undefined && found.searched < found.traces;
    if (found.state === "no traces") status.textContent = "No traces yet: the stage generate is not complete. Progress shows how far it is.";
    else if (rows.length) status.textContent = `${count(offset + 1)} to ${count(offset + rows.length)} of ${count(found.total)} traces`;
    else status.textContent = found.state === "indexing" ? "…" : "No trace fits.";
    indexed.textContent = found.failed ? `The index can't be built: ${found.failed}`
      : found.state === "indexing" ? "The index is being built; filters work in a moment."
      : searching ? `Searched ${count(found.searched)} of ${count(found.traces)} traces so far; the rest is being read.` : "";
    indexed.hidden = !indexed.textContent;
    put(body, rows.map((row) => el("tr", {},
      el("td", { class: "title" }, el("a", { href: address(run, "trace", row.id) }, row.title || row.problem || row.id)),
      el("td", { class: "wide" }, row.task ?? ""), el("td", { class: "number wide" }, row.sample),
      el("td", { class: "number" }, count(row.tokens)), el("td", { class: "wide" }, row.finish),
      el("td", { class: "wide" }, row.outcome === "none" ? "" : row.outcome), el("td", { class: "wide answer" }, row.extracted ?? ""),
      el("td", { class: "number wide" }, share(row.pass_rate)),
      el("td", {}, tag(row.reason), el("span", { class: "soft wide" }, row.step)))));
    const waits = found.state === "indexing" || searching || found.state === "no traces";
    if (waits && !found.failed && !context.signal.aborted) timer = setTimeout(again, AGAIN);
    if (found.state === "ready" && !filled) fill().catch(context.tell);
  }

  async function again() {
    if (!context.signal.aborted) await look();
  }

  let filled = false;
  async function fill() {
    filled = true;
    const found = await get(`runs/${run}/facets`, {}, context.signal);
    for (const [name] of FACETS) {
      const kept = selects[name].value;
      put(selects[name], el("option", { value: "" }, "any"),
        (found[name] ?? []).map(([value, traces]) => el("option", { value }, `${value} (${count(traces)})`)));
      selects[name].value = kept;
      if (selects[name].value !== kept) { // no trace has it
        selects[name].append(el("option", { value: kept }, kept));
        selects[name].value = kept;
      }
    }
  }

  await look();
}
