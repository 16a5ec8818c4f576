// What the theme lacks: paper is light, also where the page is dark, and what is opened as a file can be searched.
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
  addEventListener("DOMContentLoaded", () => {
    if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
  });
})();
