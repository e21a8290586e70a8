"""Are the pages true? Dead links, stale commands and undocumented values, found by `make check`."""
