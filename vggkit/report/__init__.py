"""What the book shows: tables, claims, figures and pages, all of it from finished runs."""
