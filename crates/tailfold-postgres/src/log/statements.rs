//! The statements of a read of the log.
//!
//! Both give the same events. One looks at all positions of a range. The other asks an index for the positions of what may match,
//! a list for each value that a clause names, and looks at these alone: quick where little matches, slower where most does.

use tailfold::{Clause, Filter};

use crate::filter::{Values, any_clause};
use crate::rows::{COLUMNS, PAGE_BYTES, PAGE_EVENTS};

/// Lists of one statement; a filter of more values is not worth it.
const MOST_LISTS: usize = 64;

/// A page of the events that match a filter, after `$1` and up to `$2`.
pub(super) struct Statements {
    /// Looks at the whole range.
    pub(super) scan: String,
    /// Looks at what indexes lead to, and has a last row that tells how far the page is complete. `None`: no index leads to
    /// what some clause wants.
    pub(super) by_index: Option<String>,
    /// `$3` of both.
    pub(super) values: Vec<String>,
}

impl Statements {
    pub(super) fn new(filter: &Filter, schema: &str) -> Self {
        let mut values = Values::new("$3");
        let matches = any_clause(filter, &mut values);
        // A statement that names no value still has the parameter.
        let scan = page(&format!(
            "{schema}.events e WHERE e.position > $1 AND e.position <= $2 AND $3::text[] IS NOT NULL AND {matches}"
        ));
        let by_index = lists(filter, schema, &mut values).map(|lists| {
            let lists: Vec<_> = lists
                .iter()
                .enumerate()
                .map(|(list, sql)| format!("SELECT {list} AS list, position FROM ({sql}) AS l"))
                .collect();
            // `OFFSET 0` keeps the planner from reading the range instead: it cannot know how few candidates there are.
            let page = page(&format!(
                "(SELECT DISTINCT position FROM candidates WHERE position <= (SELECT position FROM bound)) AS c
                 CROSS JOIN LATERAL (SELECT * FROM {schema}.events WHERE position = c.position OFFSET 0) AS e WHERE {matches}"
            ));
            // As many candidates of each list as a page holds; what lies beyond the last of a full list waits.
            format!(
                "WITH candidates AS MATERIALIZED ({lists}), bound AS MATERIALIZED (
                     SELECT coalesce(min(last), $2) AS position FROM (
                         SELECT max(position) AS last FROM candidates GROUP BY list HAVING count(*) = {PAGE_EVENTS}) AS f)
                 SELECT * FROM ({page}) AS p
                 UNION ALL
                 SELECT position, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM bound",
                lists = lists.join(" UNION ALL "),
            )
        });
        Self { scan, by_index, values: values.list }
    }
}

/// The first events of `e`, as many as a page holds.
fn page(from: &str) -> String {
    format!(
        "SELECT {COLUMNS}, e.stream FROM (
             SELECT e.*, length(e.payload) + length(e.metadata) AS size,
                    sum(length(e.payload) + length(e.metadata)) OVER (ORDER BY e.position ROWS UNBOUNDED PRECEDING) AS total
             FROM {from}
             ORDER BY e.position LIMIT {PAGE_EVENTS}) AS e
         WHERE e.total - e.size < {PAGE_BYTES} ORDER BY e.position"
    )
}

/// Queries for the positions of all that may match, each in order and no more than a page holds.
fn lists(filter: &Filter, schema: &str, values: &mut Values) -> Option<Vec<String>> {
    let mut lists = Vec::new();
    for clause in filter.clauses() {
        let Clause { categories, types, streams, tags, .. } = clause;
        if !tags.is_empty() {
            let tags: Vec<_> = tags.iter().map(|tag| values.add(tag.as_str())).collect();
            lists.push(with_tags(&tags, schema));
        } else if !streams.is_empty() {
            lists.extend(streams.iter().map(|stream| of_stream(&values.add(stream.as_str()), schema)));
        } else if !types.is_empty() {
            lists.extend(types.iter().map(|name| with("type", &values.add(name.as_str()), schema)));
        } else if !categories.is_empty() {
            let category =
                |name: &String| with("split_part(stream, '/', 1)", &values.add(name.as_str()), schema);
            lists.extend(categories.iter().map(category));
        } else {
            return None;
        }
    }
    // Whoever has folded events of a stream learns that it was erased or truncated.
    lists.push(with("type", "'tailfold.truncated'", schema));
    lists.push(format!(
        "SELECT position FROM {schema}.events WHERE type = 'tailfold.erased' AND position > $1 AND position <= $2
         ORDER BY position LIMIT {PAGE_EVENTS}"
    ));
    (lists.len() <= MOST_LISTS).then_some(lists)
}

/// By one of the indexes that begin with a fact. Pairs are compared, so that the order is that of no other index.
fn with(fact: &str, value: &str, schema: &str) -> String {
    format!(
        "SELECT position FROM {schema}.events WHERE ({fact}, position) > ({value}, $1) AND ({fact}, position) <= ({value}, $2)
         ORDER BY {fact}, position LIMIT {PAGE_EVENTS}"
    )
}

/// Those of a stream's last life, in the order of versions, in which positions grow. Where they begin to lie after `$1`, no index
/// tells: the versions are halved until it is found (`OFFSET 0`: each is looked up once, not for each bound). What was cut off counts as before it. Of earlier lives only tombstones are
/// left, which have a list of their own, as markers of truncations do.
fn of_stream(stream: &str, schema: &str) -> String {
    format!(
        "WITH RECURSIVE halved AS (
             (SELECT life, 0::bigint AS low, version AS high FROM (
                  SELECT life, version, position FROM {schema}.events
                  WHERE stream = {stream} ORDER BY life DESC, version DESC LIMIT 1) AS last WHERE position > $1)
             UNION ALL
             SELECT life, CASE WHEN is_after THEN low ELSE middle END, CASE WHEN is_after THEN middle ELSE high END
             FROM (SELECT h.*, m.middle, coalesce((
                       SELECT e.position > $1 FROM {schema}.events e
                       WHERE e.stream = {stream} AND e.life = h.life AND e.version = m.middle), false) AS is_after
                   FROM halved h CROSS JOIN LATERAL (SELECT (h.low + h.high) / 2 AS middle) AS m
                   WHERE h.high - h.low > 1 OFFSET 0) AS tried
         ), first AS MATERIALIZED (SELECT life, high AS version FROM halved ORDER BY high - low LIMIT 1)
         SELECT position FROM (
             SELECT e.position FROM {schema}.events e
             WHERE e.stream = {stream} AND e.life = (SELECT life FROM first) AND e.version >= (SELECT version FROM first)
             ORDER BY e.version LIMIT {PAGE_EVENTS}) AS e
         WHERE position <= $2"
    )
}

/// Positions of events that bear all of the tags.
fn with_tags(tags: &[String], schema: &str) -> String {
    let others: String = tags
        .iter()
        .skip(1)
        .map(|tag| {
            format!(
                " AND EXISTS (SELECT FROM {schema}.event_tags o WHERE o.tag = {tag} AND o.position = t.position)"
            )
        })
        .collect();
    let first = tags.first().map_or("NULL", String::as_str);
    format!(
        "SELECT t.position FROM {schema}.event_tags t WHERE t.tag = {first} AND t.position > $1 AND t.position <= $2{others}
         ORDER BY t.position LIMIT {PAGE_EVENTS}"
    )
}
