# cython: language_level=3
# The other directives come from setup.py: checks off, or on in a debug build (a directive here would win over those).
"""The compiled unit of the hot path: a table of contents over its parts (house.md section 2).

frame       byte buffers and message framing
fingerprint a literal-blind hash of one SQL string
verdicts    the shared table fingerprint -> route
statements  a session's named statements, as far as the hot path needs them
counts      what is counted, in shared memory
openssl     the functions of libssl, found at run time; a TLS context
tls         the record layer of one connection
link        one backend connection: what was asked, what is still to be answered
notify      requests of whose end Python wants to hear
report      what this child is doing, for SHOW and ps
relay       one session: what a backend answered, to the client
send        to backends, and waiting for one to answer
scan        what the client sent: settle each message
wait        for the client, a backend, a signal
session     the Relay class that Python drives
heard       what backends said, for the log
repeat      a read that a standby could not answer goes to the primary
unnamed     the unnamed statement, for Python
doubt       what servers say that makes us ask who the primary is
guest       a client that comes again, and is served as the last time
door        waiting for clients, and what they say first
privacy     a guest's first packet from under TLS
birth       fork, and the first moments of a child

Functions here check every length before they trust it, return reason codes and never raise for normal events.
"""

include "_fastpath/frame.pxi"
include "_fastpath/fingerprint.pxi"
include "_fastpath/verdicts.pxi"
include "_fastpath/statements.pxi"
include "_fastpath/counts.pxi"
include "_fastpath/openssl.pxi"
include "_fastpath/tls.pxi"
include "_fastpath/link.pxi"
include "_fastpath/relay.pxi"
include "_fastpath/notify.pxi"
include "_fastpath/report.pxi"
include "_fastpath/send.pxi"
include "_fastpath/scan.pxi"
include "_fastpath/wait.pxi"
include "_fastpath/session.pxi"
include "_fastpath/heard.pxi"
include "_fastpath/repeat.pxi"
include "_fastpath/epoch.pxi"
include "_fastpath/unnamed.pxi"
include "_fastpath/doubt.pxi"
include "_fastpath/door.pxi"
include "_fastpath/privacy.pxi"
include "_fastpath/guest.pxi"
include "_fastpath/birth.pxi"
