SET application_name = 'versus';
SHOW application_name;
SET DateStyle = 'German';
SELECT date '2020-02-03';
RESET DateStyle;
SELECT date '2020-02-03';
BEGIN;
SET LOCAL work_mem = '7MB';
SHOW work_mem;
COMMIT;
SHOW work_mem;
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;
CREATE TABLE never ();
SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE;
SET ROLE pg_monitor;
SELECT current_user, session_user;
RESET ROLE;
SET client_encoding = 'LATIN1';
\encoding
\encoding UTF8
SET search_path = nowhere, public;
SHOW search_path;
DISCARD ALL;
SHOW search_path;
SET LOCAL work_mem = '1MB';
