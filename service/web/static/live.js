// Keeps the page current: server-sent events say that something happened, and the regions marked
// data-live are then taken from a fresh copy of the same page, element by element, so that focus,
// scroll position and open details stay. One copy per second at most, none while the tab is hidden.

const BATCH_MS = 500;
const REFRESH_MS = 1000;
const RETRY_MS = 3000;
const QUIET_MS = 10_000;

// ---- the page, patched

function patch(here, wanted) {
  if (here.isEqualNode(wanted)) return;
  if (here.nodeType !== Node.ELEMENT_NODE) {
    here.data = wanted.data;
    return;
  }
  for (const { name, value } of wanted.attributes) {
    if (here.getAttribute(name) !== value) here.setAttribute(name, value);
  }
  for (const { name } of [...here.attributes]) {
    if (!wanted.hasAttribute(name) && name !== "open") here.removeAttribute(name);
  }
  patchChildren(here, wanted);
}

const keyOf = (node) => node.dataset?.key || node.id || "";

function patchChildren(parent, wantedParent) {
  const byKey = new Map();
  for (const child of parent.children) if (keyOf(child)) byKey.set(keyOf(child), child);
  let place = parent.firstChild;
  for (const wanted of [...wantedParent.childNodes]) {
    const key = keyOf(wanted);
    const match = key
      ? byKey.get(key)
      : place && !keyOf(place) && place.nodeName === wanted.nodeName ? place : undefined;
    if (!match) {
      parent.insertBefore(document.importNode(wanted, true), place);
      continue;
    }
    if (match === place) place = place.nextSibling;
    else parent.insertBefore(match, place);
    patch(match, wanted);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

let asked = 0;
let refreshedAt = 0;
let refreshTimer = 0;

async function refresh() {
  clearTimeout(refreshTimer);
  refreshTimer = 0;
  refreshedAt = performance.now();
  const mine = ++asked;
  let answer;
  try {
    answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  } catch {
    return; // the server is away; the next connection refreshes
  }
  if (answer.redirected && new URL(answer.url).pathname === "/login") {
    location.assign(answer.url);
    return;
  }
  if (answer.status === 404) location.reload(); // deleted: the page that says so takes its place
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (mine !== asked) return; // a newer copy is on its way
  const focused = document.activeElement;
  for (const region of document.querySelectorAll("[data-live]")) {
    const wanted = fresh.querySelector(`[data-live="${region.dataset.live}"]`);
    if (wanted) patch(region, wanted);
  }
  document.body.dataset.best = fresh.body.dataset.best ?? "";
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
  document.dispatchEvent(new CustomEvent("trimtab:refreshed"));
}

function refreshSoon() {
  if (refreshTimer) return;
  refreshTimer = setTimeout(refresh, Math.max(BATCH_MS, refreshedAt + REFRESH_MS - performance.now()));
}

// ---- events

const sign = document.getElementById("live");
const signText = document.getElementById("live-text");
let source = null;
let lastId = "";
let waiting = [];
let batchTimer = 0;
let retryTimer = 0;

function show(state, text) {
  sign.hidden = false;
  sign.dataset.state = state;
  if (signText.textContent !== text) signText.textContent = text;
}

function flush() {
  batchTimer = 0;
  const events = waiting;
  waiting = [];
  document.dispatchEvent(new CustomEvent("trimtab:events", { detail: events }));
  refreshSoon();
}

function take(message) {
  if (message.lastEventId) lastId = message.lastEventId;
  waiting.push(JSON.parse(message.data));
  batchTimer ||= setTimeout(flush, BATCH_MS);
}

function connect() {
  clearTimeout(retryTimer);
  const url = new URL(document.body.dataset.events, location.href);
  if (lastId) url.searchParams.set("after", lastId);
  source = new EventSource(url);
  source.addEventListener("message", take);
  source.addEventListener("open", () => {
    show("live", "live");
    refreshSoon(); // what happened between the page and the connection
  });
  source.addEventListener("error", () => {
    show("away", "reconnecting");
    // A browser retries a broken connection by itself, but gives up on an error answer: asking for the
    // page tells whether one has to log in again, or whether the study is gone.
    if (source?.readyState !== EventSource.CLOSED) return;
    refreshSoon();
    retryTimer = setTimeout(connect, RETRY_MS);
  });
}

function disconnect() {
  clearTimeout(retryTimer);
  source?.close();
  source = null;
}

if (document.body.dataset.events) {
  show("away", "connecting");
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      disconnect();
      show("away", "paused");
    } else if (!source) connect();
  });
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", (event) => {
    if (event.persisted && !source) connect();
  });
  if (!document.hidden) connect();
}

// ---- sorting, filtering and paging without a reload

function go(url) {
  history.pushState(null, "", url);
  return refresh();
}

document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const link = event.target.closest("a[data-swap], [data-live='trials'] .pages a");
  if (!link) return;
  event.preventDefault();
  go(link.href);
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.swap) return;
  event.preventDefault();
  const url = new URL(form.action);
  const sort = new URLSearchParams(location.search).get("sort");
  if (sort) url.searchParams.set("sort", sort);
  const state = new FormData(form).get("state");
  if (state) url.searchParams.set("state", state);
  go(url);
});

document.addEventListener("change", (event) => {
  event.target.closest("form[data-swap]")?.requestSubmit();
});

addEventListener("popstate", refresh);
document.addEventListener("trimtab:refresh", refresh);

// ---- what changes without an event: ages, the budget of wall clock, studies that were deleted

function relative(moment) {
  const seconds = (Date.now() - moment) / 1000;
  if (seconds < 5) return "just now";
  for (const [unit, name] of [[86400, "d"], [3600, "h"], [60, "m"]]) {
    if (seconds >= unit) return `${Math.floor(seconds / unit)} ${name} ago`;
  }
  return `${Math.floor(seconds)} s ago`;
}

setInterval(() => {
  if (document.hidden) return;
  if (source?.readyState === EventSource.OPEN) refreshSoon();
  for (const element of document.querySelectorAll("time[datetime]")) {
    const text = relative(Date.parse(element.dateTime));
    if (element.textContent !== text) element.textContent = text;
  }
}, QUIET_MS);
