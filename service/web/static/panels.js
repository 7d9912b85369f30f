// The performance profile of a cross-workload study, and the learning-rate schedule that a search has found.
// The page says (in #panels) which of them there is something to draw for; its answers are fetched anew when
// the page has been refreshed.

import { colour, CONFIG, get, layout, NOTHING, throttled } from "./charts.js";

const { study, unit } = document.body.dataset;
const PROFILES = 8;
const DASHES = ["solid", "dash", "dot", "dashdot"];
const COLOURS = ["--accent", "--completed", "--paused", "--failed"];
const RELOAD_MS = 3000;

let profile = null;
let schedule = null;

/** A step function up to the largest factor, from its points. */
function profileTrace(trial, place) {
  const { workloads, tau_max: most, by } = profile;
  const points = [...trial.points, [most, trial.points.at(-1)[1]]];
  const times = workloads.map(({ name }) => `<br>${name}: ${name in trial.times ? `${trial.times[name].toPrecision(4)} ${by}` : "not reached"}`);
  return {
    type: "scatter", mode: "lines", name: `trial ${trial.number} (${trial.score.toFixed(2)})`,
    x: points.map(([tau]) => tau), y: points.map(([, share]) => share), customdata: points.map(() => trial.number),
    line: { shape: "hv", width: place ? 1.8 : 3, color: colour(place ? COLOURS[place % COLOURS.length] : "--best"), dash: DASHES[Math.floor(place / COLOURS.length) % DASHES.length] },
    hovertemplate: `trial ${trial.number}${times.join("")}<br>within a factor of %{x:.3g}: %{y:.0%} of the workloads<extra></extra>`,
  };
}

function drawProfile() {
  const [x, y] = ["factor of the fastest time", "share of the workloads"];
  if (!profile) return Plotly.react("profile", [], layout(x, y, { ...NOTHING, annotations: [{ ...NOTHING.annotations[0], text: "no target reached yet" }] }), CONFIG);
  const traces = profile.trials.filter((trial) => trial.reached).slice(0, PROFILES).map(profileTrace);
  return Plotly.react("profile", traces,
    layout(x, y, { xaxis: { range: [1, profile.tau_max] }, yaxis: { range: [-0.03, 1.03], tickformat: ".0%" } }), CONFIG);
}

/** One line with gaps for all that was tried beside: many lines of their own would be slow. */
function drawSchedule() {
  const x = [], y = [], numbers = [];
  for (const { trial, points } of schedule.tried) {
    for (const [step, rate] of points) {
      x.push(step);
      y.push(rate);
      numbers.push(trial);
    }
    x.push(null);
    y.push(null);
    numbers.push(null);
  }
  const found = schedule.points.filter(([step]) => step <= schedule.steps);
  if (found.at(-1)[0] < schedule.steps) found.push([schedule.steps, found.at(-1)[1]]);
  const hovertemplate = `trial %{customdata}<br>${unit} %{x}<br>learning rate %{y:.4g}<extra></extra>`;
  const traces = [
    { type: "scatter", mode: "lines", name: `tried (${schedule.tried.length} trials)`, x, y, customdata: numbers, hovertemplate,
      opacity: 0.6, line: { color: colour("--stopped"), width: 1.2 } },
    { type: "scatter", mode: "lines", name: `found: trial ${schedule.trial}`, hovertemplate,
      x: found.map(([step]) => step), y: found.map(([, rate]) => rate), customdata: found.map(() => schedule.trial),
      line: { color: colour("--best"), width: 3 } },
  ].filter((trace) => trace.x.length);
  return Plotly.react("schedule", traces, layout(unit, "learning rate", { yaxis: { rangemode: "tozero" } }), CONFIG);
}

async function draw() {
  if (document.getElementById("profile")) await drawProfile();
  if (schedule) await drawSchedule();
}

async function load() {
  const path = `/v1/studies/${encodeURIComponent(study)}`;
  const ready = document.getElementById("panels").dataset;
  [profile, schedule] = await Promise.all([
    ready.profile ? get(`${path}/profile`) : null,
    ready.schedule ? get(`${path}/schedule`) : null,
  ]);
  const panel = document.getElementById("schedule-panel");
  if (panel) panel.hidden = !schedule;
  await draw();
}

const reload = throttled(RELOAD_MS, load);
document.addEventListener("trimtab:refreshed", reload);
document.addEventListener("trimtab:theme", throttled(0, draw));
await load();
for (const plot of ["profile", "schedule"]) {
  document.getElementById(plot)?.on?.("plotly_click", ({ points }) => {
    const number = points[0]?.customdata;
    if (number) location.assign(`/studies/${encodeURIComponent(study)}/trials/${number}`);
  });
}
