// What all plots share: colours of the theme, axes, and how answers are fetched.

export const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset+autosize" };
const narrow = matchMedia("(max-width: 640px)");

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** JSON has no NaN: non-finite values travel as strings, and leave a gap. */
export const finite = (value) => (typeof value === "number" ? value : null);

export async function get(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

/** A name that fits along an axis. */
const short = (name) => (name.length > 30 ? `${name.slice(0, 29)}…` : name);

/** In place of an empty plot's axes, whose numbers would mean nothing. */
export const NOTHING = {
  xaxis: { visible: false }, yaxis: { visible: false },
  annotations: [{ text: "nothing measured yet", xref: "paper", yref: "paper", x: 0.5, y: 0.5, showarrow: false, font: { size: 14 } }],
};

/** Calls `work` at most once per `pause`, the last time for certain, one call at a time. */
export function throttled(pause, work) {
  let timer = 0;
  let last = -Infinity;
  return () => {
    timer ||= setTimeout(async () => {
      last = performance.now();
      try {
        await work();
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // the server is away: the next event tries again
      } finally {
        timer = 0;
      }
    }, Math.max(0, last + pause - performance.now()));
  };
}

export function layout(xTitle, yTitle, extra = {}) {
  const grid = colour("--line");
  const text = colour("--soft");
  const axis = { gridcolor: grid, linecolor: grid, zeroline: false, automargin: true, tickfont: { size: 11 } };
  return {
    margin: { l: 8, r: 12, t: 18, b: 8 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: text },
    hoverlabel: { bgcolor: colour("--panel"), bordercolor: grid, font: { color: colour("--text") } },
    hovermode: "closest",
    dragmode: narrow.matches ? false : "zoom",
    uirevision: "keep",
    legend: { orientation: "h", x: 0, y: -0.16, yanchor: "top", font: { size: 12 } },
    xaxis: { ...axis, title: { text: short(xTitle), standoff: 8 }, ...extra.xaxis },
    yaxis: { ...axis, title: { text: short(yTitle), standoff: 8 }, exponentformat: "e", ...extra.yaxis },
    shapes: extra.shapes ?? [],
    annotations: extra.annotations ?? [],
    showlegend: extra.legend ?? true,
  };
}
