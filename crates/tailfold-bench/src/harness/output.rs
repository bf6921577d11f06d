//! Figures as a table for people, or as lines of JSON.

use serde_json::{Number, Value, json};

use super::{Bar, Figure, Settings};

#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    samples: bool,
    began: bool,
}

impl Output {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { json: settings.json, samples: settings.samples, began: false }
    }

    /// Prints a figure at once: the next workload takes its time.
    pub(crate) fn print(&mut self, figure: &Figure) {
        if self.json {
            println!("{}", line(figure, self.samples));
            return;
        }
        if !self.began {
            self.began = true;
            println!(
                "{:<24} {:>12} {:>12}  {:<9} {:>6}  {:<9} met",
                "name", "figure", "limit", "unit", "ratio", "bar"
            );
        }
        println!("{}", row(figure));
        if self.samples {
            for (value, limit) in &figure.samples {
                println!(
                    "{:<24} {:>12} {:>12}  {:<9} {:>6.3}",
                    "",
                    short(*value),
                    short(*limit),
                    "",
                    value / limit
                );
            }
        }
    }
}

fn row(figure: &Figure) -> String {
    let bar = match figure.bar {
        Bar::AtLeast(least) => format!(">= {least}"),
        Bar::AtMost(most) => format!("<= {most}"),
    };
    let (ratio, met) = match (figure.ratio.is_nan(), figure.is_met()) {
        (true, _) => ("-".to_owned(), "-"),
        (false, true) => (format!("{:.3}", figure.ratio), "yes"),
        (false, false) => (format!("{:.3}", figure.ratio), "NO"),
    };
    let Figure { name, unit, value, limit, .. } = figure;
    format!("{name:<24} {:>12} {:>12}  {unit:<9} {ratio:>6}  {bar:<9} {met}", short(*value), short(*limit))
}

fn line(figure: &Figure, samples: bool) -> String {
    // In this order, which a map would not keep.
    let [name, unit] = [&*figure.name, figure.unit].map(|text| json!(text));
    let [value, limit, ratio] = [figure.value, figure.limit, figure.ratio].map(number);
    let samples = match samples {
        true => {
            let pairs: Vec<_> =
                figure.samples.iter().map(|pair| json!([number(pair.0), number(pair.1)])).collect();
            format!(r#","samples":{}"#, Value::from(pairs))
        }
        false => String::new(),
    };
    format!(r#"{{"name":{name},"value":{value},"unit":{unit},"limit":{limit},"ratio":{ratio}{samples}}}"#)
}

/// Four digits behind the point; `null` for what was not measured.
fn number(value: f64) -> Value {
    Number::from_f64((value * 1e4).round() / 1e4).map_or(Value::Null, Value::Number)
}

fn short(value: f64) -> String {
    match value {
        value if value.is_nan() => "-".to_owned(),
        value if value >= 1000.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_json_has_exactly_the_promised_fields() {
        let figure = Figure::of_pairs("append-1", "events/s", Bar::AtLeast(0.85), [90.0], [100.0]);
        let expected = r#"{"name":"append-1","value":90.0,"unit":"events/s","limit":100.0,"ratio":0.9}"#;
        assert_eq!(line(&figure, false), expected);
        assert!(line(&figure, true).ends_with(r#""ratio":0.9,"samples":[[90.0,100.0]]}"#));
    }

    #[test]
    fn what_was_not_run_is_null_and_not_zero() {
        let figure = Figure::of_limit("append-1", "events/s", Bar::AtLeast(0.85), [100.0]);
        let expected = r#"{"name":"append-1","value":null,"unit":"events/s","limit":100.0,"ratio":null}"#;
        assert_eq!(line(&figure, false), expected);
    }

    #[test]
    fn a_row_says_whether_the_bar_is_met() {
        let figure = Figure::of_pairs("append-1", "events/s", Bar::AtLeast(0.85), [80.0], [100.0]);
        assert!(row(&figure).ends_with(">= 0.85   NO"), "{}", row(&figure));
    }
}
