\set VERBOSITY verbose
SELECT nope;
SELEC 1;
SELECT 1/0;
SELECT * FROM no_such_table;
INSERT INTO no_such_table VALUES (1);
SELECT 'x'::int;
SELECT no_such_function(1);
SET no_such_parameter = 1;
COPY no_such_table FROM stdin;
EXECUTE nothing;
FETCH nothing;
ROLLBACK TO nothing;
SELECT 'still here';
