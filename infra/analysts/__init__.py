"""What analysts are given beside the tables themselves.

meanings    what each table and column means, from infra/clickhouse/meanings
questions   saved questions with their parameters, from infra/clickhouse/questions
pages       docs/tables.md and docs/questions.md, made of both and the schema
"""
