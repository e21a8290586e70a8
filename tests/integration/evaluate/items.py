"""HellaSwag's task made of real text: which of four clauses goes on in a paragraph of Python's language reference?"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from trainer.data.corpus import help_topics


def write_items(path: Path, count: int, *, seed: int = 1) -> Path:
    """Write `count` items as JSON lines; the three wrong endings are clauses of other paragraphs."""
    chance = random.Random(seed)
    paragraphs = [" ".join(part.split()) for _, text in help_topics() for part in re.split(r"\n\s*\n", text)]
    sentences = [
        found for part in paragraphs if (found := re.fullmatch(r"([A-Z][^.]{40,200}),( [^.]{20,120}\.).*", part))
    ]
    chosen = chance.sample(sentences, count)
    lines = []
    for found in chosen:
        wrong = [other[2].strip() for other in chance.sample(sentences, 4) if other is not found][:3]
        label = chance.randrange(4)
        endings = [*wrong[:label], found[2].strip(), *wrong[label:]]
        # The published file has the label as text.
        lines.append(json.dumps({"ind": len(lines), "ctx": f"{found[1]},", "endings": endings, "label": str(label)}))
    path.write_text("\n".join(lines) + "\n")
    return path
