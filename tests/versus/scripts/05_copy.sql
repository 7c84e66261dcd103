CREATE TABLE vc (id int, t text);
COPY vc FROM stdin;
1	one
2	\N
3	th\\ree
\.
COPY vc TO stdout;
COPY (SELECT id FROM vc ORDER BY id DESC) TO stdout WITH (FORMAT csv, HEADER);
COPY vc FROM stdin;
4	four
five	five
\.
SELECT count(*) FROM vc;
\copy vc FROM pstdin CSV
6,six
7,"se,ven"
\.
\copy (SELECT * FROM vc WHERE id > 5 ORDER BY id) TO pstdout CSV
COPY vc (nope) FROM stdin;
BEGIN;
COPY vc FROM stdin;
8	eight
\.
ROLLBACK;
SELECT count(*) FROM vc;
DROP TABLE vc;
