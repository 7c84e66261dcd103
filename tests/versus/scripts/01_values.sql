SELECT 1 AS one, NULL AS nothing, 'text' AS t, 1.50::numeric AS n, true AS b, ARRAY[1,2] AS a, '{"k": 1}'::jsonb AS j;
SELECT g, repeat('x', g) FROM generate_series(1, 5) g;
SELECT 1 WHERE false;
VALUES (1, 'a'), (2, 'b');
SELECT;
;
SELECT 'häß€' AS "Ümlaut";
\x
SELECT 1 AS a, 2 AS b;
\x
SELECT 1 AS a \gset
\echo :a
SELECT 'SELECT 7 AS seven' \gexec
SELECT 1; SELECT 2 \; SELECT 3;
