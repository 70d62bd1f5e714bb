"""The desk: the pages on which managers see every shop. `zerostock serve` starts it.

Server-rendered pages over the warehouse's views; nothing here writes. A view is one small file in
`infra/desk/views/` and, unless it is a plain table, one template in `infra/desk/templates/`:

1. write `views/NAME.py` with a function `page(asked: Asked) -> Page`; it asks the warehouse with
   `asked.rows(sql, parameters)` and gives back a template's name and what it shows;
2. write `templates/NAME.html.j2`, which extends `frame.html.j2` and fills `content`;
3. add `View(path, title, page)` to `VIEWS` in `views/__init__.py`.

A view that is one table needs no template: describe it as a `Listing` in `views/lists.py`; it
sorts, filters, pages and downloads by itself. What a person asks goes into SQL as a parameter
only; names of columns come from the listing's own description. Phone numbers are not shown, and
of a SIM the last four digits. No inline style or script: the page's policy forbids both.
"""
