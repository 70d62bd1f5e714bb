-- The channel's figures: outlets, wholesalers, diversion, commission, halls. See docs/channel.md.

CREATE TABLE IF NOT EXISTS outlet_ranking_rows
(
    run_id         String,
    period         String,
    outlet_id      String,
    wholesaler_id  String,
    territory_id   String,
    sales          Int64,
    sales_before   Nullable(Int64),
    growth         Nullable(Float64),
    sales_rank     Int64,
    deliveries     Int64,
    received       Int64,
    on_hand        Nullable(Int64),
    shelf_days     Int64,
    shelf_days_out Int64,
    stock_out_rate Nullable(Float64),
    daily_sales    Nullable(Float64),
    lost_sales     Float64,
    days_of_cover  Nullable(Float64),
    status         String,
    promote        UInt8,
    reasons        String
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (period, outlet_id);

CREATE OR REPLACE VIEW outlet_ranking AS
SELECT * EXCEPT run_id
FROM outlet_ranking_rows ANY LEFT JOIN batch_reach USING (run_id)
WHERE run_id IN (SELECT run_id FROM batch_current);

CREATE TABLE IF NOT EXISTS wholesaler_scorecard_rows
(
    run_id            String,
    period            String,
    wholesaler_id     String,
    incidents         Int64,
    due               Int64,
    on_time           Int64,
    timeliness        Nullable(Float64),
    stock_outs_open   Int64,
    activations       Int64,
    complete_papers   Int64,
    completeness      Nullable(Float64),
    diversion_cases   Int64,
    diversion_alarms  Int64,
    diverted_sims     Int64
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (period, wholesaler_id);

CREATE OR REPLACE VIEW wholesaler_scorecard AS
SELECT * EXCEPT run_id
FROM wholesaler_scorecard_rows ANY LEFT JOIN batch_reach USING (run_id)
WHERE run_id IN (SELECT run_id FROM batch_current);

-- What people decided about cases; rows are only added, the newest of a case and evidence counts.
CREATE TABLE IF NOT EXISTS diversion_decisions
(
    decision_id   String,
    case_key      String,
    evidence_hash String,
    decision      String,
    decided_by    String,
    decided_at    DateTime64(3, 'UTC'),
    why           String
)
ENGINE = MergeTree
ORDER BY (case_key, evidence_hash, decided_at, decision_id);

-- case_key names outlet and wholesaler; evidence_hash the SIMs carried away.
CREATE TABLE IF NOT EXISTS diversion_cases_rows
(
    run_id        String,
    case_id       String,
    case_key      String,
    evidence_hash String,
    period        String,
    outlet_id     String,
    wholesaler_id String,
    sims          Int64,
    away          Int64,
    share         Float64,
    low           Float64,
    high          Float64,
    level         String
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (period, case_id);

CREATE OR REPLACE VIEW diversion_cases AS
SELECT
    found.case_id AS case_id,
    found.case_key AS case_key,
    found.evidence_hash AS evidence_hash,
    found.period AS period,
    found.outlet_id AS outlet_id,
    found.wholesaler_id AS wholesaler_id,
    found.sims AS sims,
    found.away AS away,
    found.share AS share,
    found.low AS low,
    found.high AS high,
    found.level AS level,
    if(decided.decision = '', 'suspected', decided.decision) AS status,
    decided.decided_by AS decided_by,
    decided.decided_at AS decided_at,
    decided.why AS why,
    found.data_from AS data_from,
    found.data_until AS data_until,
    found.as_of AS as_of,
    found.zone AS zone
FROM
(
    SELECT *
    FROM diversion_cases_rows ANY LEFT JOIN batch_reach USING (run_id)
    WHERE run_id IN (SELECT run_id FROM batch_current)
) AS found
LEFT JOIN
(
    SELECT
        case_key,
        evidence_hash,
        argMax(diversion_decisions.decision, (diversion_decisions.decided_at, decision_id)) AS decision,
        argMax(diversion_decisions.decided_by, (diversion_decisions.decided_at, decision_id)) AS decided_by,
        argMax(diversion_decisions.why, (diversion_decisions.decided_at, decision_id)) AS why,
        toNullable(max(diversion_decisions.decided_at)) AS decided_at
    FROM diversion_decisions
    GROUP BY case_key, evidence_hash
) AS decided
ON found.case_key = decided.case_key AND found.evidence_hash = decided.evidence_hash;

CREATE TABLE IF NOT EXISTS diversion_evidence_rows
(
    run_id         String,
    period         String,
    case_id        String,
    imsi           Int64,
    iccid          String,
    activated_at   DateTime64(3, 'UTC'),
    calls          Int64,
    seconds        Int64,
    seconds_away   Int64,
    away_share     Float64
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (period, case_id, imsi);

CREATE OR REPLACE VIEW diversion_evidence AS
SELECT * EXCEPT run_id
FROM diversion_evidence_rows ANY LEFT JOIN batch_reach USING (run_id)
WHERE run_id IN (SELECT run_id FROM batch_current);

-- Money of one payee: what the lines of the outlet add up to, times the factor of attainment.
CREATE TABLE IF NOT EXISTS commission_rows
(
    run_id        String,
    period        String,
    role          String,
    outlet_id     String,
    activations   Int64,
    base_fen      Int64,
    target        Nullable(Int64),
    attainment    Nullable(Float64),
    factor        Float64,
    clawback_fen  Int64,
    amount_fen    Int64,
    explanation   String
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (period, role, outlet_id);

CREATE OR REPLACE VIEW commission AS
SELECT * EXCEPT run_id
FROM commission_rows ANY LEFT JOIN batch_reach USING (run_id)
WHERE run_id IN (SELECT run_id FROM batch_current);

CREATE TABLE IF NOT EXISTS commission_lines_rows
(
    run_id        String,
    period        String,
    outlet_id     String,
    wholesaler_id String,
    kind          String,
    imsi          Int64,
    iccid         String,
    sku           String,
    activated_at  DateTime64(3, 'UTC'),
    fee_fen       Int64,
    amount_fen    Int64,
    explanation   String
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (period, outlet_id, kind, imsi);

CREATE OR REPLACE VIEW commission_lines AS
SELECT * EXCEPT run_id
FROM commission_lines_rows ANY LEFT JOIN batch_reach USING (run_id)
WHERE run_id IN (SELECT run_id FROM batch_current);

CREATE TABLE IF NOT EXISTS hall_assessment_rows
(
    run_id         String,
    period         String,
    outlet_id      String,
    sales          Int64,
    target         Int64,
    sales_score    Float64,
    inspection     Float64,
    satisfaction   Float64,
    complaints     Float64,
    service_score  Float64,
    score          Float64
)
ENGINE = ReplacingMergeTree
PARTITION BY run_id
ORDER BY (period, outlet_id);

CREATE OR REPLACE VIEW hall_assessment AS
SELECT * EXCEPT run_id
FROM hall_assessment_rows ANY LEFT JOIN batch_reach USING (run_id)
WHERE run_id IN (SELECT run_id FROM batch_current);
