// A theme that was chosen is there before the first paint: this one is no module, and not deferred.
try {
  const chosen = localStorage.getItem("muomni-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* no storage: the system's theme */ }
