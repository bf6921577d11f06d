//! What the headers of a snapshot's message say.

use async_nats::{HeaderMap, HeaderName};
use tailfold::{Day, Error, Head, Result, Slot, SnapshotInfo, Version};

use crate::wire::Message;

static HEAD: HeaderName = HeaderName::from_static("Tf-Head");
pub(super) static USED: HeaderName = HeaderName::from_static("Tf-Used");
static SIZE: HeaderName = HeaderName::from_static("Tf-Size");
/// Names the save: how a writer finds its own message again, and part of the subjects of its parts.
pub(super) static SAVE: HeaderName = HeaderName::from_static("Tf-Save");
/// Number of parts, and the day on which they were written.
static PARTS: HeaderName = HeaderName::from_static("Tf-Parts");

/// What the headers of a snapshot's message say.
#[derive(Clone, Debug)]
pub(super) struct Label {
    pub(super) head: Head,
    pub(super) used: Day,
    pub(super) size: u64,
    pub(super) save: String,
    pub(super) parts: Option<Parts>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) count: usize,
    pub(super) written: Day,
}

/// A snapshot's message, without its payload.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) info: SnapshotInfo,
    pub(super) subject: String,
    pub(super) seq: u64,
    pub(super) label: Label,
}

impl Found {
    pub(super) fn new(slot: &Slot, subject: String, seq: u64, label: Label) -> Self {
        let info = SnapshotInfo { slot: slot.clone(), head: label.head, bytes: label.size, used: label.used };
        Self { info, subject, seq, label }
    }
}

impl Label {
    pub(super) fn of(message: &Message) -> Result<Self> {
        let parse = || {
            let (version, chain) = message.header(&HEAD)?.split_once('@')?;
            let parts = match message.header(&PARTS) {
                None => None,
                Some(text) => {
                    let (count, written) = text.split_once(':')?;
                    Some(Parts { count: count.parse().ok()?, written: Day(written.parse().ok()?) })
                }
            };
            Some(Self {
                head: Head { version: Version(version.parse().ok()?), chain: chain.parse().ok()? },
                used: Day(message.header(&USED)?.parse().ok()?),
                size: message.header(&SIZE)?.parse().ok()?,
                save: message.header(&SAVE)?.to_owned(),
                parts,
            })
        };
        parse().ok_or_else(|| {
            Error::corrupt(format!(
                "message {} on `{}` is labelled as no snapshot",
                message.seq, message.subject
            ))
        })
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HEAD.clone(), self.head.to_string());
        headers.insert(USED.clone(), self.used.0.to_string());
        headers.insert(SIZE.clone(), self.size.to_string());
        headers.insert(SAVE.clone(), self.save.as_str());
        if let Some(Parts { count, written }) = self.parts {
            headers.insert(PARTS.clone(), format!("{count}:{}", written.0));
        }
        headers
    }
}
