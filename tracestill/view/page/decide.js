// The queue of what people should decide: j and k move, 1 is right, 2 is wrong, 0 takes it back.
import { get } from "/static/api.js";
import { count, el, put } from "/static/dom.js";
import { article, decision, isKey, question } from "/static/trace.js";

const EACH = 50;
const AGAIN = 1000;

export async function decidePage(main, context) {
  const { run, signal } = context;
  let rows = [];
  let total = 0;
  let offset = 0;
  let at = 0;
  let send = null;
  const status = el("p", { class: "soft", role: "status", id: "count" });
  const list = el("div", { class: "queue", role: "group", "aria-label": "What people should decide" });
  const opened = el("div", { id: "opened" });
  const previous = el("button", { type: "button", click: () => turn(-EACH) }, "Previous");
  const next = el("button", { type: "button", click: () => turn(EACH) }, "Next");
  put(main, el("h1", {}, "Decide"),
    el("p", {}, "Answers on which verifiers disagree or that the judge gave no verdict on, and the traces of problems whose own reference is not judged right. What you decide is kept in the run, and the filter takes it as the verdict when ", el("code", {}, "tracestill run"), " makes it again."),
    el("p", { class: "key" }, el("kbd", {}, "j"), " next, ", el("kbd", {}, "k"), " previous, ", el("kbd", {}, "1"), " right, ", el("kbd", {}, "2"), " wrong, ", el("kbd", {}, "0"), " undecided"),
    el("div", { class: "bar" }, status, previous, next), list, opened);

  async function look() {
    const found = await get(`runs/${run}/queue`, { offset, limit: EACH }, signal);
    ({ rows, total } = found);
    previous.disabled = offset === 0;
    next.disabled = offset + rows.length >= total;
    status.textContent = found.state === "indexing" ? "The index is being built…"
      : total ? `${count(offset + 1)} to ${count(offset + rows.length)} of ${count(total)}, ${count(found.decided)} decided` : "Nothing is left to people.";
    if (found.state === "indexing") {
      setTimeout(() => { if (!signal.aborted) look().then(() => rows.length && open(0)).catch(context.tell); }, AGAIN);
    }
    draw();
  }

  function draw() {
    put(list, rows.map((row, number) => el("button", {
      type: "button", "aria-current": number === at ? "true" : null, click: () => open(number),
    },
    el("span", { class: "title" }, row.title),
    el("span", { class: "soft" }, row.kind === "doubt" ? "reference in doubt" : "disputed"),
    el("span", {}, row.decision && row.decision !== "undecided" ? `decided ${row.decision}` : ""))));
    list.hidden = rows.length === 0;
  }

  async function open(number) {
    at = Math.min(Math.max(0, number), rows.length - 1);
    draw();
    send = null; // until the trace is there: a key must not decide of the one before it
    const wanted = rows[at];
    if (!wanted) return;
    list.children[at]?.scrollIntoView({ block: "nearest" });
    try {
      const trace = await get(`runs/${run}/traces/${encodeURIComponent(wanted.id)}`, {}, signal);
      if (rows[at] !== wanted) return; // another was opened meanwhile
      const own = decision(run, trace, context, async (verdict) => {
        const before = wanted.decision && wanted.decision !== "undecided";
        wanted.decision = verdict;
        draw();
        status.textContent = before ? "Changed." : verdict === "undecided" ? "Taken back." : `Decided ${verdict}.`;
        if (verdict !== "undecided" && rows[at] === wanted && at + 1 < rows.length) await open(at + 1);
      }, true);
      send = own.send;
      const others = trace.others[run].filter((one) => one.id !== trace.id);
      put(opened, el("div", { class: "pair" }, question(trace.problem),
        article(trace, `Sample ${trace.sample}`, [own.box,
          others.length ? el("p", { class: "soft" }, "Other samples: ", others.map((one) => `${one.extracted ?? "?"} (${one.outcome})`).join(", ")) : null,
          el("p", {}, el("a", { href: context.address(run, "trace", trace.id) }, "Beside the problem's other traces"))])));
      opened.dataset.trace = trace.id;
    } catch (error) {
      context.tell(error);
    }
  }

  async function turn(by) {
    offset = Math.max(0, offset + by);
    at = 0;
    try {
      await look();
      await open(0);
    } catch (error) {
      context.tell(error);
    }
  }

  async function decide(verdict) {
    const [own, row] = [send, rows[at]];
    if (!own) return;
    send = null; // a second key while the first is sent is meant for the next trace
    await own(verdict);
    if (rows[at] === row) send ??= own;
  }

  document.addEventListener("keydown", (event) => {
    if (!isKey(event)) return;
    if (event.key === "j") open(at + 1);
    else if (event.key === "k") open(at - 1);
    else if (event.key === "1") decide("correct");
    else if (event.key === "2") decide("incorrect");
    else if (event.key === "0") decide("undecided");
    else return;
    event.preventDefault();
  }, { signal });
  await look();
  if (rows.length) await open(0);
}
