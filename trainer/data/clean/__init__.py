"""Cleaning of text: rules that change or drop a document, and the search for duplicates among all of them.

`steps` is the union of the steps that look at one document; `exact` and `near` find duplicates across documents, in
bounded memory. Everything here is deterministic and knows nothing of sources, workers or shards.
"""
