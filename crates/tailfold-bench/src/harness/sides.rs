//! Interleaved samples: in each round every side is measured once, in an order that alternates.

use futures_util::future::BoxFuture;

use super::Result;

/// One of the sides that are compared; each call takes one sample.
pub(crate) type Side<'a, T> = Box<dyn FnMut() -> BoxFuture<'a, Result<T>> + Send + 'a>;

/// Boxes a function that takes a sample.
pub(crate) fn side<'a, T, W>(mut sample: impl FnMut() -> W + Send + 'a) -> Side<'a, T>
where
    W: Future<Output = Result<T>> + Send + 'a,
{
    Box::new(move || Box::pin(sample()))
}

/// What can be measured in slices.
pub(crate) trait Slices: Sized {
    /// Adds what was measured in the next slice.
    fn add(&mut self, next: Self);
}

/// One sample of each side a round; `samples[side][round]`. A sample consists of so many slices, taken in turns with those
/// of the other sides, so that what a machine does in one second and not in the next meets all of them. A slice of each
/// side that nobody sees goes first.
pub(crate) async fn interleave<T: Slices>(
    rounds: usize,
    slices: usize,
    sides: &mut [Side<'_, T>],
) -> Result<Vec<Vec<T>>> {
    for side in sides.iter_mut() {
        side().await?;
    }
    let mut samples: Vec<Vec<T>> = sides.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for slice in 0..rounds * slices {
        let mut taking: Vec<_> = sides.iter_mut().zip(&mut samples).collect();
        if slice % 2 == 1 {
            taking.reverse();
        }
        for (side, samples) in taking {
            let measured = side().await?;
            match samples.last_mut().filter(|_| slice % slices != 0) {
                Some(sample) => sample.add(measured),
                None => samples.push(measured),
            }
        }
    }
    Ok(samples)
}

/// The middle one, or the mean of the middle two; not a number if there is none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match (values.len() % 2, values.get(half)) {
        (1, Some(middle)) => *middle,
        (_, Some(upper)) => values.get(half - 1).map_or(*upper, |lower| f64::midpoint(*lower, *upper)),
        (_, None) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }

    impl Slices for String {
        fn add(&mut self, next: Self) {
            self.push_str(&next);
        }
    }

    #[tokio::test]
    async fn sides_take_turns_and_the_first_slice_of_each_is_left_out() {
        let order = std::sync::Mutex::new(String::new());
        let note = |name: char| match order.lock() {
            Ok(mut order) => {
                order.push(name);
                Ok(order.len().to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        let mut sides = [side(|| async { Ok(note('a')?) }), side(|| async { Ok(note('b')?) })];
        let samples = interleave(2, 2, &mut sides).await.expect("sides do not fail");
        drop(sides);
        assert_eq!(order.into_inner().expect("nobody panicked"), "ababbaabba");
        assert_eq!(samples, [["36", "710"], ["45", "89"]]);
    }
}
