//! Listing streams by name.

use rusqlite::Connection;
use tailfold::{Error, Filter, StreamId, StreamSummary};

use crate::error::Result;
use crate::pages::{After, Cursor};
use crate::readers::Reader;
use crate::stream;

const LISTED: i64 = 500;

#[derive(Clone)]
pub(crate) struct StreamsCursor {
    filter: Filter,
    after: String,
    /// Names from here on belong to no category that is wanted.
    end: Option<String>,
}

impl StreamsCursor {
    pub(crate) fn new(filter: Filter, after: Option<StreamId>) -> Self {
        let after = after.map(String::from).unwrap_or_default();
        match filter.clauses() {
            [clause] if clause.categories.len() == 1 => {
                let category = clause.categories.concat();
                // `0` follows `/`.
                Self { after: after.max(format!("{category}/")), end: Some(format!("{category}0")), filter }
            }
            _ => Self { filter, after, end: None },
        }
    }
}

impl Cursor for StreamsCursor {
    type Page = Vec<StreamSummary>;

    fn next(&mut self, reader: &mut Reader) -> Result<(Option<Self::Page>, After)> {
        let rows = reader.consistent(|reader| self.rows(&reader.connection))?;
        let after = if rows.len() < LISTED as usize { After::End } else { After::More };
        if let Some((name, ..)) = rows.last() {
            self.after.clone_from(name);
        }
        let mut page = Vec::new();
        for (name, head) in rows {
            let stream: StreamId = name
                .parse()
                .map_err(|error: Error| Error::corrupt("a stream's name is malformed").caused_by(error))?;
            if self.filter.matches_stream(&stream) {
                let head = head.ok_or_else(|| {
                    Error::corrupt(format!("stream `{stream}` is listed, but its events are gone"))
                })?;
                page.push(StreamSummary { stream, head });
            }
        }
        Ok(((!page.is_empty()).then_some(page), after))
    }

    fn operation(&self) -> String {
        "list streams".to_owned()
    }
}

impl StreamsCursor {
    fn rows(&self, connection: &Connection) -> Result<Vec<(String, Option<tailfold::Head>)>> {
        let mut statement = connection.prepare_cached(
            "SELECT ref, stream FROM streams
             WHERE erased IS NULL AND stream > ?1 AND (?2 IS NULL OR stream < ?2) ORDER BY stream LIMIT ?3",
        )?;
        let mut found = statement.query((&self.after, &self.end, LISTED))?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            rows.push((row.get(1)?, stream::head_of_life(connection, row.get(0)?)?));
        }
        Ok(rows)
    }
}
