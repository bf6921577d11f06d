//! When a snapshot is taken: a pure function of a moment in a stream's life and the snapshot before it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::event::EventType;
use crate::stream::{Head, Version};

/// A rule that says when a snapshot is due, as plain data: it can be configured, printed and compared.
///
/// Every rule counts from the snapshot that the load began with, never from a counter in memory.
/// As text: `every:100`, `at_versions:100`, `after_bytes:65536`, `on_event:account.closed`, `never`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rule {
    /// After n events since the last snapshot (fixed interval).
    Every(u64),
    /// Where a multiple of a version is crossed (version based), within bounds on the events since the last snapshot (hybrid).
    /// A projection's versions are positions.
    AtVersions {
        /// The multiple.
        multiple: u64,
        /// Only at a multiple that many events after the last snapshot, or more; default 0.
        #[serde(default)]
        at_least: u64,
        /// After that many events since the last snapshot in any case; default: no such bound.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_most: Option<u64>,
    },
    /// Where an event of that type was recorded since the last snapshot.
    OnEvent(EventType),
    /// After that many bytes of payload since the last snapshot.
    AfterBytes(u64),
    /// Never automatically. Snapshots that exist are used.
    Never,
    /// Where one of the rules says so.
    Any(Vec<Rule>),
    /// Where all of the rules say so.
    All(Vec<Rule>),
}

/// When a snapshot is taken: rules that compose, and conditions on the state.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use tailfold::{Event, EventMeta, Fold, Moment, Policy, State};
/// # #[derive(Clone, Serialize, Deserialize, Event)]
/// # #[event(category = "account")]
/// # enum AccountEvent { Deposited { cents: i64 } }
/// # #[derive(Clone, Default, Serialize, Deserialize, State)]
/// # #[state(name = "account")]
/// # struct Account { cents: i64 }
/// # impl Fold for Account {
/// #     type Event = AccountEvent;
/// #     fn apply(&mut self, AccountEvent::Deposited { cents }: AccountEvent, _: &EventMeta<'_>) { self.cents += cents; }
/// # }
/// let policy = Policy::every(100).or(Policy::when(|moment: &Moment<'_, Account>| moment.state.cents == 0));
/// assert_eq!(policy.interval(), Some(100));
/// ```
pub struct Policy<F>(Node<F>);

enum Node<F> {
    Rule(Rule),
    When(Arc<Condition<F>>),
    Or(Box<(Policy<F>, Policy<F>)>),
    And(Box<(Policy<F>, Policy<F>)>),
}

type Condition<F> = dyn Fn(&Moment<'_, F>) -> bool + Send + Sync;

/// What a policy decides on: a state at a head, and what happened since the last snapshot.
#[derive(Debug)]
pub struct Moment<'a, F> {
    /// The state.
    pub state: &'a F,
    /// Where it stands; of a projection, the version is a position.
    pub head: Head,
    /// Version of the snapshot before, 0 if there is none.
    pub since: Version,
    /// Number of events folded since then.
    pub events: u64,
    /// Bytes of payload folded since then.
    pub bytes: u64,
    /// Types of the events folded since then.
    pub types: &'a [EventType],
}

impl Rule {
    /// Checks that the rule can be followed.
    ///
    /// # Errors
    /// `Invalid` if a number is 0 or bounds contradict each other.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Every(0) => Err(Error::invalid("policy `every`: the interval must be at least 1")),
            Self::AfterBytes(0) => Err(Error::invalid("policy `after_bytes`: must be at least 1")),
            Self::AtVersions { multiple: 0, .. } => {
                Err(Error::invalid("policy `at_versions`: the multiple must be at least 1"))
            }
            Self::AtVersions { at_least, at_most: Some(at_most), .. }
                if at_most < at_least || *at_most == 0 =>
            {
                Err(Error::invalid(format!(
                    "policy `at_versions`: at most {at_most} events contradict at least {at_least}"
                )))
            }
            Self::Any(rules) | Self::All(rules) if rules.is_empty() => {
                Err(Error::invalid("policy `any` or `all`: must hold a rule"))
            }
            Self::Any(rules) | Self::All(rules) => rules.iter().try_for_each(Self::check),
            _ => Ok(()),
        }
    }

    fn is_due<F>(&self, moment: &Moment<'_, F>) -> bool {
        let events = moment.events;
        match self {
            Self::Every(n) => events >= *n,
            Self::AtVersions { multiple, at_least, at_most } => {
                let crossed = moment.head.version.0 / multiple * multiple;
                let after = crossed.saturating_sub(moment.since.0);
                (after > 0 && after >= *at_least) || at_most.is_some_and(|most| events >= most)
            }
            Self::OnEvent(event_type) => moment.types.contains(event_type),
            Self::AfterBytes(n) => moment.bytes >= *n,
            Self::Never => false,
            Self::Any(rules) => rules.iter().any(|rule| rule.is_due(moment)),
            Self::All(rules) => rules.iter().all(|rule| rule.is_due(moment)),
        }
    }

    fn interval(&self) -> Option<u64> {
        match self {
            Self::Every(n) => Some(*n),
            Self::AtVersions { multiple, at_least, at_most } => {
                let regular = (*multiple).max(*at_least);
                Some(at_most.map_or(regular, |most| most.min(regular)))
            }
            Self::OnEvent(_) | Self::AfterBytes(_) | Self::Never => None,
            Self::Any(rules) => rules.iter().filter_map(Self::interval).min(),
            Self::All(rules) => rules.iter().filter_map(Self::interval).max(),
        }
    }
}

