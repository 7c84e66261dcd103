#!/bin/sh
# failover_command: run by pgpool when a node was detached. Promotes the new main node if the primary is gone.
# All nodes live on this host, so no ssh. Made by pgpool_setup.
@SETTINGS@

failed_id=$1        # %d
failed_port=$3      # %p
new_main_id=$5      # %m, -1 when no node is left
old_primary_id=$8   # %P
new_main_data=${10} # %R
old_primary_port=${12:-} # %S

say() { echo "$(date '+%F %T') failover.sh: $*" >>"$BASE/log/failover.log"; }

say "node $failed_id (port $failed_port) is gone; old primary $old_primary_id, new main $new_main_id"

if [ -z "$new_main_id" ] || [ "$new_main_id" -lt 0 ] || [ -z "$new_main_data" ]; then
    say "no node is left: nothing to promote"
    exit 0
fi

if [ "$failed_id" -ne "$old_primary_id" ]; then
    if [ "$USE_SLOTS" = 1 ] && [ -n "$old_primary_port" ]; then
        # Nobody reads the lost standby's slot now: WAL kept for it would fill the primary's disk.
        (as_owner "$PGBIN/psql" -X -q -h localhost -p "$old_primary_port" -U "$SUPERUSER" -d postgres -c \
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
             WHERE slot_name = 'server$failed_id' AND NOT active") >>"$BASE/log/failover.log" 2>&1
    fi
    say "the primary is still there: nothing to promote"
    exit 0
fi

say "promoting node $new_main_id ($new_main_data)"
(as_owner "$PGBIN/pg_ctl" -w -D "$new_main_data" promote) >>"$BASE/log/failover.log" 2>&1
status=$?
say "promotion ended with exit code $status"
exit $status
