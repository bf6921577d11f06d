//! Values on the command line: of one that is wrong it is said what is wanted, with an example.

use std::ops::RangeInclusive;
use std::str::FromStr;

use tailfold::StreamId;

/// Reads whole numbers of a range. `wanted` says what one is, and how it is written.
pub(crate) fn whole<N>(
    range: RangeInclusive<N>,
    wanted: &'static str,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static
where
    N: FromStr + PartialOrd + Clone + Send + Sync + 'static,
{
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("must be {wanted}")),
    }
}

/// Reads the name of a stream.
pub(crate) fn stream(text: &str) -> Result<StreamId, String> {
    text.parse().map_err(|error| format!("{error}, as in `airport/JFK`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_of_the_range_is_told_what_is_wanted() {
        let lanes = whole(1..=8_u16, "1 to 8, as in `--lanes 2`");
        assert_eq!(lanes("8"), Ok(8));
        for wrong in ["", "0", "9", "-1", "2.0", "99999", "two"] {
            assert_eq!(lanes(wrong), Err("must be 1 to 8, as in `--lanes 2`".to_owned()));
        }
    }
}
