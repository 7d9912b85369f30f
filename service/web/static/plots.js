// Learning curves, best-so-far and one trial's curve, drawn by plotly from the REST API's answers.
// A trial's state is told by colour, line style and end mark alike. All lines of a state are one trace
// with gaps in it, so that hundreds of trials stay quick (and no WebGL is needed, which would want
// `unsafe-eval`).

import { colour, CONFIG, finite, get, layout, NOTHING, throttled } from "./charts.js";

const STATES = {
  stopped: { dash: "dot", symbol: "triangle-down", width: 1 },
  paused: { dash: "dash", symbol: "diamond", width: 1 },
  completed: { dash: "solid", symbol: "square", width: 1.3 },
  failed: { dash: "dashdot", symbol: "x", width: 1.3 },
  queued: { dash: "dash", symbol: "circle-open", width: 1 },
  running: { dash: "solid", symbol: "circle", width: 1.6 },
};
const MAX_POINTS = 80;
const MAX_OTHERS = 1000;
const RELOAD_MS = 3000;
const REDRAW_MS = 500;

const { study, trial, metric, unit, rungs = "", curves: maxLines } = document.body.dataset;
const rungSteps = rungs.split(" ").filter(Boolean).map(Number);
const logAxes = { x: false, y: false };

function axisTypes() {
  return { xaxis: { type: logAxes.x ? "log" : "linear" }, yaxis: { type: logAxes.y ? "log" : "linear" } };
}

/** From the best value to nearly the worst of the trials that did not fail, without what lies many times
 * the middle half's width away: those that exploded must not flatten all others. A double click shows
 * everything. */
function usefulRange() {
  const values = [];
  for (const line of lines.values()) {
    if (line.state !== "failed") for (const value of line.values) if (finite(value) !== null) values.push(value);
  }
  if (values.length < 2) return {};
  values.sort((a, b) => a - b);
  const last = values.length - 1;
  const cut = Math.max(1, Math.round(last * 0.01));
  const quarter = values[Math.round(last * 0.25)];
  const threeQuarters = values[Math.round(last * 0.75)];
  const far = 10 * (threeQuarters - quarter) || Infinity;
  let [low, high] = document.body.dataset.direction === "maximize"
    ? [Math.max(values[cut], quarter - far), values[last]]
    : [values[0], Math.min(values[last - cut], threeQuarters + far)];
  if (logAxes.y) {
    if (low <= 0) return {};
    [low, high] = [Math.log10(low), Math.log10(high)];
  }
  const room = (high - low) * 0.06;
  return room > 0 ? { range: [low - room, high + room] } : {};
}

function rungMarks(steps = rungSteps) {
  const line = { color: colour("--rung"), width: 1, dash: "dot" };
  return {
    shapes: steps.map((step) => ({ type: "line", xref: "x", yref: "paper", x0: step, x1: step, y0: 0, y1: 1, line, layer: "below" })),
    annotations: steps.map((step) => ({
      x: logAxes.x ? Math.log10(step) : step, xref: "x", y: 1, yref: "paper", yanchor: "bottom", showarrow: false,
      text: String(step), font: { size: 10, color: colour("--soft") },
    })),
  };
}

// ---- the study page

const lines = new Map(); // trial number -> { state, steps, values }
let progress = null; // the summary's answer
let front = null; // the answer about the Pareto front, of a study with several objectives

function curveTraces() {
  const traces = [];
  const best = Number(document.body.dataset.best);
  for (const [state, style] of Object.entries(STATES)) {
    const x = [], y = [], numbers = [], endX = [], endY = [], endNumbers = [];
    for (const [number, line] of lines) {
      if (line.state !== state) continue;
      let end = -1;
      line.steps.forEach((step, i) => {
        const value = finite(line.values[i]);
        x.push(step);
        y.push(value);
        numbers.push(number);
        if (value !== null) end = i;
      });
      x.push(null);
      y.push(null);
      numbers.push(null);
      if (end >= 0) {
        endX.push(line.steps[end]);
        endY.push(line.values[end]);
        endNumbers.push(number);
      }
    }
    if (!endX.length) continue;
    const stroke = colour(`--${state}`);
    const shared = {
      type: "scatter", legendgroup: state,
      hovertemplate: `trial %{customdata}, ${state}<br>${unit} %{x}<br>${metric} %{y:.4g}<extra></extra>`,
    };
    traces.push({ ...shared, x, y, customdata: numbers, mode: "lines", showlegend: false, opacity: 0.75,
      line: { color: stroke, dash: style.dash, width: style.width } });
    traces.push({ ...shared, x: endX, y: endY, customdata: endNumbers, mode: "markers", showlegend: false,
      marker: { color: stroke, symbol: style.symbol, size: state === "failed" ? 8 : 6 } });
    traces.push({ ...shared, x: [null], y: [null], mode: "lines+markers", name: `${state} (${endX.length})`,
      line: { color: stroke, dash: style.dash, width: 1.5 }, marker: { color: stroke, symbol: style.symbol, size: 7 } });
  }
  const winner = lines.get(best);
  if (winner) {
    traces.push({
      type: "scatter", mode: "lines", name: `best: trial ${best}`, x: winner.steps, y: winner.values.map(finite),
      customdata: winner.steps.map(() => best), line: { color: colour("--best"), width: 3 },
      hovertemplate: `trial ${best}, best<br>${unit} %{x}<br>${metric} %{y:.4g}<extra></extra>`,
    });
  }
  return traces;
}

