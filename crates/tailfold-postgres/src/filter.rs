//! Filters as conditions of SQL. Values are elements of one array of text, a parameter of the statement.

use std::fmt::Write as _;

use tailfold::{Clause, Filter};

/// Values that a condition refers to.
#[derive(Debug)]
pub(crate) struct Values {
    /// The parameter that is the array: `$2`.
    parameter: &'static str,
    pub(crate) list: Vec<String>,
}

impl Values {
    pub(crate) fn new(parameter: &'static str) -> Self {
        Self { parameter, list: Vec::new() }
    }

    pub(crate) fn add(&mut self, value: impl Into<String>) -> String {
        self.list.push(value.into());
        format!("({}::text[])[{}]", self.parameter, self.list.len())
    }
}

/// The first event that was added after `$1` and matches; values are in `$2`.
pub(crate) fn first_match(filter: &Filter, schema: &str) -> (String, Vec<String>) {
    let mut values = Values::new("$2");
    let parts: Vec<_> = filter
        .clauses()
        .iter()
        .map(|clause| match clause.tags.as_slice() {
            [] => format!(
                "(SELECT min(e.position) FROM {schema}.events e WHERE e.position > $1 AND {})",
                condition(clause, &mut values)
            ),
            [tag, ..] => {
                let tag = values.add(tag.as_str());
                let condition = condition(clause, &mut values);
                let removed = streams(clause, &mut values);
                format!(
                    "(SELECT min(e.position) FROM {schema}.event_tags t JOIN {schema}.events e ON e.position = t.position
                      WHERE t.tag = {tag} AND t.position > $1 AND {condition}),
                     (SELECT min(e.position) FROM {schema}.events e
                      WHERE e.type IN ({REMOVALS}) AND e.position > $1 AND {removed})"
                )
            }
        })
        .collect();
    (format!("SELECT least({})", parts.join(", ")), values.list)
}

/// The types of events that tell of events that are gone.
const REMOVALS: &str = "'tailfold.erased', 'tailfold.truncated'";

/// Whether the event `e` matches a filter.
pub(crate) fn any_clause(filter: &Filter, values: &mut Values) -> String {
    let clauses: Vec<_> = filter.clauses().iter().map(|clause| condition(clause, values)).collect();
    match clauses.as_slice() {
        [] => "false".to_owned(),
        clauses => format!("({})", clauses.join(" OR ")),
    }
}

/// Whether the event `e` matches a clause.
fn condition(clause: &Clause, values: &mut Values) -> String {
    let mut text = format!("({}", streams(clause, values));
    let mut facts = Vec::new();
    if !clause.types.is_empty() {
        let types: Vec<_> = clause.types.iter().map(|name| values.add(name.as_str())).collect();
        facts.push(format!("e.type IN ({})", types.join(", ")));
    }
    if !clause.tags.is_empty() {
        let tags: Vec<_> = clause.tags.iter().map(|tag| values.add(tag.as_str())).collect();
        facts.push(format!("e.tags @> ARRAY[{}]", tags.join(", ")));
    }
    if !facts.is_empty() {
        // Whoever has folded events of a stream learns that it was erased or truncated.
        let _ = write!(text, " AND (e.type IN ({REMOVALS}) OR ({}))", facts.join(" AND "));
    }
    text + ")"
}

/// Whether the stream of `e` is one of a clause's.
fn streams(clause: &Clause, values: &mut Values) -> String {
    let mut parts = Vec::new();
    if !clause.categories.is_empty() {
        let categories: Vec<_> = clause
            .categories
            .iter()
            .map(|category| {
                // `0` comes after `/`: all names that begin with the category and its slash.
                let from = values.add(format!("{category}/"));
                let to = values.add(format!("{category}0"));
                format!("(e.stream >= {from} AND e.stream < {to})")
            })
            .collect();
        parts.push(format!("({})", categories.join(" OR ")));
    }
    if !clause.streams.is_empty() {
        let names: Vec<_> = clause.streams.iter().map(|stream| values.add(stream.as_str())).collect();
        parts.push(format!("e.stream IN ({})", names.join(", ")));
    }
    match parts.as_slice() {
        [] => "true".to_owned(),
        parts => parts.join(" AND "),
    }
}