impl<F> Policy<F> {
    /// After `n` events since the last snapshot. 100 is a good start.
    pub fn every(n: u64) -> Self {
        Rule::Every(n).into()
    }

    /// Where a multiple of `multiple` is crossed; see [`Policy::at_least`] and [`Policy::at_most`] for bounds.
    pub fn at_versions(multiple: u64) -> Self {
        Rule::AtVersions { multiple, at_least: 0, at_most: None }.into()
    }

    /// Bounds [`Policy::at_versions`] from below: a multiple less than `events` after the last snapshot is passed over.
    /// Other policies: both must hold.
    #[must_use]
    pub fn at_least(self, events: u64) -> Self {
        match self.0 {
            Node::Rule(Rule::AtVersions { multiple, at_most, .. }) => {
                Rule::AtVersions { multiple, at_least: events, at_most }.into()
            }
            _ => self.and(Self::every(events)),
        }
    }

    /// Bounds [`Policy::at_versions`] from above: after `events` since the last snapshot in any case. Other policies:
    /// one of both suffices.
    #[must_use]
    pub fn at_most(self, events: u64) -> Self {
        match self.0 {
            Node::Rule(Rule::AtVersions { multiple, at_least, .. }) => {
                Rule::AtVersions { multiple, at_least, at_most: Some(events) }.into()
            }
            _ => self.or(Self::every(events)),
        }
    }

    /// Where an event of that type was recorded since the last snapshot.
    pub fn on_event(event_type: EventType) -> Self {
        Rule::OnEvent(event_type).into()
    }

    /// After `n` bytes of payload since the last snapshot.
    pub fn after_bytes(n: u64) -> Self {
        Rule::AfterBytes(n).into()
    }

    /// Never automatically; snapshots that exist are used.
    pub fn never() -> Self {
        Rule::Never.into()
    }

    /// Where a condition on the state holds and at least one event was folded since the last snapshot.
    pub fn when(condition: impl Fn(&Moment<'_, F>) -> bool + Send + Sync + 'static) -> Self {
        Self(Node::When(Arc::new(condition)))
    }

    /// Where this policy or the other says so.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(Node::Or(Box::new((self, other))))
    }

    /// Where this policy and the other say so.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(Node::And(Box::new((self, other))))
    }

    /// Whether a snapshot is due. Never where nothing was folded since the last one.
    pub fn is_due(&self, moment: &Moment<'_, F>) -> bool {
        moment.events > 0 && self.says(moment)
    }

    fn says(&self, moment: &Moment<'_, F>) -> bool {
        match &self.0 {
            Node::Rule(rule) => rule.is_due(moment),
            Node::When(condition) => condition(moment),
            Node::Or(both) => both.0.says(moment) || both.1.says(moment),
            Node::And(both) => both.0.says(moment) && both.1.says(moment),
        }
    }

    /// How many events usually lie between two snapshots; `None` where no rule counts events.
    pub fn interval(&self) -> Option<u64> {
        match &self.0 {
            Node::Rule(rule) => rule.interval(),
            Node::When(_) => None,
            Node::Or(both) => [both.0.interval(), both.1.interval()].into_iter().flatten().min(),
            Node::And(both) => [both.0.interval(), both.1.interval()].into_iter().flatten().max(),
        }
    }

    /// Whether no snapshot is ever taken automatically.
    pub(crate) fn is_never(&self) -> bool {
        matches!(self.0, Node::Rule(Rule::Never))
    }

    pub(crate) fn check(&self) -> Result<()> {
        match &self.0 {
            Node::Rule(rule) => rule.check(),
            Node::When(_) => Ok(()),
            Node::Or(both) | Node::And(both) => both.0.check().and_then(|()| both.1.check()),
        }
    }
}

impl<F> From<Rule> for Policy<F> {
    fn from(rule: Rule) -> Self {
        Self(Node::Rule(rule))
    }
}

impl<F> Clone for Policy<F> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Node::Rule(rule) => Node::Rule(rule.clone()),
            Node::When(condition) => Node::When(condition.clone()),
            Node::Or(both) => Node::Or(both.clone()),
            Node::And(both) => Node::And(both.clone()),
        })
    }
}

impl<F> fmt::Display for Policy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Node::Rule(rule) => rule.fmt(f),
            Node::When(_) => f.write_str("when(..)"),
            Node::Or(both) => write!(f, "({} or {})", both.0, both.1),
            Node::And(both) => write!(f, "({} and {})", both.0, both.1),
        }
    }
}

