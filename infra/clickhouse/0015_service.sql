-- The service side: who owes what until when, and what halls and call centres did.
CREATE TABLE IF NOT EXISTS units
(
    unit_id String,
    name String,
    kind String,
    parent_id String,
    phone String,
    language String
)
ENGINE = MergeTree ORDER BY unit_id;

-- Cases as they stand: a row after each change, the highest version holds.
CREATE TABLE IF NOT EXISTS cases_rows
(
    case_id String,
    kind String,
    unit_id String,
    severity String,
    green UInt8,
    step String,
    customer_id String,
    about String,
    opened_at DateTime64(3, 'UTC'),
    due_at Nullable(DateTime64(3, 'UTC')),
    answered_at Nullable(DateTime64(3, 'UTC')),
    closed_at Nullable(DateTime64(3, 'UTC')),
    paused_s Float64,
    on_time Nullable(Int8),
    repeat_of String,
    reopened Int32,
    satisfied Nullable(Int8),
    outcome String,
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY case_id;

CREATE OR REPLACE VIEW cases AS
SELECT
    case_id, kind, unit_id, severity, green, step, opened_at, due_at, answered_at, closed_at,
    paused_s, on_time, repeat_of, reopened, customer_id, about, satisfied, outcome
FROM cases_rows FINAL;

-- Steps of cases that were begun; one that, as late events showed, never was is withdrawn.
CREATE TABLE IF NOT EXISTS case_steps_rows
(
    case_id String,
    step String,
    n Int32,
    unit_id String,
    started_at DateTime64(3, 'UTC'),
    due_at Nullable(DateTime64(3, 'UTC')),
    warn_at Nullable(DateTime64(3, 'UTC')),
    finished_at Nullable(DateTime64(3, 'UTC')),
    paused_s Float64,
    late_s Nullable(Float64),
    withdrawn UInt8,
    version UInt64
)
ENGINE = ReplacingMergeTree(version, withdrawn)
ORDER BY (case_id, step, n);

CREATE OR REPLACE VIEW case_steps AS
SELECT case_id, step, n, unit_id, started_at, due_at, finished_at, paused_s, late_s, warn_at
FROM case_steps_rows FINAL;

CREATE TABLE IF NOT EXISTS contacts_rows
(
    event_id String,
    at DateTime64(3, 'UTC'),
    unit_id String,
    agent_id String,
    direction String,
    answered_after_s Nullable(Float64),
    duration_s Nullable(Float64),
    second UInt8
)
ENGINE = ReplacingMergeTree
ORDER BY (unit_id, event_id);

CREATE OR REPLACE VIEW contacts AS
SELECT event_id, at, unit_id, agent_id, direction, answered_after_s, duration_s, second
FROM contacts_rows FINAL;

CREATE TABLE IF NOT EXISTS inspections_rows
(
    event_id String,
    at DateTime64(3, 'UTC'),
    unit_id String,
    form String,
    item String,
    points Float64,
    of Float64,
    inspector_id String,
    note String
)
ENGINE = ReplacingMergeTree
ORDER BY (unit_id, event_id);

CREATE OR REPLACE VIEW inspections AS
SELECT event_id, at, unit_id, form, item, points, of, inspector_id, note
FROM inspections_rows FINAL;

CREATE TABLE IF NOT EXISTS ratings_rows
(
    event_id String,
    at DateTime64(3, 'UTC'),
    unit_id String,
    satisfied UInt8,
    agent_id String
)
ENGINE = ReplacingMergeTree
ORDER BY (unit_id, event_id);

CREATE OR REPLACE VIEW ratings AS
SELECT event_id, at, unit_id, satisfied, agent_id
FROM ratings_rows FINAL;

CREATE TABLE IF NOT EXISTS exams_rows
(
    event_id String,
    at DateTime64(3, 'UTC'),
    unit_id String,
    agent_id String,
    kind String,
    score Nullable(Float64),
    attended UInt8
)
ENGINE = ReplacingMergeTree
ORDER BY (unit_id, event_id);

CREATE OR REPLACE VIEW exams AS
SELECT event_id, at, unit_id, agent_id, kind, score, attended
FROM exams_rows FINAL;
