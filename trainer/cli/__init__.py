"""The commands of `gpt-run`: arguments in, one call, a result out; no logic."""