impl<F> fmt::Debug for Policy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Policy({self})")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, rules: &[Self], word: &str| {
            f.write_str("(")?;
            for (index, rule) in rules.iter().enumerate() {
                if index > 0 {
                    write!(f, " {word} ")?;
                }
                rule.fmt(f)?;
            }
            f.write_str(")")
        };
        match self {
            Self::Every(n) => write!(f, "every:{n}"),
            Self::AtVersions { multiple, at_least, at_most } => {
                write!(f, "at_versions:{multiple}")?;
                if *at_least > 0 {
                    write!(f, ",at_least:{at_least}")?;
                }
                at_most.map_or(Ok(()), |most| write!(f, ",at_most:{most}"))
            }
            Self::OnEvent(event_type) => write!(f, "on_event:{event_type}"),
            Self::AfterBytes(n) => write!(f, "after_bytes:{n}"),
            Self::Never => f.write_str("never"),
            Self::Any(rules) => list(f, rules, "or"),
            Self::All(rules) => list(f, rules, "and"),
        }
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid_text(
                "policy",
                text,
                "must be `every:N`, `at_versions:N[,at_least:N][,at_most:N]`, `after_bytes:N`, \
                 `on_event:TYPE` or `never`",
            )
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let rule = match text.split_once(':') {
            None if text == "never" => Self::Never,
            Some(("every", n)) => Self::Every(number(n)?),
            Some(("after_bytes", n)) => Self::AfterBytes(number(n)?),
            Some(("on_event", event_type)) => Self::OnEvent(EventType::new(event_type)?),
            Some(("at_versions", rest)) => {
                let mut parts = rest.split(',');
                let multiple = number(parts.next().unwrap_or_default())?;
                let (mut at_least, mut at_most) = (0, None);
                for part in parts {
                    match part.split_once(':') {
                        Some(("at_least", n)) => at_least = number(n)?,
                        Some(("at_most", n)) => at_most = Some(number(n)?),
                        _ => return Err(wrong()),
                    }
                }
                Self::AtVersions { multiple, at_least, at_most }
            }
            _ => return Err(wrong()),
        };
        rule.check()?;
        Ok(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;

    fn due(policy: &Policy<i64>, since: u64, version: u64) -> bool {
        let head = Head { version: Version(version), chain: Chain::from_bytes([0; 16]) };
        let types = [EventType::new("account.closed").unwrap()];
        policy.is_due(&Moment {
            state: &5,
            head,
            since: Version(since),
            events: version - since,
            bytes: (version - since) * 10,
            types: &types,
        })
    }

    #[test]
    fn every_counts_from_the_last_snapshot_and_not_by_multiples() {
        let policy = Policy::every(100);
        assert!(!due(&policy, 50, 149));
        assert!(due(&policy, 50, 150));
        assert!(due(&policy, 0, 1000));
        assert!(!due(&policy, 1000, 1000));
    }

    #[test]
    fn at_versions_sees_a_multiple_that_a_commit_jumps_over() {
        let policy = Policy::at_versions(100);
        assert!(!due(&policy, 0, 99));
        assert!(due(&policy, 99, 106));
        assert!(!due(&policy, 106, 199));
        assert!(due(&policy, 106, 200));
    }

    #[test]
    fn hybrid_is_bounded_on_both_sides() {
        let policy = Policy::at_versions(100).at_least(20).at_most(150);
        assert!(!due(&policy, 90, 101), "crossed, but only 11 events");
        assert!(due(&policy, 70, 101));
        assert!(!due(&policy, 101, 199));
        assert!(due(&Policy::at_versions(1000).at_most(150), 101, 251), "not crossed, but 150 events");
        assert_eq!(policy.interval(), Some(100));
    }

    #[test]
    fn rules_compose_and_never_fire_where_nothing_was_folded() {
        let state = Policy::when(|moment: &Moment<'_, i64>| *moment.state == 5);
        assert!(due(&state, 0, 1));
        assert!(!due(&state, 1, 1));
        assert!(due(&Policy::every(100).or(state.clone()), 0, 1));
        assert!(!due(&Policy::every(100).and(state), 0, 1));
        assert!(due(&Policy::on_event(EventType::new("account.closed").unwrap()), 0, 1));
        assert!(!due(&Policy::on_event(EventType::new("account.opened").unwrap()), 0, 1));
        assert!(due(&Policy::after_bytes(100), 0, 10));
        assert!(!due(&Policy::after_bytes(100), 0, 9));
        assert!(!due(&Policy::never(), 0, 1_000_000));
    }

    #[test]
    fn text_and_rule_round_trip() {
        for text in
            ["every:100", "at_versions:100,at_least:10,at_most:300", "after_bytes:9", "on_event:a.b", "never"]
        {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        for text in [
            "every:0",
            "every",
            "at_versions:0",
            "at_versions:5,at_least:9,at_most:3",
            "sometimes",
            "every:-1",
        ] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }
}
