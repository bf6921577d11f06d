//! What the server answers, as values of the contract.

use redis::{RedisError, Value};
use tailfold::{Error, Outcome, Result, Saved, SnapshotInfo, StoredSnapshot, Swept};

use crate::error::Failure;
use crate::names::{self, Line};

/// The one answer to one command.
pub(crate) fn only(values: Vec<Value>) -> Result<Value> {
    values.into_iter().next().ok_or_else(missing).and_then(checked)
}

pub(crate) fn missing() -> Error {
    wrong("there")
}

/// An envelope and its line, or neither.
pub(crate) fn snapshot(answer: Value) -> Result<Option<StoredSnapshot>> {
    let mut parts = array(answer)?.into_iter();
    match (parts.next(), parts.next()) {
        (None | Some(Value::Nil), None | Some(Value::Nil)) => Ok(None),
        (Some(Value::BulkString(envelope)), Some(line)) => {
            let Line { head, used, .. } = self::line(&line)?;
            Ok(Some(StoredSnapshot { head, bytes: envelope.into(), used }))
        }
        _ => Err(Error::corrupt("a part of the snapshot is missing")),
    }
}

pub(crate) fn saved(answer: Value) -> Result<Saved> {
    let parts = array(answer)?;
    match parts.as_slice() {
        [Value::Int(1), Value::Int(pruned)] => Ok(Saved::Stored { pruned: count(*pruned)? }),
        [Value::Int(0), newer] => Ok(Saved::Superseded(line(newer)?.head)),
        [Value::Int(2), policy] => Err(Error::unsupported(format!(
            "the server drops any key when its memory is full (maxmemory-policy {}), and nothing makes a subscription's \
             checkpoint or a parked event anew: keep them in the store of events, or set a policy of `noeviction` or one that \
             begins with `volatile`",
            text(policy)?
        ))),
        _ => Err(wrong("that of a save")),
    }
}

pub(crate) fn flag(answer: Value) -> Result<bool> {
    match answer {
        Value::Int(number) => Ok(number == 1),
        _ => Err(wrong("a number")),
    }
}

pub(crate) fn swept(answer: Value) -> Result<Swept> {
    match array(answer)?.as_slice() {
        [Value::Int(snapshots), Value::Int(bytes)] => {
            Ok(Swept { snapshots: count(*snapshots)?, bytes: count(*bytes)? })
        }
        _ => Err(wrong("two numbers")),
    }
}

/// Slots and lines of a key, in no order.
pub(crate) fn list(answer: Value, key: &str) -> Result<Vec<SnapshotInfo>> {
    let parts = array(answer)?;
    let info = |pair: &[Value]| match pair {
        [field, line] => {
            // What is under a name that no slot has is not ours.
            let Some(slot) = text(field).ok().and_then(|field| names::slot(field, key)) else {
                return Ok(None);
            };
            let Line { head, bytes, used } = self::line(line)?;
            Ok(Some(SnapshotInfo { slot, head, bytes, used }))
        }
        _ => Err(wrong("a list of pairs")),
    };
    parts.chunks(2).filter_map(|pair| info(pair).transpose()).collect()
}

pub(crate) fn array(answer: Value) -> Result<Vec<Value>> {
    match checked(answer)? {
        Value::Array(parts) => Ok(parts),
        _ => Err(wrong("an array")),
    }
}

pub(crate) fn text(answer: &Value) -> Result<&str> {
    match answer {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).map_err(|_| wrong("text")),
        Value::SimpleString(text) => Ok(text),
        _ => Err(wrong("text")),
    }
}

fn line(answer: &Value) -> Result<Line> {
    let malformed = || Error::corrupt("what is noted of the snapshot is malformed");
    text(answer).map_err(|_| malformed())?.parse().map_err(|()| malformed())
}

fn checked(answer: Value) -> Result<Value> {
    match answer {
        Value::ServerError(error) => Err(Failure::Redis(RedisError::from(error)).public(Outcome::NotDone)),
        answer => Ok(answer),
    }
}

fn count(number: i64) -> Result<u64> {
    number.try_into().map_err(|_| wrong("a number"))
}

fn wrong(wanted: &'static str) -> Error {
    Failure::Reply(wanted).public(Outcome::Unknown)
}
