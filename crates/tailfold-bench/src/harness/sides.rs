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

/// Takes one sample of each side that nobody sees, then one a round; `samples[side][round]`.
pub(crate) async fn interleave<T>(rounds: usize, sides: &mut [Side<'_, T>]) -> Result<Vec<Vec<T>>> {
    for side in sides.iter_mut() {
        side().await?;
    }
    let mut samples: Vec<Vec<T>> = sides.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for round in 0..rounds {
        let mut taking: Vec<_> = sides.iter_mut().zip(&mut samples).collect();
        if round % 2 == 1 {
            taking.reverse();
        }
        for (side, samples) in taking {
            samples.push(side().await?);
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

    #[tokio::test]
    async fn sides_take_turns_and_the_first_sample_of_each_is_left_out() {
        let order = std::sync::Mutex::new(Vec::new());
        let note =
            |name: char| order.lock().map(|mut order| order.push(name)).map_err(|error| error.to_string());
        let mut sides = [side(|| async { Ok(note('a')?) }), side(|| async { Ok(note('b')?) })];
        let samples = interleave(2, &mut sides).await.expect("sides do not fail");
        drop(sides);
        assert_eq!(samples.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(order.into_inner().expect("nobody panicked"), ['a', 'b', 'a', 'b', 'b', 'a']);
    }
}
