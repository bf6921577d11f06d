//! Listing streams: from one name to the next by the index, however many events lie between.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use tailfold::{Filter, Result, StoreId, StreamBatches, StreamId, StreamSummary};

use crate::rows;
use crate::store::Inner;

const LISTED: usize = 1000;

/// The streams of a range of names that are not empty, or one row without a name; each tells whether the
/// schema still holds the store.
pub(crate) fn statement(schema: &str, id: StoreId) -> String {
    let next = |from: &str| {
        format!(
            "(SELECT stream FROM {schema}.events WHERE stream {from} AND stream < $2 ORDER BY stream LIMIT 1)"
        )
    };
    format!(
        "WITH RECURSIVE names (stream, number) AS (
             SELECT n.stream, 1 FROM {first} AS n
             UNION ALL
             SELECT n.stream, names.number + 1 FROM names CROSS JOIN LATERAL {following} AS n WHERE names.number < {LISTED})
         SELECT l.version, l.chain, l.stream, l.type = 'tailfold.erased', own.is_own
         FROM (SELECT EXISTS (SELECT FROM {schema}.meta WHERE store_id = '{id}') AS is_own) AS own LEFT JOIN (
             SELECT names.stream, names.number, e.version, e.chain, e.type
             FROM names CROSS JOIN LATERAL (
                 SELECT version, chain, type FROM {schema}.events e WHERE e.stream = names.stream
                 ORDER BY e.life DESC, e.version DESC LIMIT 1) AS e) AS l ON true
         ORDER BY l.number",
        first = next(">= $1"),
        following = next("> names.stream"),
    )
}

struct Listing {
    inner: Arc<Inner>,
    filter: Filter,
    ranges: std::vec::IntoIter<(String, String)>,
    range: Option<(String, String)>,
}

pub(crate) fn list(inner: Arc<Inner>, filter: Filter, after: Option<StreamId>) -> StreamBatches {
    let ranges = ranges(&filter, after.as_ref());
    let listing = Listing { inner, filter, ranges: ranges.into_iter(), range: None };
    stream::try_unfold(listing, |mut listing| async move {
        let page = listing.next().await.map_err(|error| error.during("list streams"))?;
        Ok(page.map(|page| (page, listing)))
    })
    .boxed()
}

impl Listing {
    async fn next(&mut self) -> Result<Option<Vec<StreamSummary>>> {
        loop {
            let Some((from, to)) = self.range.take().or_else(|| self.ranges.next()) else { return Ok(None) };
            let statement = &self.inner.statements.streams;
            let found = self.inner.connections.rows(statement, &[&from, &to]).await?;
            if let Some(last) = found.last().filter(|_| found.len() == LISTED) {
                self.range = Some((behind(rows::value(last, 2)?), to));
            }
            let mut page = Vec::with_capacity(found.len());
            for row in &found {
                self.inner.check_own(row, 4)?;
                let Some(stream) = rows::value::<Option<&str>>(row, 2)? else { continue };
                let stream: StreamId = stream.parse()?;
                if !rows::value::<bool>(row, 3)? && self.filter.matches_stream(&stream) {
                    page.push(StreamSummary { stream, head: rows::head(row, 0, 1)? });
                }
            }
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
    }
}

/// Ranges of names, without their ends, that hold everything that matches after a name. They do not overlap.
fn ranges(filter: &Filter, after: Option<&StreamId>) -> Vec<(String, String)> {
    // Categories are ASCII: every name is below this.
    const END: &str = "~~";
    let mut ranges = Vec::new();
    for clause in filter.clauses() {
        match (clause.streams.as_slice(), clause.categories.as_slice()) {
            ([], []) => ranges.push((String::new(), END.to_owned())),
            // `0` comes after `/`.
            ([], categories) => {
                ranges.extend(categories.iter().map(|name| (format!("{name}/"), format!("{name}0"))))
            }
            (streams, _) => {
                ranges.extend(streams.iter().map(|name| (name.as_str().to_owned(), behind(name.as_str()))))
            }
        }
    }
    ranges.sort();
    let begin = after.map(|name| behind(name.as_str())).unwrap_or_default();
    let mut disjoint: Vec<(String, String)> = Vec::new();
    for (from, to) in ranges {
        match disjoint.last_mut() {
            Some((_, end)) if from < *end => *end = to.max(std::mem::take(end)),
            _ => disjoint.push((from.max(begin.clone()), to)),
        }
    }
    disjoint.retain(|(from, to)| from < to);
    disjoint
}

/// A text behind a name and before every other name that is: control characters are in none.
fn behind(name: &str) -> String {
    format!("{name}\u{1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_matches_once_and_begin_after_the_name() {
        let streams = |name: &str| Filter::stream(name.parse().unwrap());
        let after: StreamId = "b/5".parse().unwrap();
        let filter = Filter::category("b").or(streams("b/7")).or(streams("c/1")).or(Filter::category("a"));
        let of = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(ranges(&filter, Some(&after)), [of("b/5\u{1}", "b0"), of("c/1", "c/1\u{1}")]);
        assert_eq!(ranges(&filter, None), [of("a/", "a0"), of("b/", "b0"), of("c/1", "c/1\u{1}")]);
        assert_eq!(ranges(&Filter::all().or(filter), None), [of("", "~~")]);
    }
}
