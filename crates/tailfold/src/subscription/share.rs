//! Which share of the streams is whose.

/// Which of several shares a stream belongs to. Part of what is kept: it never changes.
pub(super) fn share_of(stream: &str, of: u32) -> u32 {
    let hash = blake3::hash(stream.as_bytes());
    let (number, _) = hash.as_bytes().split_at(8);
    let number = number.try_into().map_or(0, u64::from_le_bytes);
    (number % u64::from(of.max(1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_change_and_take_about_as_much() {
        assert_eq!([share_of("account/1", 4), share_of("account/2", 4), share_of("order/x", 4)], [2, 0, 3]);
        let mut taken = [0u32; 4];
        for number in 0..1000 {
            if let Some(share) = taken.get_mut(share_of(&format!("account/{number}"), 4) as usize) {
                *share += 1;
            }
        }
        assert!(taken.iter().all(|share| (200..300).contains(share)), "{taken:?}");
    }
}
