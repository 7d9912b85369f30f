// Runs in the page: what is wrong with it for people who do not see it, or not well.
() => {
  const found = [];
  const name = (e) => (e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent || '').trim();
  const seen = (e) => e.checkVisibility();
  for (const e of document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary'))
    if (seen(e) && !name(e)) found.push('no name: ' + e.outerHTML.slice(0, 120));
  for (const e of document.querySelectorAll('img:not([alt])')) found.push('no alt: ' + e.outerHTML);
  for (const e of document.querySelectorAll('table')) {
    if (!e.caption?.textContent.trim()) found.push('no caption');
    for (const th of e.querySelectorAll('th')) if (!th.scope) found.push('no scope: ' + th.textContent);
  }
  for (const e of document.querySelectorAll('progress')) if (!name(e)) found.push('progress without a name');
  for (const e of document.querySelectorAll('[aria-labelledby], [aria-describedby]'))
    for (const id of `${e.getAttribute('aria-labelledby') ?? ''} ${e.getAttribute('aria-describedby') ?? ''}`.split(' '))
      if (id && !document.getElementById(id)) found.push('points to nothing: ' + id);
  const ids = [...document.querySelectorAll('[id]')].filter((e) => !e.closest('.plot')).map((e) => e.id);
  for (const id of new Set(ids)) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push('id twice: ' + id);
  for (const [what, count] of [['main', 1], ['h1', 1], ['header', 1]])
    if (document.querySelectorAll(what).length !== count) found.push(`not one ${what}`);
  if (!document.documentElement.lang) found.push('no language');
  // contrast of text on its background, WCAG 2.2, 1.4.3
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const rgba = (text) => (text.match(/^rgba?\(([^)]+)\)/)?.[1] ?? '').split(',').map(Number);
  for (const e of document.querySelectorAll('main *, header *')) {
    if (e.closest('.plot') || !seen(e) || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    let at = e, back = [];
    while (at && !(back.length === 3 || back[3] === 1)) { back = rgba(getComputedStyle(at).backgroundColor); at = at.parentElement; }
    const pair = [light(rgba(getComputedStyle(e).color)), light(back)].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) found.push(`contrast ${ratio.toFixed(2)}: ${e.outerHTML.slice(0, 100)}`);
  }
  return found;
}