function drawCurves() {
  if (!lines.size) return Plotly.react("curves", [], layout(unit, metric, NOTHING), CONFIG);
  const axes = axisTypes();
  Object.assign(axes.yaxis, usefulRange());
  return Plotly.react("curves", curveTraces(), layout(unit, metric, { ...axes, ...rungMarks() }), CONFIG);
}

function drawBest() {
  if (!progress) return undefined;
  const points = progress.best_so_far.filter((point) => finite(point.value) !== null);
  if (!points.length) return Plotly.react("best", [], layout(unit, metric, NOTHING), CONFIG);
  const trained = Math.max(progress.study.savings.trained, points.at(-1)?.fidelity ?? 0);
  const x = points.map((point) => point.fidelity);
  const y = points.map((point) => point.value);
  const numbers = points.map((point) => point.trial);
  x.push(trained); // it holds until now
  y.push(y.at(-1));
  numbers.push(numbers.at(-1));
  const traces = [{
    type: "scatter", mode: "lines+markers", name: "best so far", x, y, customdata: numbers,
    line: { shape: "hv", color: colour("--accent"), width: 2 },
    marker: { size: x.map((_, i) => (i < points.length ? 6 : 0)), color: colour("--accent") },
    hovertemplate: `trial %{customdata}<br>after %{x} ${unit}<br>${metric} %{y:.4g}<extra></extra>`,
  }];
  const standard = finite(progress.default?.value ?? null);
  if (standard !== null) {
    traces.push({
      type: "scatter", mode: "lines", name: "default configuration", x: [0, trained], y: [standard, standard],
      line: { dash: "dash", color: colour("--soft"), width: 1.5 }, hovertemplate: `default %{y:.4g}<extra></extra>`,
    });
  }
  return Plotly.react("best", traces,
    layout(`${unit} trained, all trials`, metric, { legend: traces.length > 1 }), CONFIG);
}

/** Where a trial lies by the first two objectives. */
function frontTrace(name, trials, style) {
  const [first, second] = front.objectives.map((goal) => goal.name);
  const notes = trials.map((trial) => [trial.number, trial.over_limits.map((over) => `<br>over limit: ${over}`).join("")]);
  return {
    type: "scatter", mode: "markers", name: `${name} (${trials.length})`, customdata: notes,
    x: trials.map((trial) => finite(trial.outcomes[second])), y: trials.map((trial) => finite(trial.outcomes[first])),
    hovertemplate: `trial %{customdata[0]}, ${name}<br>${second} %{x:.4g}<br>${first} %{y:.4g}%{customdata[1]}<extra></extra>`,
    ...style,
  };
}

/** An axis over the trials that keep the limits, logarithmic where they span decades. Those that break a limit
 * often lie far away and would flatten the front: a double click shows them all. */
function frontAxis(metric) {
  const kept = [...front.trials, ...front.others.filter((trial) => !trial.over_limits.length)];
  const values = kept.map((trial) => finite(trial.outcomes[metric])).filter((value) => value !== null);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const type = low > 0 && high > 30 * low ? "log" : "linear";
  if (type === "log") [low, high] = [Math.log10(low), Math.log10(high)];
  const room = (high - low) * 0.06;
  return room > 0 ? { type, range: [low - room, high + room] } : { type };
}

