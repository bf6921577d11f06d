//! The statements of reads. Those that a read begins with tell in their first row whether the schema still
//! holds the store.

use tailfold::StoreId;

use crate::rows::{self, COLUMNS, PAGE_BYTES, PAGE_EVENTS};

/// Bytes of payload, or of metadata, from which an event of a page is a large one: a page without has a few MiB at most.
const LARGE: usize = 4 << 10;
/// Events that come with a snapshot at once, and the bytes from which they do not.
pub(crate) const TAIL_EVENTS: usize = 100;
const TAIL_LARGE: usize = 256 << 10;

/// The statements of reads, written once a store.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) head: String,
    pub(crate) snapshot: String,
    pub(crate) first: [String; 2],
    pub(crate) next: [String; 2],
    pub(crate) next_by_size: [String; 2],
    pub(crate) with_snapshot: String,
    pub(crate) lowest: String,
}

impl Statements {
    pub(crate) fn new(schema: &str, id: StoreId) -> Self {
        let is_own = format!("EXISTS (SELECT FROM {schema}.meta WHERE store_id = '{id}')");
        let last = format!(
            "SELECT life, version, chain, type FROM {schema}.events WHERE stream = $1 ORDER BY life DESC, version DESC LIMIT 1"
        );
        let snapshot = format!(
            "SELECT s.version, s.chain, s.used, p.envelope FROM {schema}.snapshots s
             LEFT JOIN {schema}.snapshot_payloads p ON p.snapshot = s.ref
             WHERE s.fold = {{fold}} AND s.serial = {{serial}} AND s.key = {{key}} AND s.version <= {{bound}}
             ORDER BY s.version DESC LIMIT 1"
        );
        let placed = |fold: &str, serial: &str, key: &str, bound: &str| {
            snapshot
                .replace("{fold}", fold)
                .replace("{serial}", serial)
                .replace("{key}", key)
                .replace("{bound}", bound)
        };
        // Large payloads stay behind: they are for `page_by_size`. First pages, which most loads end with, are measured.
        let page = |life: &str, from: &str, to: &str, order: &str| {
            format!(
                "SELECT {columns} FROM {schema}.events e
                 WHERE e.stream = $1 AND e.life = {life} AND e.version >= {from} AND e.version <= {to}
                 ORDER BY e.version {order} LIMIT {PAGE_EVENTS}",
                columns = rows::columns_without_large(LARGE),
            )
        };
        // Columns with the sizes up to each row, so that a page of large payloads is a short one. The sums take the server a
        // third as long again as the rows.
        let page_by_size = |life: &str, from: &str, to: &str, order: &str| {
            format!(
                "SELECT {columns} FROM (
                     SELECT e.*, length(e.payload) + length(e.metadata) AS size,
                            sum(length(e.payload) + length(e.metadata)) OVER (ORDER BY e.version {order} ROWS UNBOUNDED PRECEDING) AS total
                     FROM {schema}.events e
                     WHERE e.stream = $1 AND e.life = {life} AND e.version >= {from} AND e.version <= {to}
                     ORDER BY e.version {order} LIMIT {PAGE_EVENTS}) AS e
                 WHERE e.total - e.size < {PAGE_BYTES}",
                columns = COLUMNS,
            )
        };
        let living = "(SELECT life FROM last WHERE type <> 'tailfold.erased')";
        let nothing = "NULL::bigint, NULL::bigint, NULL::uuid, NULL::text, NULL::bigint, NULL::bigint, NULL::boolean, \
                       NULL::bytea, NULL::bytea, NULL::text[], NULL::bytea";
        let end = "(SELECT life FROM last WHERE type <> 'tailfold.erased'), (SELECT version FROM last)";
        let none = "NULL::integer, NULL::bigint, NULL::bigint, NULL::boolean";
        let lowest = |life: &str| {
            format!(
                "SELECT e.version, e.origin FROM {schema}.events e WHERE e.stream = $1 AND e.life = {life}
                 ORDER BY e.version LIMIT 1"
            )
        };
        // Where the stream is cut off. A read forward sees that by its first event.
        let cut = format!("(SELECT l.version FROM ({}) AS l WHERE l.origin)", lowest(living));
        let first = |order: &str, cut: &str| {
            format!(
                "WITH last AS MATERIALIZED ({last})
                 SELECT {nothing}, {end}, {cut}, {is_own}
                 UNION ALL
                 SELECT p.*, {none} FROM ({page}) AS p",
                page = page_by_size(living, "$2", "$3", order),
            )
        };
        Self {
            head: format!(
                "SELECT {is_own}, l.version, l.chain, l.type FROM (SELECT) AS one LEFT JOIN ({last}) AS l ON true"
            ),
            snapshot: format!(
                "SELECT s.version, s.chain, s.used, s.envelope, {is_own} FROM (SELECT) AS one LEFT JOIN ({}) AS s ON true",
                placed("$1", "$2", "$3", "$4")
            ),
            first: [first("ASC", "NULL::bigint"), first("DESC", &cut)],
            next: ["ASC", "DESC"].map(|order| page("$2", "$3", "$4", order)),
            next_by_size: ["ASC", "DESC"].map(|order| page_by_size("$2", "$3", "$4", order)),
            // The envelope comes with the event that it is anchored at, and alone where there is none.
            with_snapshot: format!(
                "SELECT {columns}, e.life, s.version, s.chain, s.used,
                        CASE WHEN e.version <= s.version OR e.version IS NULL THEN s.envelope END, {is_own}
                 FROM (SELECT) AS one
                 LEFT JOIN ({snapshot}) AS s ON true
                 LEFT JOIN LATERAL (
                     SELECT * FROM {schema}.events e
                     WHERE e.stream = $1 AND e.version >= coalesce(s.version, 0) AND e.version <= $2 AND e.life = (
                         SELECT l.life FROM {schema}.events l WHERE l.stream = $1 ORDER BY l.life DESC LIMIT 1)
                     ORDER BY e.version LIMIT {TAIL_EVENTS}) AS e ON true",
                columns = rows::columns_without_large(TAIL_LARGE),
                snapshot = placed("$3", "$4", "$5", "$2"),
            ),
            lowest: lowest("$2"),
        }
    }
}
