//! Who holds others up: sessions and prepared transactions, in words that say how to end them.

use tokio_postgres::Row;

/// Those who hold a lock on the log, in a mode that keeps others from reading or from appending.
pub(crate) fn of_the_log(schema: &str) -> String {
    list(schema, "log.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')")
}

/// Those who may have drawn a position and have not ended: their transactions are older than `$1`, a text.
pub(crate) fn of_positions(schema: &str) -> String {
    list(
        schema,
        "log.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock') AND age(own.transactionid) > age($1::text::xid)",
    )
}

/// Those whose transactions are not short and keep a removal from its lock on the log.
pub(crate) fn of_removals(schema: &str) -> String {
    list(
        schema,
        "log.mode NOT IN ('AccessShareLock', 'RowShareLock')
             AND coalesce(a.xact_start, p.prepared, '-infinity') < clock_timestamp() - interval '1 second'",
    )
}

fn list(schema: &str, condition: &str) -> String {
    // A prepared transaction has no process: its name is found by its id, on which it holds a lock as every writer does.
    format!(
        "SELECT DISTINCT log.pid, p.gid, a.state, a.application_name
         FROM pg_locks AS log
         LEFT JOIN pg_locks AS own ON own.virtualtransaction = log.virtualtransaction
             AND own.locktype = 'transactionid' AND own.mode = 'ExclusiveLock'
         LEFT JOIN pg_prepared_xacts AS p ON log.pid IS NULL AND p.transaction = own.transactionid
         LEFT JOIN pg_stat_activity AS a ON a.pid = log.pid
         WHERE log.locktype = 'relation' AND log.relation = to_regclass('{schema}.events') AND log.granted
             AND log.database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND log.pid IS DISTINCT FROM pg_backend_pid() AND {condition}
         ORDER BY log.pid, p.gid LIMIT 5"
    )
}

/// The rows as a clause of an error; `None` if there are none.
pub(crate) fn told(found: &[Row]) -> Option<String> {
    let names: Vec<_> = found.iter().map(name).collect();
    match names.as_slice() {
        [] => None,
        names => Some(format!("held up by {}", names.join(" and "))),
    }
}

fn name(row: &Row) -> String {
    let text = |column| row.try_get::<_, Option<String>>(column).ok().flatten();
    if let Some(gid) = text(1) {
        let quoted = gid.replace('\'', "''");
        return format!("prepared transaction `{gid}` (to end it: ROLLBACK PREPARED '{quoted}', or COMMIT)");
    }
    let Some(pid) = row.try_get::<_, Option<i32>>(0).ok().flatten() else {
        return "a prepared transaction that has ended since".to_owned();
    };
    let state = text(2).unwrap_or_else(|| "state unknown".to_owned());
    let application =
        text(3).filter(|name| !name.is_empty()).map_or_else(String::new, |name| format!(" of `{name}`"));
    format!("process {pid}{application}, {state} (to end it: SELECT pg_terminate_backend({pid}))")
}
