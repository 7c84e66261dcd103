#!/bin/sh
# recovery_1st_stage_command: makes a standby out of the main node. Run by the main node's PostgreSQL for
# pcp_recovery_node, by follow_primary.sh, and by pgpool_setup itself; always as the user who owns the data.
# Arguments (behaviour of pgpool_recovery): main data directory, target host, target data directory, main port,
# target node id, target port, main host. All nodes live on this host, so no ssh. Made by pgpool_setup.
@SETTINGS@

target_data=$3
main_port=$4
target_id=$5
target_port=$6
main_host=${7:-localhost}
slot=server$target_id
source="host=$main_host port=$main_port user=$SUPERUSER application_name=server$target_id"

set -e
cd "$BASE"
exec >>"$BASE/log/basebackup.log" 2>&1
echo "$(date '+%F %T') basebackup.sh: node $target_id ($target_data) from $main_host:$main_port"

case $target_data in "$BASE"/data*) ;; *)
    echo "$target_data is not one of our data directories"
    exit 1
esac
if "$PGBIN/pg_ctl" -D "$target_data" status >/dev/null 2>&1; then
    echo "a server runs on $target_data: stop it first"
    exit 1
fi

if [ "$USE_SLOTS" = 1 ]; then
    "$PGBIN/psql" -X -q -d "$source dbname=postgres" -c \
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '$slot' AND NOT active"
fi

rewound=0
if [ "$USE_REWIND" = 1 ] && [ -f "$target_data/PG_VERSION" ]; then
    # A primary promoted a moment ago shows its new timeline on disk only after a checkpoint.
    "$PGBIN/psql" -X -q -d "$source dbname=postgres" -c CHECKPOINT
    if "$PGBIN/pg_rewind" --target-pgdata="$target_data" --source-server="$source dbname=postgres"; then
        rewound=1
        : >"$target_data/standby.signal"
        echo "primary_conninfo = '$source'" >>"$target_data/postgresql.auto.conf"
        if [ "$USE_SLOTS" = 1 ]; then
            "$PGBIN/psql" -X -q -d "$source dbname=postgres" -c "SELECT pg_create_physical_replication_slot('$slot')"
            echo "primary_slot_name = '$slot'" >>"$target_data/postgresql.auto.conf"
        fi
    else
        echo "pg_rewind could not do it: a full copy follows"
    fi
fi

if [ "$rewound" = 0 ]; then
    # Only what is in it: its parent may belong to root.
    mkdir -p "$target_data"
    chmod 700 "$target_data"
    find "$target_data" -mindepth 1 -delete
    if [ "$USE_SLOTS" = 1 ]; then
        "$PGBIN/pg_basebackup" -D "$target_data" -d "$source" -R -X stream -c fast -C -S "$slot"
    else
        "$PGBIN/pg_basebackup" -D "$target_data" -d "$source" -R -X stream -c fast
    fi
fi

# What differs between the servers; see node.conf of the main node.
{
    echo "port = $target_port"
    if [ "$USE_ARCHIVE" = 1 ]; then
        mkdir -p "$BASE/archivedir/data$target_id"
        echo "archive_command = 'cp \"%p\" \"$BASE/archivedir/data$target_id/%f\"'"
        echo "restore_command = 'cp \"$BASE/archivedir/$(basename "$1")/%f\" \"%p\"'"
    fi
} >"$target_data/node.conf"
