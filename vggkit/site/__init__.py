"""How the report becomes a site: executed notebooks, what every page has around its text, the whole as one PDF."""
