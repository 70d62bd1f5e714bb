"""The desk: the pages on which managers see every shop. `zerostock serve` starts it.

reading   the warehouse as the desk has it: open between pages, given up on demand
page      what a view is given, and what it gives back: a page, a download, another address
parts     what pages are made of: figures, facts, tables, charts, messages
tables    a table that sorts, filters, pages and downloads (sheets: the files)
views     one file a view; `lists` has those that are one table; `__init__` the menu
render    parts as HTML (templates, static), in a language (words, catalog, values)
access    logins, roles, sessions, the trail
app       routes, actions, faults; serve: the server

A new view: write `views/NAME.py` with `page(asked) -> Page`, and add a `View` to `views`;
one that is a table only is a `Listing` in `views/lists.py`. What a person asks goes into SQL as a
parameter only; names of columns come from the listing's own description. Texts are marked with
`N_`; numbers that name a person are columns of the kind `secret`. No inline style or script: the
page's policy forbids both.
"""
