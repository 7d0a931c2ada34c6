// How far a run is, asked every two seconds.
import { get } from "/static/api.js";
import { count, el, put, svg } from "/static/dom.js";

const EVERY = 2000;

function seconds(value) {
  if (value < 90) return `${Math.round(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return `${(value / 3600).toFixed(1)} h`;
}

function said(stage) {
  const parts = [];
  if (stage.said) parts.push(stage.said);
  if (stage.rows_out !== undefined) parts.push(`${count(stage.rows_in)} in, ${count(stage.rows_out)} out, ${seconds(stage.seconds)}`);
  if (stage.responses) parts.push(`${count(stage.responses)} responses`);
  if (stage.failed) parts.push(`${count(stage.failed)} failed`);
  if (stage.tokens) parts.push(`${count(stage.tokens)} tokens`);
  if (stage.cost) parts.push(`cost ${stage.cost.toFixed(2)}`);
  const step = stage.training;
  if (step && step.step !== undefined) {
    parts.push(`step ${count(step.step)}`);
    if (step.loss !== undefined) parts.push(`loss ${step.loss.toFixed(3)}`);
    if (step.tokens_per_second) parts.push(`${count(Math.round(step.tokens_per_second))} tokens/s`);
  }
  if (stage.idle !== undefined && stage.idle !== null) parts.push(`last written ${seconds(stage.idle)} ago`);
  return parts.join(", ");
}

function bar(stage) {
  if (!stage.total) return null;
  const value = Math.min(stage.done, stage.total);
  const text = `${count(Math.round(100 * value) / 100)} of ${stage.at_most ? "at most " : ""}${count(stage.total)}`;
  return [el("progress", { max: stage.total, value, "aria-label": `${stage.stage}: ${text}` }), el("span", { class: "soft" }, text)];
}

function curve(curves) {
  const all = Object.values(curves).flat();
  if (all.length < 2) return null;
  const [wide, high, left, low] = [640, 240, 48, 24];
  const xs = all.map(([step]) => step);
  const ys = all.map(([, loss]) => loss);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const x = (step) => left + (x1 > x0 ? (step - x0) / (x1 - x0) : 0.5) * (wide - left - 10);
  const y = (loss) => 10 + (y1 > y0 ? (y1 - loss) / (y1 - y0) : 0.5) * (high - low - 20);
  const text = (content, at, down, anchor) => svg("text", { x: at, y: down, "text-anchor": anchor }, content);
  return el("section", { class: "curve" }, el("h2", {}, "Loss"),
    svg("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `Loss by step, from ${ys[0].toFixed(3)} to ${curves.loss.length ? curves.loss.at(-1)[1].toFixed(3) : ""}` },
      svg("line", { x1: left, x2: wide - 10, y1: y(y0), y2: y(y0) }), svg("line", { x1: left, x2: wide - 10, y1: y(y1), y2: y(y1) }),
      text(y1.toFixed(2), left - 6, y(y1) + 4, "end"), text(y0.toFixed(2), left - 6, y(y0) + 4, "end"),
      text(`step ${count(x0)}`, left, high - 4, "start"), text(`step ${count(x1)}`, wide - 10, high - 4, "end"),
      Object.entries(curves).map(([name, points]) => svg("polyline", { class: name, points: points.map(([step, loss]) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`).join(" ") }))),
    el("p", { class: "key" }, el("b", { class: "loss" }, "— "), "learnt traces, in nats per token",
      curves.heldout_loss.length ? [" · ", el("b", { class: "heldout_loss" }, "- - "), "held-out traces"] : null));
}

function latest(rows) {
  if (!rows.length) return null;
  return el("section", {}, el("h2", {}, "Traces that came last"), rows.map((row) => el("article", { class: "card" },
    el("h3", {}, `${row.finish}, ${count(row.tokens)} tokens, sample ${row.sample}`),
    row.error ? el("p", { class: "note" }, row.error) : null,
    row.reasoning ? el("pre", { tabindex: 0 }, row.reasoning) : null, row.raw ? el("pre", { tabindex: 0 }, row.raw) : null)));
}

export async function livePage(main, context) {
  const { run, signal } = context;
  const status = el("p", { role: "status", id: "status" });
  const body = el("tbody");
  const plot = el("div");
  const traces = el("div");
  let before = "";
  put(main, el("h1", {}, "Progress"), status,
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Stages" }, el("table", { class: "list", id: "stages" },
      el("thead", {}, el("tr", {}, ["Stage", "State", "Progress"].map((text) => el("th", { scope: "col" }, text)))), body)),
    plot, traces);

  function draw(found) {
    const now = found.complete ? "complete" : found.running ? "running" : "stopped";
    const line = { complete: "The run is complete.", running: "The run goes on.",
      stopped: "No process works on the run. The command that began it goes on where it was." }[now];
    if (status.textContent !== line) status.textContent = line;
    put(body, found.stages.map((stage) => el("tr", {}, el("td", {}, stage.stage),
      el("td", { class: `state ${stage.state}` }, stage.state), el("td", { class: "progress" }, bar(stage), el("div", {}, said(stage))))));
    const drawn = JSON.stringify([found.curves, found.latest]);
    if (drawn !== before) { // else what a person selects or scrolls would be lost
      before = drawn;
      put(plot, curve(found.curves));
      put(traces, latest(found.latest));
    }
  }

  async function look() {
    try {
      draw(await get(`runs/${run}/live`, {}, signal));
      context.fine();
    } catch (error) {
      context.tell(error);
    }
    if (!signal.aborted) setTimeout(() => { if (!signal.aborted) look(); }, EVERY);
  }

  await look();
}
