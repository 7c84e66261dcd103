#!/bin/sh
# follow_primary_command: run by pgpool for each other node after the primary changed. Makes a running standby follow the
# new primary and attaches it again. Made by pgpool_setup.
@SETTINGS@

node_id=$1            # %d
node_host=$2          # %h
node_port=$3          # %p
node_data=$4          # %D
new_primary_id=$5     # %m
new_primary_host=$6   # %H
new_primary_port=$9   # %r
new_primary_data=${10} # %R

say() { echo "$(date '+%F %T') follow_primary.sh: $*" >>"$BASE/log/failover.log"; }

if ! (as_owner "$PGBIN/pg_ctl" -D "$node_data" status) >/dev/null 2>&1; then
    say "node $node_id is not running: left as it is (pcp_recovery_node brings it back)"
    exit 0
fi

say "node $node_id shall follow node $new_primary_id"
{
    (as_owner "$PGBIN/pg_ctl" -w -m fast -D "$node_data" stop) &&
    (as_owner "$new_primary_data/basebackup.sh" "$new_primary_data" "$node_host" "$node_data" "$new_primary_port" \
        "$node_id" "$node_port" "$new_primary_host") &&
    (as_owner "$new_primary_data/pgpool_remote_start" "$node_host" "$node_data") &&
    PCPPASSFILE="$BASE/pcppass" "$(dirname "$PGPOOL")/pcp_attach_node" -w -h localhost -p "$PCP_PORT" \
        -U "$SUPERUSER" -n "$node_id"
} >>"$BASE/log/failover.log" 2>&1
status=$?
say "ended with exit code $status"
exit $status