function drawFront() {
  if (!front) return undefined;
  const [first, second] = front.objectives;
  if (!front.trials.length && !front.others.length) {
    return Plotly.react("front", [], layout(second.name, first.name, NOTHING), CONFIG);
  }
  const over = front.others.filter((trial) => trial.over_limits.length);
  const behind = front.others.filter((trial) => !trial.over_limits.length);
  // With more than two objectives the front is no line in this plane.
  const steps = front.objectives.length === 2;
  const colours = { best: colour("--accent"), behind: colour("--stopped"), over: colour("--failed") };
  const traces = [
    frontTrace("dominated", behind, { marker: { color: colours.behind, symbol: "circle-open", size: 8 } }),
    frontTrace("over a limit", over, { marker: { color: colours.over, symbol: "x", size: 7 } }),
    frontTrace("Pareto front", front.trials, {
      mode: steps ? "lines+markers" : "markers", marker: { color: colours.best, symbol: "square", size: 9 },
      // From the best by the first objective on, each trial is better by the second. Between two of them
      // only the corner that is as bad as both is known to be possible.
      line: { shape: "vh", color: colours.best, width: 1.5 },
    }),
  ].filter((trace) => trace.x.length);
  return Plotly.react("front", traces, layout(`${second.name}, ${second.direction}d`, `${first.name}, ${first.direction}d`,
    { xaxis: frontAxis(second.name), yaxis: frontAxis(first.name) }), CONFIG);
}

async function loadStudy() {
  const path = `/v1/studies/${encodeURIComponent(study)}`;
  const [curves, summary, found] = await Promise.all([
    get(`${path}/curves?max_points=${MAX_POINTS}&max_lines=${maxLines}`),
    get(`${path}/summary`),
    document.getElementById("front") ? get(`${path}/front?others=${MAX_OTHERS}`) : null,
  ]);
  front = found;
  lines.clear();
  for (const line of curves.lines) lines.set(line.number, line);
  progress = summary;
  await drawCurves();
  await drawBest();
  await drawFront();
}

function takeStudyEvents(events) {
  let known = true;
  let grown = false;
  for (const event of events) {
    const line = lines.get(event.trial);
    if (event.kind === "measurements" && line) {
      for (const [step, value] of event.data.points ?? []) {
        if (step > (line.steps.at(-1) ?? -1)) {
          line.steps.push(step);
          line.values.push(value);
          grown = true;
        }
      }
    } else if (event.kind !== "decision") known = false;
  }
  if (grown) redraw();
  if (!known) reload(); // a trial appeared, ended or is the best now
}

// ---- the trial page

let shown = null; // the trial's answer

function drawTrial() {
  if (!shown) return undefined;
  const name = document.getElementById("metric").value || metric;
  if (!shown.curve.length) return Plotly.react("curve", [], layout(unit, name, NOTHING), CONFIG);
  const values = shown.curve.map((point) => finite(point.metrics[name]));
  const steps = shown.curve.map((point) => point.step);
  const gaps = steps.filter((_, i) => values[i] === null && name in shown.curve[i].metrics);
  const traces = [{
    type: "scatter", mode: steps.length > 60 ? "lines" : "lines+markers", x: steps, y: values,
    line: { color: colour("--accent"), width: 2 }, marker: { size: 5 },
    hovertemplate: `${unit} %{x}<br>${name} %{y:.5g}<extra></extra>`,
  }];
  const reach = Math.max(shown.target_step, steps.at(-1) ?? 0);
  const marks = rungMarks(rungSteps.filter((step) => step <= reach));
  for (const step of gaps) {
    marks.annotations.push({ x: logAxes.x ? Math.log10(step) : step, xref: "x", y: 0.5, yref: "paper",
      showarrow: false, text: "not finite", textangle: -90, font: { color: colour("--failed"), size: 11 } });
  }
  return Plotly.react("curve", traces, layout(unit, name, { ...axisTypes(), ...marks, legend: false }), CONFIG);
}

async function loadTrial() {
  shown = await get(`/v1/studies/${encodeURIComponent(study)}/trials/${trial}`);
  await drawTrial();
}

// ---- both

const draw = trial ? drawTrial : async () => { await drawCurves(); await drawBest(); await drawFront(); };
const redraw = throttled(REDRAW_MS, draw);
const reload = throttled(trial ? 1000 : RELOAD_MS, trial ? loadTrial : loadStudy);

document.addEventListener("trimtab:events", ({ detail }) => {
  if (!trial) takeStudyEvents(detail);
  else if (detail.some((event) => event.trial === Number(trial))) reload();
});
document.addEventListener("trimtab:theme", redraw);
document.getElementById("metric")?.addEventListener("change", redraw);
for (const axis of ["x", "y"]) {
  const button = document.getElementById(`log-${axis}`);
  button.addEventListener("click", () => {
    logAxes[axis] = !logAxes[axis];
    button.setAttribute("aria-pressed", String(logAxes[axis]));
    redraw();
  });
}

await (trial ? loadTrial() : loadStudy());
for (const plot of ["curves", "front"]) {
  document.getElementById(plot)?.on("plotly_click", ({ points }) => {
    const number = [points[0]?.customdata].flat()[0];
    if (number) location.assign(`/studies/${encodeURIComponent(study)}/trials/${number}`);
  });
}
