// One trace, with the problem's others beside it, of this run and of the others.
import { get, post } from "/static/api.js";
import { count, el, put, tag, terms } from "/static/dom.js";

const MARKS = {
  answer: "what the verdict rests on", loop: "said over and over", repeat: "came before", found: "what the step found",
};

/** A text in pieces, with marks. */
export function pieces(parts) {
  return el("pre", { tabindex: 0 }, parts.map((part) => {
    if (typeof part === "string") return part;
    const [kind, text] = part;
    if (kind === "cut") return el("span", { class: "cut" }, `\n… ${text} characters are left out …\n`);
    return Object.hasOwn(MARKS, kind) ? el("mark", { class: kind, title: MARKS[kind] }, text) : text;
  }));
}

function loopSaid(loop) {
  return loop ? `its end says the same ${loop.times} times, ${count(loop.characters)} characters` : "";
}

/** All that is known of a trace, as an article. */
export function article(trace, heading, further = []) {
  const { verdict, drop } = trace;
  const kept = drop === null;
  const opinions = Object.entries(trace.opinions).map(([by, said]) => `${by}: ${said}`).join("\n");
  const cut = [...trace.reasoning, ...trace.answer].some((part) => Array.isArray(part) && part[0] === "cut");
  return el("article", { class: "card" },
    el("h2", {}, heading), further,
    terms([
      ["result", kept ? "not dropped" : `dropped by ${drop.step}: ${drop.reason}`, kept ? "good" : "bad"],
      ["why", drop?.detail], ["passed before", trace.passed.join(", ")],
      ["verdict", verdict ? `${verdict.outcome} by ${verdict.verifier}` : "none: it has no answer"],
      ["read as", verdict?.extracted], ["because", verdict?.detail], ["opinions", opinions],
      ["decided", trace.decision ? `${trace.decision.verdict}${trace.decision.note ? `: ${trace.decision.note}` : ""}${trace.decision.taken ? "" : " (the filter has not taken it yet)"}` : ""],
      ["tokens", `${count(trace.tokens)}, finish ${trace.finish}`], ["error", trace.error],
      ["loop", loopSaid(trace.loops.reasoning ?? trace.loops.answer)],
      ["teacher", trace.teacher], ["id", trace.id],
    ]),
    el("h3", {}, "Reasoning"), trace.reasoning.length ? pieces(trace.reasoning) : el("p", { class: "soft" }, "none"),
    el("h3", {}, "Answer"), trace.answer.length ? pieces(trace.answer) : el("p", { class: "soft" }, "none"),
    cut ? el("p", { class: "soft" }, "Parts of a long text are left out.") : null);
}

/** Buttons that decide of a trace. `decided` is called with what was decided; `keyed` names the page's keys. */
export function decision(run, trace, context, decided, keyed = false) {
  const note = el("input", { type: "text", maxlength: 2000, value: trace.decision?.note ?? "" });
  const buttons = [["correct", "Right", "1"], ["incorrect", "Wrong", "2"], ["undecided", "Undecided", "0"]].map(
    ([verdict, text, key]) => el("button", {
      type: "button", "data-verdict": verdict, "aria-keyshortcuts": keyed ? key : null,
      "aria-pressed": String(verdict === trace.decision?.verdict), click: () => send(verdict),
    }, text, keyed ? [" ", el("kbd", {}, key)] : null));
  async function send(verdict) {
    try {
      await post(`runs/${run}/decisions`, { trace_id: trace.id, verdict, note: note.value });
      context.fine();
      for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
      await decided(verdict);
    } catch (error) {
      context.tell(error);
    }
  }
  const box = el("div", { class: "decision" }, buttons, el("label", {}, "Note (optional)", note));
  return { box, send };
}

/** Whether a key is meant for the page and not for a field. */
export function isKey(event) {
  return !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest("input, select, textarea");
}

/** What is asked, above its traces. */
export function question(problem) {
  return el("section", { class: "card" },
    el("h2", {}, "Problem"), terms([["task", problem.task], ["kind", problem.kind], ["reference", problem.reference]]),
    el("h3", {}, "Prompt"), pieces([problem.prompt]));
}

/** Of a problem's traces in all runs the one to be seen beside a trace: of the same run one that fared
 *  otherwise, else the first of another run. */
function partner(others, run, id) {
  const own = others[run].find((one) => one.id === id);
  const other = others[run].find((one) => one.id !== id && (one.reason === "kept") !== (own?.reason === "kept"));
  if (other) return [run, other.id];
  for (const [number, traces] of others.entries()) {
    if (number !== run && traces.length) return [number, traces[0].id];
  }
  const next = others[run].find((one) => one.id !== id);
  return next ? [run, next.id] : null;
}

export async function tracePage(main, context) {
  const { run, id, runs, signal, address, values } = context;
  const whole = values.whole === "1" ? { whole: "true" } : {};
  const trace = await get(`runs/${run}/traces/${encodeURIComponent(id)}`, whole, signal);
  const beside = el("div", { class: "beside" });
  const tables = trace.others.map((traces, number) => traces.length ? list(number, traces) : null);
  const named = (number, sample) => `${runs.length > 1 ? `${runs[number].name}, ` : ""}sample ${sample}`;
  const reload = () => tracePage(main, context);
  const { box } = decision(run, trace, context, reload);
  const cut = [...trace.reasoning, ...trace.answer].some((part) => Array.isArray(part) && part[0] === "cut");
  put(main,
    el("h1", {}, "Trace"), question(trace.problem),
    el("h2", {}, "The problem's traces"), tables,
    cut ? el("p", {}, el("a", { href: address(run, "trace", id, { whole: 1 }) }, "Show the whole text")) : null,
    el("div", { class: "pair" }, article(trace, named(run, trace.sample), [box]), beside));

  function list(number, traces) {
    return el("div", { class: "scroll others", tabindex: 0, role: "region", "aria-label": `Traces of ${runs[number].name}` },
      el("table", { class: "list" },
        el("caption", { class: runs.length > 1 ? "soft" : "vh" }, runs[number].name),
        el("thead", {}, el("tr", {}, ["Sample", "Tokens", "Verdict", "Read as", "What became of it", "Beside"].map(
          (text) => el("th", { scope: "col" }, text)))),
        el("tbody", {}, traces.map((one) => el("tr", { "aria-current": number === run && one.id === id ? "true" : null },
          el("td", {}, el("a", { href: address(number, "trace", one.id) }, `sample ${one.sample}`)),
          el("td", {}, count(one.tokens)), el("td", {}, one.outcome === "none" ? "" : one.outcome),
          el("td", { class: "answer" }, one.extracted ?? ""), el("td", {}, tag(one.reason)),
          el("td", {}, el("button", { type: "button", "aria-label": `Show sample ${one.sample} of ${runs[number].name} beside`, click: () => show(number, one.id) }, "Beside")))))));
  }

  async function show(number, other) {
    try {
      const found = await get(`runs/${number}/traces/${encodeURIComponent(other)}`, whole, signal);
      put(beside, article(found, `Beside: ${named(number, found.sample)}`));
    } catch (error) {
      context.tell(error);
    }
  }

  const found = partner(trace.others, run, id);
  if (found) await show(...found);
}
