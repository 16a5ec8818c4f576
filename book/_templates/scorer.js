// Sphinx's own scores, but for one thing: what the report says comes before what is said on the pages of single runs.
var Scorer = {
  score: ([docname, , , , score]) => (docname.startsWith("runs/") ? score - 100 : score),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
