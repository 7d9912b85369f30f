// The page of a fit: its pictures, drawn as they come into view; while it is being computed, its progress.

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset+autosize" };
const POLL_MS = 700;
const { fit, state, n, d } = document.body.dataset;
const narrow = matchMedia("(max-width: 640px)");

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

async function get(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

// ---- while it is being computed

async function follow() {
  try {
    const now = await get(`/v1/fits/${fit}`);
    if (now.state !== "queued" && now.state !== "running") return location.reload();
    document.getElementById("fit-progress").value = now.progress;
    document.getElementById("fit-state").textContent = now.state;
  } catch (error) {
    if (!(error instanceof TypeError)) return location.reload(); // it was deleted; else the server is away
  }
  return setTimeout(follow, POLL_MS);
}

// ---- its pictures

const drawn = new Map(); // element -> figure

function draw(element, figure) {
  const soft = colour("--soft");
  const layout = {
    ...figure.layout,
    height: narrow.matches ? Math.min(figure.height, 400) : figure.height,
    font: { ...figure.layout.font, color: soft },
    hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--line"), font: { color: colour("--text") } },
    dragmode: narrow.matches ? false : "zoom",
  };
  drawn.set(element, figure);
  return Plotly.react(element, figure.data, layout, CONFIG);
}

function place(figure) {
  const holder = document.createElement("figure");
  holder.className = "panel";
  const title = document.createElement("h2");
  title.textContent = figure.title;
  const plot = document.createElement("div");
  plot.id = `figure-${figure.id}`;
  plot.style.minHeight = `${narrow.matches ? Math.min(figure.height, 400) : figure.height}px`;
  const caption = document.createElement("figcaption");
  caption.className = "soft small";
  caption.textContent = figure.caption;
  holder.append(title, plot, caption);
  document.getElementById(`figures-${figure.group}`).append(holder);
  return plot;
}

async function show() {
  const status = document.getElementById("figures-status");
  const query = n && d ? `?${new URLSearchParams({ n, d })}` : "";
  const { figures } = await get(`/v1/fits/${fit}/figures${query}`);
  status.hidden = figures.length > 0;
  status.textContent = "There are no pictures of this family of laws.";
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      draw(entry.target, waiting.get(entry.target));
    }
  }, { rootMargin: "400px" });
  const waiting = new Map(figures.map((figure) => [place(figure), figure]));
  for (const group of ["laws", "checks", "cells"]) {
    document.getElementById(`section-${group}`).hidden = !figures.some((figure) => figure.group === group);
  }
  for (const element of waiting.keys()) seen.observe(element);
}

document.addEventListener("trimtab:theme", () => {
  for (const [element, figure] of drawn) draw(element, figure);
});

if (state === "queued" || state === "running") follow();
else if (state === "done") await show();
