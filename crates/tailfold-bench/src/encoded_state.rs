//! Where an encoded state lies in the envelope of its snapshot: looked up once, so that a bare side has it to decode and nothing to
//! check.

use std::ops::Range;

use bytes::Bytes;
use tailfold::Envelope;

use crate::harness::Result;

/// Of an envelope that is neither compressed nor encrypted.
pub(crate) fn encoded_state(envelope: &Bytes) -> Result<Range<usize>> {
    let payload = Envelope::parse(envelope)
        .map_err(|reason| format!("the envelope: {reason}"))?
        .payload(u64::MAX, None)
        .map_err(|reason| format!("the payload: {reason}"))?;
    let offset = envelope.windows(payload.len()).position(|window| window == &*payload);
    let begin = offset.ok_or("a state of 1 KiB is not compressed")?;
    Ok(begin..begin + payload.len())
}
