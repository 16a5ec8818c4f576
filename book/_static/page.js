// What the theme lacks: paper is light, also where the page is dark; what is opened as a file can be searched; and the
// contents that a phone shows over the page go away once one of their links has led somewhere in it.
(() => {
  const root = document.documentElement;
  let before;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
  });
  addEventListener("afterprint", () => {
    root.dataset.theme = before;
  });
  // Sphinx shows of each page found some words, which it reads from the page; a browser reads no other file from a file.
  if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
  // The theme's script hides the contents beside a note in the margin, and fails on a page that has none.
  document.addEventListener("DOMContentLoaded", () => {
    if (document.querySelector("div.bd-sidebar-secondary")) return;
    const none = document.createElement("div");
    none.className = "bd-sidebar-secondary";
    none.style.display = "none";
    document.body.append(none);
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("dialog[open] a[href^='#']");
    if (link) link.closest("dialog").close();
  });
})();
