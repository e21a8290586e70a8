"""What reports have in common: pages that need no network, plots drawn by templates, tables on a terminal, wording."""
