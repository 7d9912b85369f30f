"use strict";
// Runs before the first paint: the chosen theme, and a mark that scripts run.
(() => {
  const root = document.documentElement;
  const stored = localStorage.getItem("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  root.classList.add("js");
  if (stored === "dark" || stored === "light") root.dataset.theme = stored;

  const tell = () => {
    document.getElementById("theme").textContent = dark() ? "Light theme" : "Dark theme";
    document.dispatchEvent(new CustomEvent("trimtab:theme"));
  };
  document.addEventListener("DOMContentLoaded", () => {
    tell();
    document.getElementById("theme").addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      localStorage.setItem("theme", root.dataset.theme);
      tell();
    });
  });
  system.addEventListener("change", tell);
})();
