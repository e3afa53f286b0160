// Light or dark, before anything is drawn: a classic script, so that no page flashes in the other colours. The choice
// is no secret, so it may stay in localStorage; the token never does.
(() => {
  const KEY = "quorate.theme";
  const stored = () => {
    try { return localStorage.getItem(KEY); } catch { return null; }
  };
  const apply = (choice) => {
    if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;
    else delete document.documentElement.dataset.theme;
  };
  apply(stored());
  globalThis.quorateTheme = {
    // "auto" follows the system.
    get: () => stored() ?? "auto",
    set: (choice) => {
      try {
        if (choice === "auto") localStorage.removeItem(KEY);
        else localStorage.setItem(KEY, choice);
      } catch { /* A browser that keeps nothing still shows it until it is closed. */ }
      apply(choice);
    },
  };
})();
