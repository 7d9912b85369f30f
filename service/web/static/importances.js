// The panel that says what matters: a part of a page of its own, whose making takes seconds. It is fetched
// when it comes into view, and again when the study has a fifth more results or is over.

const panel = document.getElementById("importances");
const GROWTH = 1.2;
const PAUSE_MS = 15_000;

let shown = -1;
let over = "";
let visible = false;
let busy = false;
let last = -Infinity;

const results = () => document.getElementById("results").dataset;

function wanted() {
  const now = results();
  if (!visible || document.hidden || busy || Number(now.results) < Number(panel.dataset.least)) return false;
  if (shown < 0 || now.over !== over) return true;
  return Number(now.results) >= GROWTH * shown && Number(now.results) > shown && performance.now() - last > PAUSE_MS;
}

async function show() {
  if (!wanted()) return;
  busy = true;
  const now = { ...results() };
  if (shown < 0) panel.querySelector("[role=status]").textContent = "Being computed, for some seconds…";
  try {
    const answer = await fetch(panel.dataset.from, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = page.querySelector("[data-importances]");
    if (answer.ok && found) {
      panel.replaceChildren(document.importNode(found, true));
      shown = Number(now.results);
      over = now.over;
    } else if (shown < 0) {
      panel.querySelector("[role=status]").textContent = "Not to be had now: the service has too much to do.";
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // the server is away: the next event tries again
  } finally {
    last = performance.now();
    busy = false;
  }
}

new IntersectionObserver(([entry]) => {
  visible = entry.isIntersecting;
  show();
}, { rootMargin: "100px" }).observe(panel);
document.addEventListener("trimtab:refreshed", show);
