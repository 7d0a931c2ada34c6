// Which page is shown: `#/RUN/PAGE?filters`, as in `#/0/traces?reason=kept`.
import { get } from "/static/api.js";
import { el, put } from "/static/dom.js";
import { decidePage } from "/static/decide.js";
import { livePage } from "/static/live.js";
import { tracePage } from "/static/trace.js";
import { tracesPage } from "/static/traces.js";

const pages = { live: livePage, traces: tracesPage, trace: tracePage, decide: decidePage };
const main = document.getElementById("main");
const wrong = document.getElementById("wrong");
const choice = document.getElementById("run");
let runs = [];
let leave = new AbortController();

function tell(error) {
  if (error.name === "AbortError") return;
  wrong.hidden = false;
  wrong.textContent = error.message;
}

/** The address of a page. */
export function address(run, page, id = "", values = {}) {
  const filled = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = new URLSearchParams(filled).toString();
  return `#/${run}/${page}${id ? `/${encodeURIComponent(id)}` : ""}${query ? `?${query}` : ""}`;
}

function place() {
  const [path, query = ""] = location.hash.slice(1).split("?");
  const [, run = "0", page = "traces", id = ""] = path.split("/");
  const number = Number(run);
  return {
    run: Number.isInteger(number) && number >= 0 && number < runs.length ? number : 0,
    page: Object.hasOwn(pages, page) ? page : "traces",
    id: decodeURIComponent(id),
    values: Object.fromEntries(new URLSearchParams(query)),
  };
}

async function show() {
  leave.abort();
  leave = new AbortController();
  const at = place();
  wrong.hidden = true;
  choice.value = String(at.run);
  for (const link of document.querySelectorAll("header nav a")) {
    const own = link.dataset.page;
    link.href = address(at.run, own);
    const here = own === at.page || (own === "traces" && at.page === "trace");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.body.removeAttribute("data-ready");
  const signal = leave.signal;
  const context = { ...at, runs, signal, tell, address, fine: () => { wrong.hidden = true; } };
  put(main, el("p", { class: "soft" }, "Loading…"));
  try {
    await pages[at.page](main, context);
  } catch (error) {
    tell(error);
  }
  if (!signal.aborted) document.body.setAttribute("data-ready", "");
}

async function begin() {
  // The token has been exchanged for a cookie: it need not stay in the address.
  if (location.search) history.replaceState(null, "", `/${location.hash}`);
  try {
    runs = await get("runs");
  } catch (error) {
    tell(error);
    return;
  }
  put(choice, runs.map((run) => el("option", { value: run.number }, run.name)));
  choice.addEventListener("change", () => {
    const at = place();
    location.hash = address(choice.value, at.page === "trace" ? "traces" : at.page);
  });
  window.addEventListener("hashchange", () => { main.focus(); show(); });
  show();
}

begin();
