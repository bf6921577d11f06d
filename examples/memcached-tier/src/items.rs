//! Items on memcached that are read, and changed in one step: as much of its text protocol as the tier needs.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Serialize, de::DeserializeOwned};
use tailfold::{Error, Outcome, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::{net::TcpStream, sync::Mutex, time::timeout};

/// Longest time that one request may take.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How long an item stays that nobody reads.
const RETENTION: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// What an item can hold.
pub(crate) trait Codable: Serialize + DeserializeOwned + Default + PartialEq {}

impl<V: Serialize + DeserializeOwned + Default + PartialEq> Codable for V {}

/// One connection, for one request at a time; made when it is needed, and again after a failure.
#[derive(Clone, Debug)]
pub(crate) struct Items {
    address: Arc<str>,
    // Taken out for a request, put back after the whole answer: whoever gives up in between leaves no half one behind.
    connection: Arc<Mutex<Option<BufStream<TcpStream>>>>,
}

impl Items {
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.into(), connection: Arc::default() }
    }

    /// What an item holds, nothing if there is none. Gives it its whole retention again.
    pub(crate) async fn read<V: Codable>(&self, item: &str) -> Result<V> {
        let Some((bytes, _)) = self.get(item).await? else { return Ok(V::default()) };
        let undecodable = |error| Error::corrupt(format!("item `{item}` is not ours")).caused_by(error);
        postcard::from_bytes(&bytes).map_err(undecodable)
    }

    /// Changes an item in one step, however many others do so. One that is not ours counts as empty; an empty one goes.
    pub(crate) async fn change<V: Codable, T>(
        &self,
        item: &str,
        mut change: impl FnMut(&mut V) -> T,
    ) -> Result<T> {
        loop {
            let (before, number) = self.get(item).await?.unzip();
            let decoded = before.as_deref().map(postcard::from_bytes);
            let mut value: V = decoded.and_then(Result::ok).unwrap_or_default();
            let changed = change(&mut value);
            let unencodable = |error| Error::codec(format!("encode item `{item}`")).caused_by(error);
            let after = match value == V::default() {
                true => Vec::new(),
                false => postcard::to_stdvec(&value).map_err(unencodable)?,
            };
            if before.unwrap_or_default() == after || self.put(item, &after, number.as_deref()).await? {
                return Ok(changed);
            }
        }
    }

    /// The bytes of an item, with the number that a change of it must name.
    async fn get(&self, item: &str) -> Result<Option<(Vec<u8>, String)>> {
        let (line, value) = self.ask(&format!("gats {} {item}\r\n", expiry()), &[]).await?;
        let number = line.strip_prefix("VALUE ").and_then(|line| line.rsplit(' ').next());
        Ok(number.map(|number| (value, number.to_owned())))
    }

    /// Writes an item if it has not changed since it was read, or, without a number, if there is none. No bytes: it expires.
    async fn put(&self, item: &str, value: &[u8], number: Option<&str>) -> Result<bool> {
        let (size, expiry) = (value.len(), if value.is_empty() { -1 } else { expiry() });
        let request = match number {
            Some(number) => format!("cas {item} 0 {expiry} {size} {number}\r\n"),
            None => format!("add {item} 0 {expiry} {size}\r\n"),
        };
        let (line, _) = self.ask(&request, &[value, b"\r\n"]).await?;
        Ok(line == "STORED")
    }

    /// Sends a request, and reads the first line of the answer and the value that follows it, if one does.
    async fn ask(&self, request: &str, parts: &[&[u8]]) -> Result<(String, Vec<u8>)> {
        let failed =
            || Error::unavailable(Outcome::Unknown, format!("request to memcached at {}", self.address));
        let asked = timeout(TIMEOUT, self.exchange(request, parts)).await;
        asked.map_err(|late| failed().caused_by(late))?.map_err(|error| failed().caused_by(error))
    }

    async fn exchange(&self, request: &str, parts: &[&[u8]]) -> io::Result<(String, Vec<u8>)> {
        let mut connection = self.connection.lock().await;
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&*self.address).await?;
                stream.set_nodelay(true)?;
                BufStream::new(stream)
            }
        };
        stream.write_all(request.as_bytes()).await?;
        for part in parts {
            stream.write_all(part).await?;
        }
        stream.flush().await?;
        let (mut line, mut value) = (String::new(), Vec::new());
        stream.read_line(&mut line).await?;
        if let Some(size) = line.strip_prefix("VALUE ").and_then(|line| line.split(' ').nth(2)) {
            value.resize(size.parse().map_err(io::Error::other)?, 0);
            stream.read_exact(&mut value).await?;
            stream.read_exact(&mut [0; b"\r\nEND\r\n".len()]).await?;
        }
        if !line.ends_with("\r\n") || line.contains("ERROR") {
            return Err(io::Error::other(format!("memcached answers {line:?}")));
        }
        *connection = Some(stream);
        Ok((line.trim_end().to_owned(), value))
    }
}

/// A moment, in seconds since 1970: more than 30 days cannot be said in another way.
fn expiry() -> i64 {
    let expiry = SystemTime::now() + RETENTION;
    expiry.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
